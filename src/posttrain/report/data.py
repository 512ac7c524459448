"""What became of the data's rows: kept, dropped with the reason, truncated. One bar a source; nothing that vanished stays unsaid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from posttrain.report.axes import COLOURS, node
from posttrain.report.dots import part_bar
from posttrain.report.page import card, facts, hash_markup, plain, table, tiles

COUNTS = ("name", "path", "hash", "rows", "kept", "dropped", "truncated")
MISSING = "not accounted for"


def sources(data: Any) -> list[Mapping[str, Any]]:
    """The accounts of a manifest's `data`: one object, or one a source."""
    if isinstance(data, Mapping):
        return [data] if data else []
    return (
        [d for d in data if isinstance(d, Mapping)] if isinstance(data, Sequence) and not isinstance(data, str) else []
    )


def whole(value: Any) -> int:
    """A count; a mapping of counts is their sum."""
    return sum(map(whole, value.values())) if isinstance(value, Mapping) else int(value or 0)


def kept_of(account: Mapping[str, Any]) -> int:
    """Rows that were trained on; where the account does not say, what is left after the drops."""
    return int(account["kept"]) if "kept" in account else whole(account.get("rows")) - whole(account.get("dropped"))


def parts_of(account: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Kept, each reason, and rows that no reason accounts for."""
    kept, dropped = kept_of(account), account.get("dropped") or {}
    named = dropped if isinstance(dropped, Mapping) else {"dropped": dropped}
    parts = [("kept", kept), *((str(reason), whole(n)) for reason, n in named.items())]
    lost = whole(account.get("rows")) - sum(n for _, n in parts)
    return [*parts, (MISSING, lost)] if lost > 0 else parts


def _key(parts: Sequence[tuple[str, int]]) -> str:
    total = sum(n for _, n in parts) or 1
    marks = []
    for c, (name, n) in enumerate(parts):
        box = node("rect", width=10, height=10, rx=2, class_=f"part c{c % COLOURS}")
        mark = node("svg", box, viewBox="0 0 10 10", aria_hidden="true")
        marks.append(node("li", mark, escape(f"{name} {n:,} ({n / total:.1%})")))
    return node("ul", *marks, class_="key")


def _source(account: Mapping[str, Any], alone: bool) -> str:
    parts = parts_of(account)
    name = str(account.get("name") or account.get("path") or "")
    rest = {k: v for k, v in account.items() if k not in COUNTS and v not in (None, "", {}, [])}
    if not alone:
        rest = {"truncated": plain(account.get("truncated") or 0), **rest}
    where = node("p", node("code", escape(str(account["path"]))), class_="small") if account.get("path") else ""
    content = node("p", hash_markup(account["hash"])) if account.get("hash") else ""
    more = node("div", facts(rest), class_="after") if rest else ""
    return card(
        name, where, content, part_bar(parts, f"Rows of {name or 'the data'}"), _key(parts), more, class_="card stack"
    )


def drawn_markup(drawn: Any) -> str:
    """What training really drew of each task, beside the weight it was given; empty for one task alone."""
    if not isinstance(drawn, list) or len(drawn) < 2:
        return ""
    rows = [
        [str(d["task"]), f"{d['weight']:.1%}", f"{d['share']:.1%}", f"{whole(d['rows']):,}", f"{d['passes']:.2f}"]
        for d in drawn
    ]
    return card("What was drawn", table(["task", "weight", "drawn", "rows", "passes"], rows, numeric=(1, 2, 3, 4)))


def data_markup(data: Any, drawn: Any = None) -> str:
    """Totals, what was drawn of each task, then every source."""
    accounts = sources(data)
    if not accounts:
        return node("p", "The manifest does not describe the data.", class_="empty")
    rows, kept = sum(whole(a.get("rows")) for a in accounts), sum(kept_of(a) for a in accounts)
    lost = sum(n for a in accounts for name, n in parts_of(a) if name == MISSING)
    cut = sum(whole(a.get("truncated")) for a in accounts)
    why = f"{lost:,} without a reason" if lost else "nothing dropped" if kept == rows else "each with a reason"
    head = tiles(
        [
            ("Rows read", f"{rows:,}", f"{len(accounts)} sources" if len(accounts) > 1 else ""),
            ("Kept", f"{kept:,}", f"{kept / rows:.1%}" if rows else ""),
            ("Dropped", f"{max(0, rows - kept):,}", why),
            ("Truncated", f"{cut:,}", "" if cut else "nothing truncated"),
        ]
    )
    return head + drawn_markup(drawn) + "".join(_source(a, len(accounts) == 1) for a in accounts)
