"""One schema, written out: for the command line (schema.json), for editors (docs/recipe.schema.json), and as tables for the docs.

``python -m posttrain.jobs.schema`` writes the files; with ``--check`` it writes nothing and exits with 1 where one is stale.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter

from posttrain.core.files import write_text
from posttrain.core.method import Method
from posttrain.core.recipe import SCHEMA_VERSION, Kind, Spec
from posttrain.jobs import catalogue
from posttrain.jobs.chat import Chat
from posttrain.jobs.check import Check
from posttrain.jobs.estimate import Estimate
from posttrain.jobs.evaluate import Evaluate
from posttrain.jobs.fields import Field, fields_of, short
from posttrain.jobs.job import Data, Job
from posttrain.jobs.methods import Methods
from posttrain.jobs.new_model import New
from posttrain.jobs.pipeline import RunRecipe
from posttrain.jobs.report import Report
from posttrain.jobs.sample import Sample
from posttrain.jobs.schema_docs import first_line, methods_page, recipe_page
from posttrain.jobs.show import Show
from posttrain.jobs.train import Train

VERBS: dict[str, tuple[str, type[Spec]]] = {
    "new": ("learn", New),
    "sample": ("use", Sample),
    "chat": ("use", Chat),
    "eval": ("use", Evaluate),
    "run": ("recipe", RunRecipe),
    "check": ("recipe", Check),
    "estimate": ("recipe", Estimate),
    "show": ("recipe", Show),
    "report": ("recipe", Report),
    "methods": ("recipe", Methods),
}
SECTIONS: dict[str, tuple[str, ...]] = {
    "what to train": ("model", "teacher", "data", "mixture", "out"),
    "how it learns": ("method",),
    "where answers come from (--n is --rollout.n, and so on)": ("reward", "rollout"),
    "how long": ("steps", "epochs", "batch", "validation", "evaluate_every", "patience", "limits", "probe", "again"),
    "steps of the optimiser (--lr is --optimizer.lr, and so on)": ("optimizer",),
    "which weights": ("lora", "train"),
    "rows to tokens": ("template", "mask", "max_tokens", "overlong"),
    "where and how it runs": (
        "seed",
        "device",
        "dtype",
        "save_dtype",
        "threads",
        "token_budget",
        "recompute",
        "layout",
        "attention",
        "compile",
        "trust_remote_code",
    ),
    "what is checked, kept and shown": (
        "preflight",
        "accept",
        "checkpoint_every",
        "keep",
        "cache",
        "samples",
        "sample_tokens",
        "log_to",
        "project",
    ),
}
FIRST = ("sft", "reward", "dpo")
"""Verbs that the overview lists first."""
SHORT = ("optimizer", "rollout")
"""Nodes whose fields are also options without the prefix."""
ROOT = Path(__file__).resolve().parents[3]


# The command line


def command_schema() -> dict[str, Any]:
    """What `cli.py` reads: every verb with its options in sections."""
    verbs: dict[str, Any] = {}
    order = sorted(Method.members, key=lambda n: (FIRST.index(n) if n in FIRST else len(FIRST), n))
    for name, cls in ((n, Method.members[n]) for n in order):
        assert issubclass(cls, Method)
        verbs[name] = train_verb(name, cls)
    verbs["train"] = train_verb(None, None)
    for name, (group, node) in plain_verbs().items():
        verbs[name] = plain_verb(group, node)
    return {
        "version": SCHEMA_VERSION,
        "posttrain": project_version(),
        "summary": "post-training of language models",
        "verbs": verbs,
    }


def plain_verbs() -> dict[str, tuple[str, type[Spec]]]:
    """Verbs other than training: those of `VERBS`, and every further job under its own name."""
    named = {cls for _, cls in VERBS.values()} | {Train}
    others = {
        name: ("room" if name.startswith("room-") else "use", cls)
        for name, cls in Job.members.items()
        if cls not in named
    }
    return {**VERBS, **others}


def project_version() -> str:
    """The version in pyproject.toml."""
    found = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found.group(1)


def train_verb(name: str | None, method: type[Method] | None) -> dict[str, Any]:
    """``posttrain dpo``: the Train job with its method filled in; ``posttrain train`` takes any method."""
    sections: list[tuple[str, list[dict[str, Any]]]] = []
    fields = {f.name: f for f in fields_of(Train)}
    own = {f.name for f in fields_of(method)} if method is not None else set()
    for title, names in SECTIONS.items():
        options: list[dict[str, Any]] = []
        for field in (fields[n] for n in names):
            if field.name == "method" and method is not None:
                options += [o for f in fields_of(method) for o in method_options(f, f.name not in fields)]
            else:
                options += list(options_of(field, own))
        if name is not None and title == "how it learns":
            title = f"how it learns ({name})"
        if options:
            sections.append((title, options))
    if method is not None:
        rate = f"{short(method.learning_rate[0])}, LoRA {short(method.learning_rate[1])}"
        for option_ in (o for _, options in sections for o in options if o["path"] == ["optimizer", "lr"]):
            option_ |= {"default": rate, "help": "Peak learning rate."}
    about = Train.__doc__ or ""
    if method is not None:
        about = f"{first_line(method)} Learns from: {method.wants}."
    title = first_line(method).rstrip(".") if method is not None else "Train with any method, named by --method"
    return {
        "group": "learn",
        "class": "posttrain.jobs.catalogue:Train",
        "title": lowered(title),
        "about": about,
        "preset": {"method": {"name": name}} if name is not None else {},
        "positional": [],
        "sections": [{"title": title, "options": options} for title, options in sections],
    }


def method_options(field: Field, plain: bool) -> Iterator[dict[str, Any]]:
    """The option of a method's field, and one for each field of a node inside it: --moving, --moving.rate."""
    yield option(field, ("method", field.name), plain)
    if field.sort == "spec" and field.node is not None:
        for inner in fields_of(field.node):
            made = option(inner, ("method", field.name, inner.name), False)
            short_flag = f"--{field.name}.{inner.name}".replace("_", "-")
            yield made | {"flags": [short_flag, *made["flags"]] if plain else made["flags"]}


