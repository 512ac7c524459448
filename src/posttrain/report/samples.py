"""Answers side by side: what the model said before and after, what changed, and what each was scored."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from posttrain.report.axes import node, number
from posttrain.report.page import Cell, plain, table

OPEN, SHOWN, LONG = (
    8,
    100,
    6_000,
)  # cards open at first, cards on the page, characters of an answer compared word by word
KNOWN = {"id", "prompt", "before", "after", "score_before", "score_after", "answers", "scores", "data", "tokens_before"}


def said(value: Any) -> str:
    """A prompt or an answer as text: a string, or messages with their roles where there is more than one."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence) and all(isinstance(m, Mapping) for m in value):
        if len(value) == 1:
            return str(value[0].get("content", ""))
        return "\n\n".join(f"{m.get('role', '?')}: {m.get('content', '')}" for m in value)
    return plain(value)


def difference(before: str, after: str) -> tuple[str, str]:
    """Both texts as markup with removed and added words marked; texts that share little are left unmarked."""
    if before == after or max(len(before), len(after)) > LONG:
        return escape(before), escape(after)
    a, b = re.findall(r"\s+|[^\s]+", before), re.findall(r"\s+|[^\s]+", after)
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    if matcher.ratio() < 0.35:
        return escape(before), escape(after)
    left, right = [], []
    for kind, i, j, k, m in matcher.get_opcodes():
        old, new = escape("".join(a[i:j])), escape("".join(b[k:m]))
        left.append(old if kind == "equal" or not old.strip() else node("del", old))
        right.append(new if kind == "equal" or not new.strip() else node("ins", new))
    return "".join(left), "".join(right)


def _score(value: Any) -> str:
    if value is None:
        return "not scored"
    return number(float(value)) if isinstance(value, (int, float)) else plain(value)


def _side(name: str, answer: str, score: str | None) -> str:
    right = node("b", escape(score)) if score is not None else ""
    body = answer or node("span", "empty answer", class_="empty")
    return node("div", node("h4", node("span", escape(name)), right), node("p", body, class_="answer"), class_="side")


def _change(row: Mapping[str, Any]) -> str:
    old, new = row.get("score_before"), row.get("score_after")
    if not (
        isinstance(old, (int, float)) and isinstance(new, (int, float)) and math.isfinite(old) and math.isfinite(new)
    ):
        return ""
    rise = new - old
    word, class_ = ("▲", "chip up") if rise > 0 else ("▼", "chip down") if rise < 0 else ("=", "chip")
    return node("li", escape(f"{word} {rise:+.3g}" if rise else "= unchanged"), class_=class_)


def sample_card(row: Mapping[str, Any]) -> str:
    """One prompt with its answers: `before` and `after`, or any number of named `answers`."""
    chips = [_change(row)]
    chips += [node("li", escape(f"{k} {plain(v)}"), class_="chip") for k, v in row.items() if k not in KNOWN]
    if isinstance(row.get("answers"), Mapping):
        scores = row.get("scores") or {}
        sides = [
            _side(n, escape(said(a)), _score(scores[n]) if n in scores else None) for n, a in row["answers"].items()
        ]
    else:
        left, right = difference(said(row.get("before")), said(row.get("after")))
        sides = [
            _side(name, text, _score(row[f"score_{name}"]) if f"score_{name}" in row else None)
            for name, text in (("before", left), ("after", right))
            if name in row
        ]
        if row.get("data"):
            sides.append(_side("in the data", escape(said(row["data"])), None))
    return node(
        "article",
        node("ul", *chips, class_="chips") if any(chips) else "",
        node("p", escape(said(row.get("prompt"))), class_="prompt"),
        node("div", *sides, class_="sides"),
        class_="card sample",
        aria_label=f"sample {row.get('id', '')}".strip(),
    )


def samples_markup(rows: Sequence[Mapping[str, Any]], file: str = "samples.jsonl") -> str:
    """Cards of the first rows, the rest folded, and a line that says how many are shown and how scores moved."""
    if not rows:
        return node("p", f"This run wrote no rows to {escape(file)}.", class_="empty")
    shown = rows[:SHOWN]
    told = (
        f"{len(rows)} prompts"
        if len(rows) == len(shown)
        else f"The first {len(shown)} of {len(rows)}; all are in {file}"
    )
    out = [node("p", escape(told + _moved(rows)), class_="muted small")]
    out += [sample_card(r) for r in shown[:OPEN]]
    if len(shown) > OPEN:
        rest = "".join(sample_card(r) for r in shown[OPEN:])
        out.append(node("details", node("summary", f"{len(shown) - OPEN} more"), rest))
    return "".join(out)


def _moved(rows: Sequence[Mapping[str, Any]]) -> str:
    pairs = [(r.get("score_before"), r.get("score_after")) for r in rows]
    both = [(float(a), float(b)) for a, b in pairs if isinstance(a, (int, float)) and isinstance(b, (int, float))]
    if not both:
        return "."
    up, down = sum(b > a for a, b in both), sum(b < a for a, b in both)
    return f". Scores rose on {up}, fell on {down}, stayed on {len(both) - up - down}."


def score_table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Scores of every row by name, for pages that fold the texts away."""
    body: list[list[Cell | str]] = [
        [str(r.get("id", i)), *(Cell(_score((r.get("scores") or {}).get(n)), class_="n") for n in names)]
        for i, r in enumerate(rows)
    ]
    return table(["prompt", *names], body, numeric=range(1, len(names) + 1))
