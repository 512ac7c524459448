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
    """Print the main figures of rows that differ in a fact, one line for each of its values."""
    for fact, values in apart.items():
        context.console.print(Text(f"by {fact}", style="bold"))
        names = list(dict.fromkeys(n for made in values.values() for n in made["figures"]))
        out = Table(box=None, pad_edge=False, header_style="bold")
        for head in (fact, *names, "prompts"):
            out.add_column(head, overflow="fold")
        for value, made in values.items():
            cells = [_apart(made["figures"].get(n), made["differences"].get(n)) for n in names]
            count = max((told["n"] for told in made["figures"].values()), default=0)
            out.add_row(*(Text(t) for t in (value, *cells, str(count))))
        context.console.print(out)


def _apart(value: Mapping[str, Any] | None, change: Mapping[str, Any] | None) -> str:
    """A figure with its interval, and under it how it differs from the earlier evaluation."""
    if value is None:
        return ""
    shown = [f"{value['estimate']:.3f} {_ends(value)}"]
    if change is not None:
        shown.append(f"difference {change['estimate']:+.3f} {_ends(change)}, could see {change['smallest']:.3f}")
    return "\n".join(shown)


def _ends(told: Mapping[str, Any]) -> str:
    return "[no interval]" if told["low"] is None else f"[{told['low']:.3f}, {told['high']:.3f}]"


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
