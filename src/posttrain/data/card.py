"""The card of a data set: made from its rows and its record, never written by hand.

Sizes, languages, kinds, generators, cost, what was dropped and why, leaks looked for, diversity with intervals, examples, checksum. What
was not measured is said to be so. Leaves out licences where rows name none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posttrain.core.group import Group
from posttrain.data.dimensions import lines_of
from posttrain.data.diversity import SIZE, diversity, plain
from posttrain.detectors import language_of
from posttrain.detectors.repetition import units


def facts_of(groups: Sequence[Group], record: Mapping[str, Any]) -> dict[str, Any]:
    """The card's figures as JSON."""
    said = [g.responses[0].text if g.responses else g.prompt_text for g in groups]
    made = [g.facts["provenance"] for g in groups if isinstance(g.facts.get("provenance"), Mapping)]
    words = [len(units(t)) for t in said]
    diverse = {n: plain(v) for n, v in diversity(said).items()} if len(said) >= 2 * SIZE else None
    return {
        "rows": len(groups),
        "answers": sum(len(g.responses) for g in groups),
        "kinds": dict(Counter(_kind(g) for g in groups).most_common()),
        "languages": dict(
            Counter(str(g.facts.get("lang") or language_of(t)) for g, t in zip(groups, said, strict=True)).most_common()
        ),
        "sources": dict(Counter(str(g.facts.get("source", "not named")) for g in groups).most_common(20)),
        "words": {str(q): float(np.quantile(words, q)) for q in (0.05, 0.5, 0.95)},
        "generators": dict(Counter(f"{p.get('generator')} by {p.get('model')}" for p in made).most_common()),
        "checked": dict(Counter(str(p.get("checked", "not said")) for p in made).most_common()),
        "cost": float(sum(p.get("cost", 0.0) for p in made)),
        "made": len(made),
        "diversity": diverse,
        "record": dict(record),
    }


def _kind(group: Group) -> str:
    if group.facts.get("kind"):
        return str(group.facts["kind"])
    return (
        "preferences" if group.pairs() else "prompts" if not group.responses else "text" if not group.prompt else "sft"
    )


def card(groups: Sequence[Group], record: Mapping[str, Any], name: str) -> str:
    """The card as Markdown."""
    told = facts_of(groups, record)
    lines = [
        f"# {name}",
        "",
        f"{told['rows']} rows, {told['answers']} answers. Checksum `{record.get('hash', 'none')}`.",
        "",
    ]
    for title in ("kinds", "languages", "sources", "generators", "checked"):
        lines += [f"## {title.capitalize()}", "", *(_table(told[title]) if told[title] else ["none named"]), ""]
    if told["made"] and not any(k.startswith("human") for k in told["checked"]):
        lines += ["Rows made by models are not human-validated.", ""]
    lines += ["## Length in words", "", *_table(told["words"]), "", f"Cost of the rows made: {told['cost']:.4f}", ""]
    lines += ["## Dropped", "", *(_table(record.get("dropped", {})) if record.get("dropped") else ["nothing"]), ""]
    if record.get("dimensions"):
        lines += ["## Clarity, accuracy, style, diversity", "", *lines_of(record["dimensions"]), ""]
    leaks = record.get("decontamination")
    lines += ["## Test items looked for", ""]
    lines += (
        [f"- {_cell(n)}: {r['rows']} rows held one of its {r['items']} items" for n, r in leaks.items()]
        if leaks
        else ["none: not measured"]
    )
    lines += ["", "## Diversity", ""]
    if told["diversity"]:
        lines += [f"- {n}: {_range(a, low, high)} at {SIZE} rows" for n, (a, low, high) in told["diversity"].items()]
    else:
        lines += [f"not measured: fewer than {2 * SIZE} rows"]
    lines += ["", "## Examples", ""]
    for g in groups[:3]:
        said = g.responses[0].text if g.responses else ""
        lines += [f"> {_cell(g.prompt_text)[:300]}", ">", f"> {_cell(said)[:300]}", ""]
    return "\n".join(lines) + "\n"


def _table(counts: Mapping[str, Any]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {_cell(str(k))} | {v:g} |" for k, v in counts.items())]


def _range(estimate: float, low: float | None, high: float | None) -> str:
    return f"{estimate:.3f}" + (
        " (the same in every part)" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    )


def _cell(text: str) -> str:
    """Text of rows as text: no markup, no line breaks."""
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return "".join("\\" + c if c in "`*_[]#!" else c for c in flat)
