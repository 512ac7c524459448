"""The page of `posttrain effort`: accuracy against the tokens spent on a prompt, as plot and table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from posttrain.core.files import write_text
from posttrain.report.axes import node
from posttrain.report.page import Cell, Section, figure, page, table
from posttrain.report.plot import Series, line_chart

WAYS = {
    "vote": "majority vote of k answers",
    "best": "best of k answers by score",
    "any": "any of k answers is right (no chooser can do better)",
    "budget": "thinking cut after k tokens",
}


def write_effort(path: Path, told: Mapping[str, Any]) -> Path:
    """Write the page of effort.json."""
    points: Sequence[Mapping[str, Any]] = told["points"]
    series = []
    for way, words in WAYS.items():
        mine = sorted((p for p in points if p["way"] == way), key=lambda p: p["tokens"])
        if mine:
            series.append(Series(words, [p["tokens"] for p in mine], [p["accuracy"] for p in mine]))
    drawn = figure("Accuracy by tokens per prompt", line_chart(series, "accuracy", "tokens per prompt"))
    rows: list[list[Cell | str]] = [
        [Cell(WAYS[p["way"]]), f"{p['k']}", f"{p['tokens']:.1f}", _interval(p), f"{p['n']}"] for p in points
    ]
    shown = table(("way", "k", "tokens per prompt", "accuracy", "prompts"), rows, numeric=range(1, 5))
    chooser = f"Best of k is chosen by {told['chooser']}. Tokens are those of all answers drawn, prompts not counted."
    body = drawn + shown + node("p", escape(chooser), class_="muted small")
    intro = node("p", escape(f"{told['model']}: {told['prompts']} prompts, {told['n']} answers each."))
    sections = [Section("curve", "What more tokens buy", body)]
    return write_text(
        path, page("Accuracy and effort", "answers drawn, thinking cut", intro, sections, f"seed {told['seed']}")
    )


def _interval(point: Mapping[str, Any]) -> str:
    if point["low"] is None:
        return f"{point['accuracy']:.3f}"
    return f"{point['accuracy']:.3f} [{point['low']:.3f}, {point['high']:.3f}]"