def plain_verb(group: str, node: type[Spec]) -> dict[str, Any]:
    """The verb of any other job: arguments first, then its options."""
    positional: tuple[str, ...] = getattr(node, "positional", ())
    fields = fields_of(node)
    first = {f.name: option(f, (f.name,), False) | {"flags": [], "metavar": f.name.upper()} for f in fields}
    module = f"{node.__module__}:{node.__name__}"
    placed = [first[n] | {"usage": usage(first[n])} for n in positional]
    rest = [o for f in fields if f.name not in positional for o in options_of(f, set())]
    return {
        "group": group,
        "class": module,
        "title": lowered(first_line(node).rstrip(".")),
        "about": first_line(node),
        "preset": {},
        "positional": placed,
        "sections": [{"title": "options", "options": rest}] if rest else [],
    }


def usage(made: Mapping[str, Any]) -> str:
    """An argument in the usage line."""
    if made["sort"] in ("list",):
        return f"[{made['metavar']} ...]"
    return str(made["metavar"]) if made["required"] else f"[{made['metavar']}]"


def options_of(field: Field, taken: set[str]) -> Iterator[dict[str, Any]]:
    """The options of a field; a node gives one for each of its fields, under a dotted name."""
    if field.sort != "spec" or field.node is None:
        yield option(field, (field.name,), True)
        return
    if field.optional:
        yield option(field, (field.name,), True)
    for inner in fields_of(field.node):
        plain = field.name in SHORT and inner.name not in taken
        made = option(inner, (field.name, inner.name), plain)
        yield made


def option(field: Field, path: tuple[str, ...], plain: bool) -> dict[str, Any]:
    """One option. plain: its last name alone is enough (the dotted one is accepted all the same)."""
    dotted = "--" + ".".join(path).replace("_", "-")
    flags = ["--" + path[-1].replace("_", "-")] if plain else []
    return {
        "path": list(path),
        "dest": ".".join(path),
        "flags": list(dict.fromkeys([*flags, dotted])),
        "sort": field.sort,
        "metavar": field.metavar,
        "choices": list(field.choices),
        "required": field.required,
        "optional": field.optional,
        "default": ("on" if field.default else "") if field.sort == "flag" else field.default_text,
        "help": unquoted(field.help),
    }


def lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def unquoted(text: str) -> str:
    """Help for a terminal: code marks read as plain text."""
    return text.replace("`", "")


# Editors


