"""Where a comparison's models hold: by split, novelty, turn and language; by kind of raw text; by task over the stages.

Reads the plain values of a comparison.json. Every value of a fact has its own interval, and its own change against the first
model, paired by prompt: a gain that stays on what training looked like shows here and in no mean over all rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from posttrain.report.axes import node
from posttrain.report.dots import dot_plot
from posttrain.report.page import Cell, as_interval, card, figure, table

MEANS = {
    "train": "prompts of the kind trained on",
    "seen": "prompts that stand in the training rows",
    "held-out": "new facts, known words and wordings",
    "rare": "what few training rows have",
    "new-phrasing": "known words in new wordings",
    "new-vocabulary": "new words in known wordings",
    "ood": "new words and new wordings",
}
FACTS = (
    ("by_split", "split", "split"),
    ("by_novelty", "novelty", "how new the prompt is"),
    ("by_turn", "turns asked", "turns asked"),
    ("by_lang", "language", "language"),
)


def where_it_holds(told: Mapping[str, Any]) -> str:
    """One table per fact whose values differ among the rows, and one plot per value."""
    out = []
    for key, short, title in FACTS:
        if not told.get(key):
            continue
        drawn = "".join(
            figure(
                f"{told['main']}, {short}: {value}",
                dot_plot([(n, as_interval(dict(v), value)) for n, v in made], f"{short} {value}", told["main"]),
            )
            for value, made in told[key].items()
        )
        out.append(
            card(f"{told['main']} by {title}", _table(told, key), class_="card stack")
            + node("div", drawn, class_="grid stack")
        )
    if not out:
        return ""
    first = next(iter(told["models"]))
    note = (
        f"Under each figure: its change against {first} on the same prompts, with its interval. Where the ends lie on both sides of 0 "
        "the change could be chance. Looking at many lines, one in twenty such intervals misses."
    )
    return node("p", escape(note), class_="muted small") + "".join(out)


def gains_apart(told: Mapping[str, Any]) -> list[str]:
    """One sentence per trained model: where it is surely better or worse than the first model, and where that cannot be told."""
    first, *trained = [n for n, m in told["models"].items() if m["trained"]]
    out = []
    for name in trained:
        found: dict[str, list[str]] = {}
        for value, changes in ((told.get("changes") or {}).get("by_split") or {}).items():
            made = changes.get(name)
            if made is not None:
                found.setdefault(_verdict(made), []).append(f"{value} ({made['estimate']:+.3f} {_ends(made, '+.3f')})")
        if found:
            parts = [f"{words} on {', '.join(found[words])}" for words in VERDICTS if words in found]
            out.append(f"By split, {name} against {first}: {'; '.join(parts)}.")
    return out


VERDICTS = ("better", "worse", "not told apart")


def _verdict(change: Mapping[str, Any]) -> str:
    low, high = change["low"], change["high"]
    if low is None or high is None:
        return "not told apart"
    return "better" if low > 0 else "worse" if high < 0 else "not told apart"


def _table(told: Mapping[str, Any], key: str) -> str:
    names = [n for n in told["models"] if any(n == m for made in told[key].values() for m, _ in made)]
    changes = (told.get("changes") or {}).get(key) or {}
    rows: list[list[Cell | str]] = []
    for value, made in told[key].items():
        figures = dict(made)
        count = max(v["n"] for v in figures.values())
        cells = [_cell(figures.get(n), (changes.get(value) or {}).get(n)) for n in names]
        rows.append([Cell(value, sub=MEANS.get(value, "")), f"{count:,}", *cells])
    return table(("rows", "prompts", *names), rows, numeric=range(1, len(names) + 2))


def _cell(value: Mapping[str, Any] | None, change: Mapping[str, Any] | None) -> Cell:
    if value is None:
        return Cell("")
    sub = "" if change is None else f"{change['estimate']:+.3f} {_ends(change, '+.3f')}"
    return Cell(f"{value['estimate']:.3f} {_ends(value, '.3f')}", sub=sub, class_="n")


def _ends(value: Mapping[str, Any], form: str) -> str:
    return "no interval" if value["low"] is None else f"[{value['low']:{form}}, {value['high']:{form}}]"


def texts(told: Mapping[str, Any]) -> str:
    """Perplexity of raw texts, part by part, before and after."""
    if not told.get("texts"):
        return ""
    names = list(next(iter(told["texts"].values())))
    rows: list[list[Cell | str]] = []
    for part, made in told["texts"].items():
        count = next(iter(made.values()))["perplexity"]["n"]
        rows.append([Cell(part), f"{count:,}", *(_likelihood(made[n]) for n in names)])
    margin = next(iter(next(iter(told["texts"].values())).values()))["margin"]
    note = (
        "Perplexity: among how many equally likely tokens the model would be choosing at each place; lower is better. Under it, the change "
        f"against {names[0]} in nats per token on the same texts: gained and lost where the interval leaves 0 out, kept where a loss of "
        f"{margin:g} or more is ruled out."
    )
    head = ("texts", "how many", *names)
    return table(head, rows, numeric=range(1, len(head))) + node("p", escape(note), class_="muted small")


def _likelihood(told: Mapping[str, Any]) -> Cell:
    value, change = told["perplexity"], told.get("change")
    shown = f"{value['estimate']:.3f} {_ends(value, '.3f')}"
    if change is None:
        return Cell(shown, class_="n")
    return Cell(shown, sub=f"{told['verdict']}: {change['estimate']:+.3f} {_ends(change, '+.3f')}", class_="n")


def forgotten(told: Mapping[str, Any]) -> str:
    """Figures per task over the stages."""
    if not told["by_task"]:
        return ""
    drawn = [
        figure(task, dot_plot([(n, as_interval(dict(v), task)) for n, v in made], f"{task} by stage", told["main"]))
        for task, made in told["by_task"].items()
    ]
    intro = f"{told['main']} per task over the stages, first to last: a task that falls to the left was forgotten on the way."
    return node("p", escape(intro)) + node("div", "".join(drawn), class_="grid")
