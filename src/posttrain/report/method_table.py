"""The table that a lesson draws of its methods, with what was measured in every cell: what each needs, what it cost, what it gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from posttrain.report.axes import node
from posttrain.report.page import Cell, duration, table


def method_table(told: Mapping[str, Any], models: Sequence[str]) -> str:
    """A column per trained model, a row per question; empty where nobody recorded it."""
    lines: dict[str, Callable[[str], str]] = {
        "labels it learned from": lambda n: _count(told["cost"][n].get("labels")),
        "trained before it": lambda n: ", ".join(told["cost"][n].get("first") or ()) or "nothing",
        "models in memory": lambda n: ", ".join(told["cost"][n].get("models") or ()),
        "answers drawn while learning": lambda n: _drawn(told["cost"][n]),
        "optimiser steps": lambda n: _count(told["cost"][n].get("steps")),
        "time": lambda n: _time(told["cost"][n].get("seconds")),
        "trained tokens": lambda n: _count(told["cost"][n].get("tokens")),
        "peak memory": lambda n: _memory(told["cost"][n].get("memory")),
        "KL spent, nats an answer": lambda n: _interval(told["kl"].get(n), 2),
        "words an answer": lambda n: _interval(_figure(told, n, "length"), 1),
        told["main"]: lambda n: _interval(_figure(told, n, told["main"]), 3),
        f"wins against {next(iter(told['models']))}": lambda n: _wins(told, n),
        "stability": lambda n: _steady(told["cost"][n]),
    }
    rows: list[list[Cell | str]] = [[Cell(title), *(said(n) for n in models)] for title, said in lines.items()]
    note = (
        "Labels: rows that were written or judged, here or for a model trained before. Stability: alerts that the monitors raised in "
        "training, rollbacks, and whether the run ended early. One seed each."
    )
    return table(("", *models), rows) + node("p", escape(note), class_="muted small")


def _count(value: Any) -> str:
    return "" if value is None else f"{int(value):,}"


def _time(value: Any) -> str:
    return "" if value is None else duration(value)


def _memory(value: Any) -> str:
    return "" if value is None else f"{value:.2f} GiB"


def _drawn(cost: Mapping[str, Any]) -> str:
    tokens = cost.get("sampled")
    return "" if tokens is None else f"yes, {tokens:,} tokens" if tokens else "no"


def _interval(value: Mapping[str, Any] | None, digits: int) -> str:
    if value is None:
        return ""
    low, high = value["low"], value["high"]
    ends = "" if low is None or high is None else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{value['estimate']:.{digits}f}{ends}"


def _figure(told: Mapping[str, Any], name: str, figure: str) -> Mapping[str, Any] | None:
    return next((x["value"] for x in told["lines"][name] if x["name"] == figure), None)


def _wins(told: Mapping[str, Any], name: str) -> str:
    first = next(iter(told["models"]))
    made = next((d for d in told["duels"] if (d["model"], d["other"]) == (name, first)), None)
    return "" if made is None else _interval(made["rate"], 2)


def _steady(cost: Mapping[str, Any]) -> str:
    if cost.get("alerts") is None:
        return ""
    said = [f"alerts: {', '.join(cost['alerts'])}" if cost["alerts"] else "no alert"]
    if cost.get("rollbacks"):
        said.append(f"{cost['rollbacks']} rollbacks")
    if cost.get("stopped"):
        said.append(f"ended early: {cost['stopped']}")
    return "; ".join(said)