def editor_schema() -> dict[str, Any]:
    """JSON Schema of a recipe file: one job, or a pipeline."""
    shared: dict[str, Any] = {}
    version = {"type": "integer", "minimum": 1, "maximum": SCHEMA_VERSION, "description": "Version of this format."}
    single = []
    for name, cls in sorted(Job.members.items()):
        body = node_schema(cls, shared, ("job", name))
        needed = [n for n in body["required"] if n not in ("out", "job")]
        body["required"] = needed if name == "train" else ["job", *needed]
        shared[f"job_{name}"] = body
        single.append({**body, "properties": {"version": version, **body["properties"]}})
    any_job = {"anyOf": [{"$ref": f"#/$defs/job_{n}"} for n in sorted(Job.members)]}
    pipeline = {
        "type": "object",
        "additionalProperties": False,
        "required": ["jobs"],
        "properties": {
            "version": version,
            "out": {"type": "string", "description": "Each job writes to <out>/<its name> unless it says otherwise."},
            "seed": {"type": "integer", "description": "For every job that has a seed and names none."},
            "jobs": {"type": "object", "additionalProperties": any_job, "description": "$name is that job's output."},
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "posttrain recipe",
        "anyOf": [pipeline, *single],
        "$defs": dict(sorted(shared.items())),
    }


def node_schema(cls: type[Spec], shared: dict[str, Any], name: tuple[str, str] | None = None) -> dict[str, Any]:
    """The schema of a node; nodes inside it go to `shared`. name: (field, value) that says which member this is."""
    properties: dict[str, Any] = {name[0]: {"const": name[1]}} if name is not None else {}
    for field in fields_of(cls):
        body = field_schema(field, cls, shared)
        properties[field.name] = {**body, "description": field.help}
        if not field.required and field.default is not None:
            properties[field.name]["default"] = field.default
    needed = [name[0]] if name is not None else []
    needed += [f.name for f in fields_of(cls) if f.required]
    told = {"title": cls.__name__, "description": first_line(cls), "type": "object", "additionalProperties": False}
    return {**told, "properties": properties, "required": needed}


def field_schema(field: Field, cls: type[Spec], shared: dict[str, Any]) -> dict[str, Any]:
    """The schema of one field's value. Plain values are described by pydantic, with their limits."""
    if field.sort == "data":
        one = {"anyOf": [{"type": "string"}, reference(Data, shared)]}
        return {"anyOf": [*one["anyOf"], {"type": "array", "items": one}]}
    if field.node is None:
        info = cls.model_fields[field.name]
        whole: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
        return hoisted(TypeAdapter(whole).json_schema(), shared)
    options: list[dict[str, Any]]
    if issubclass(field.node, Kind):
        members = sorted(field.node.members.items())
        options = [{"enum": [n for n, _ in members]}, *(reference(m, shared, ("name", n)) for n, m in members)]
    else:
        options = [reference(field.node, shared)]
    if field.sort == "list":
        return {"type": "array", "items": {"anyOf": options}}
    return {"anyOf": [*options, {"type": "null"}] if field.optional else options}


def hoisted(node: Any, shared: dict[str, Any]) -> Any:
    """A schema with the definitions inside it moved to `shared`."""
    if isinstance(node, list):
        return [hoisted(inner, shared) for inner in node]
    if not isinstance(node, dict):
        return node
    for name, inner in node.get("$defs", {}).items():
        shared[name] = hoisted(inner, shared)
    return {key: hoisted(inner, shared) for key, inner in node.items() if key != "$defs"}


def reference(node: type[Spec], shared: dict[str, Any], name: tuple[str, str] | None = None) -> dict[str, str]:
    """A reference to a node's schema, which is put into `shared` the first time."""
    key = node.__name__
    if key not in shared:
        shared[key] = {}  # a node that holds itself meets this
        shared[key] = node_schema(node, shared, name)
    return {"$ref": f"#/$defs/{key}"}


# Files


def generated() -> dict[Path, str]:
    """Every generated file with its text."""
    assert catalogue.methods is not None
    compact = json.dumps(command_schema(), ensure_ascii=False, indent=1)
    editors = json.dumps(editor_schema(), ensure_ascii=False, indent=1)
    return {
        ROOT / "src/posttrain/schema.json": compact + "\n",
        ROOT / "docs/recipe.schema.json": editors + "\n",
        ROOT / "docs/methods.md": methods_page(),
        ROOT / "docs/recipe.md": recipe_page({name: cls for name, (_, cls) in VERBS.items()}),
    }


def main(argv: list[str]) -> int:
    """Write the files, or with ``--check`` say which are stale."""
    stale = [p for p, text in generated().items() if not p.is_file() or p.read_text(encoding="utf-8") != text]
    for path in stale:
        if "--check" not in argv:
            write_text(path, generated()[path])
        print(f"{'stale' if '--check' in argv else 'written'}: {path.relative_to(ROOT)}")
    if stale and "--check" in argv:
        print("run: python -m posttrain.jobs.schema")
    return int(bool(stale) and "--check" in argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
