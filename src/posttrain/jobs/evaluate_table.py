"""The table of an evaluation in the terminal: three columns one under the other, each figure with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from posttrain.evals.columns import ASKS, COLUMNS, Line, parts_of
from posttrain.jobs.job import Context


def show(made: Sequence[Line], about: Mapping[str, Any], context: Context) -> None:
    """Print the lines, and what the model is."""
    for column in COLUMNS:
        found = parts_of(made, column)
        facts = {k: v for k, v in (about.get("model") or {}).items() if v is not None} if column == "capability" else {}
        if not found and not facts:
            continue
        context.console.print(Text(f"{column}: {ASKS[column]}", style="bold"))
        if facts:
            context.say("  " + ", ".join(f"{k} {v:,}" for k, v in facts.items()))
        if found:
            context.console.print(_table(found))


def _table(parts: Mapping[str, Sequence[Line]]) -> Table:
    paired = any(line.difference is not None for lines in parts.values() for line in lines)
    out = Table(box=None, pad_edge=False, show_header=paired, header_style="bold")
    for head in ("figure", "value", *(("difference", "could see") if paired else ()), "prompts", "what it is"):
        out.add_column(head, overflow="fold")
    for part, lines in parts.items():
        out.add_row(Text(part, style="italic"))
        for line in lines:
            more: tuple[str, ...] = ()
            if paired:
                least = "" if line.smallest is None else f"{line.smallest:.3f}"
                more = ("" if line.difference is None else str(line.difference), least)
            told = line.where.means + ({"down": " (lower is better)"}.get(line.where.better, ""))
            out.add_row(*(Text(t) for t in (f"  {line.name}", str(line.value), *more, str(line.value.n), told)))
    return out


def show_apart(apart: Mapping[str, Mapping[str, Any]], context: Context) -> None:
    """Print the main figures of rows that differ in a fact, value by value."""
    for fact, values in apart.items():
        paired = any(made["differences"] for made in values.values())
        out = Table(box=None, pad_edge=False, header_style="bold")
        for head in (f"by {fact}", "figure", "value", *(("difference", "could see") if paired else ()), "prompts"):
            out.add_column(head, overflow="fold")
        for value, made in values.items():
            for place, (name, told) in enumerate(made["figures"].items()):
                change = made["differences"].get(name)
                more = ("", "") if change is None else (_shown(change, "+.3f"), f"{change['smallest']:.3f}")
                cells = ("" if place else value, name, _shown(told, ".3f"), *(more if paired else ()), str(told["n"]))
                out.add_row(*(Text(t) for t in cells))
        context.console.print(out)


def _shown(told: Mapping[str, Any], form: str) -> str:
    ends = "[no interval]" if told["low"] is None else f"[{told['low']:{form}}, {told['high']:{form}}]"
    return f"{told['estimate']:{form}} {ends}"


def show_verdicts(
    bias: Mapping[str, Mapping[str, Any]], wins: Mapping[str, Mapping[str, Any]], context: Context
) -> None:
    """Print what was decided: are readers answered alike, and who wins prompt by prompt."""
    if bias:
        context.console.print(Text("readers answered alike?", style="bold"))
        words = {"pass": "equal", "fail": "different"}
        for name, made in bias.items():
            verdict = words.get(made["verdict"], "not decided")
            line = f"  {name}: {verdict} within {made['margin']:g}, {made['n']} rows, could see {made['smallest']:.3f}"
            context.console.print(Text(line))
    for name, made in wins.items():
        line = f"  {name}: {made['win']:.0%} won, {made['tie']:.0%} even, {made['loss']:.0%} lost, {made['n']} prompts"
        same = made["equal_length"]
        more = "" if same is None else f"; at equal length a win rate of {same['estimate']:.2f}"
        context.console.print(Text(line + more))
