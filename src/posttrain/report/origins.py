"""Where the rows came from: who wrote them, what was dropped and why, which test items were looked for, and a few of them."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from posttrain.report.axes import node
from posttrain.report.page import Cell, card, table


def rows_behind(told: Mapping[str, Any]) -> str:
    """One line per step from the first candidate to the rows trained on, and rows to look at; empty where no file tells its making."""
    found = {n: sources for n, sources in told.get("rows_behind", {}).items() if any(s["steps"] for s in sources)}
    if not found:
        return ""
    rows: list[list[Cell | str]] = []
    shown = []
    for name, sources in found.items():
        for source in sources:
            rows += [[Cell(name, sub=step["file"]), *_step(step)] for step in source["steps"]]
            trained = f"{source['trained']:,}"
            rows.append(
                [
                    Cell(name, sub=source["file"]),
                    "trained on",
                    f"{source['rows']:,}",
                    trained,
                    _reasons(source["dropped"]),
                ]
            )
            shown += [card(f"A row of {source['file']}", _said(row)) for row in source["shown"]]
    note = (
        "Written: made by a model, each with its origin. Rows whose truth nobody has looked at are not human-validated."
    )
    body = table(("model", "step", "rows before", "rows after", "dropped, and why"), rows, numeric=(2, 3))
    return body + node("p", escape(note), class_="muted small") + node("div", "".join(shown), class_="grid after")


def _step(step: Mapping[str, Any]) -> tuple[str, str, str, str]:
    what = f"{step['what']}: {step['by']}" if step.get("by") else str(step["what"])
    why = _reasons(step["dropped"])
    leaks = [f"{n:,} rows held an item of {name}" for name, n in (step.get("leaks") or {}).items()]
    return what, f"{step['before']:,}", f"{step['after']:,}", "; ".join(filter(None, [why, *leaks]))


def _reasons(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {reason}" for reason, n in dropped.items())


def _said(row: Mapping[str, str]) -> str:
    return node("p", escape(row["prompt"]), class_="answer") + node("p", escape(row["answer"]), class_="answer strong")
