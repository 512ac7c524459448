"""The tables of the docs: docs/methods.md and docs/recipe.md, from the same classes as the command line (see `jobs.schema`)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence

from posttrain.core.recipe import Kind, Spec
from posttrain.jobs import pipeline
from posttrain.jobs.fields import Field, fields_of, short
from posttrain.jobs.job import Job
from posttrain.jobs.methods import Row, rows

NOTE = "<!-- Written by `python -m posttrain.jobs.schema`; change the docstrings in the code instead. -->"


def first_line(node: type) -> str:
    """The first sentence or paragraph of a class's docstring."""
    return " ".join((inspect.getdoc(node) or "").split("\n\n")[0].split())


def methods_page() -> str:
    """docs/methods.md: the registry."""
    found = rows()
    head = "| method | learns from | averages | cut at | learning rate | with LoRA | papers |"
    lines = ["# Methods", "", NOTE, "", head, "|---|---|---|---|---|---|---|"]
    for row in found:
        papers = ", ".join(f"[{p}](https://arxiv.org/abs/{p})" for p in row.papers)
        rates = " | ".join(short(r) for r in row.rates)
        lines.append(
            f"| [{row.name}](#{row.name}) | {cell(row.wants)} | {row.sums} | {row.atom} | {rates} | {papers} |"
        )
    lines += [
        "",
        "*Averages*: each sum of the loss and the unit whose global count divides it. *Cut at*: what one forward may not split.",
    ]
    for row in found:
        lines += ["", f"## {row.name}", "", row.does, "", *field_table(row.fields)]
        lines += list(members_of(row))
    return "\n".join(lines) + "\n"


def members_of(row: Row) -> Iterator[str]:
    """Tables of the families that a method's fields choose from."""
    for field in row.fields:
        if field.node is None or not issubclass(field.node, Kind):
            continue
        yield from (
            "",
            f"`{field.name}` is {'any of' if field.sort == 'list' else 'one of'}:",
            "",
            "| name | does | fields |",
            "|---|---|---|",
        )
        for name, member in sorted(field.node.members.items()):
            own = "; ".join(f"`{f.name}` ({f.default_text}): {f.help}" for f in fields_of(member))
            yield f"| {name} | {cell(first_line(member))} | {cell(own)} |"


def field_table(fields: Sequence[Field]) -> list[str]:
    """A Markdown table of fields."""
    if not fields:
        return ["No fields of its own."]
    lines = ["| field | type | default | what it does |", "|---|---|---|---|"]
    for f in fields:
        default = "required" if f.required else f"`{f.default_text}`" if f.default_text else ""
        lines.append(f"| `{f.name}` | {cell(f.type_text)} | {cell(default)} | {cell(f.help)} |")
    return lines


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def recipe_page(verbs: Mapping[str, type[Spec]]) -> str:
    """docs/recipe.md: every job's fields. verbs: nodes that are verbs of the command line, by name."""
    told = inspect.cleandoc(pipeline.__doc__ or "")
    lines = ["# Recipes", "", NOTE, "", told]
    nodes: dict[str, type[Spec]] = {}
    named = dict(sorted(Job.members.items()))
    others = {f"posttrain {n}": c for n, c in verbs.items() if c not in named.values()}
    for title, cls in [*((f"job: {n}", c) for n, c in named.items()), *others.items()]:
        lines += ["", f"## {title}", "", first_line(cls), "", *field_table(fields_of(cls))]
        nodes |= {
            f.node.__name__: f.node for f in fields_of(cls) if f.node is not None and not issubclass(f.node, Kind)
        }
    for name, node in nodes.items():
        lines += ["", f"## {name}", "", first_line(node), "", *field_table(fields_of(node))]
    return "\n".join(lines) + "\n"
