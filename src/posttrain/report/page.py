"""A page: one HTML file that needs nothing else and runs nothing.

The content policy forbids scripts, requests, forms and every style but the sheet whose hash it names. All text is
escaped here or in `axes.node`; callers build markup only through these functions.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from posttrain.report.axes import node, number
from posttrain.report.style import CSS
from posttrain.stats import Interval


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of a page; body is markup, anchor its id."""

    anchor: str
    title: str
    body: str


def page(title: str, subtitle: str, intro: str, sections: Sequence[Section], footer: str) -> str:
    """The whole document. title, subtitle and footer are text; intro is markup shown above the sections."""
    digest = base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    links = "".join(node("li", node("a", escape(s.title), href=f"#{s.anchor}")) for s in sections)
    body = "".join(
        node(
            "section",
            node("h2", escape(s.title), id=f"{s.anchor}-title"),
            s.body,
            id=s.anchor,
            aria_labelledby=f"{s.anchor}-title",
        )
        for s in sections
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="referrer" content="no-referrer">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title><style>{CSS}</style></head><body>'
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(subtitle)}</p></header>'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>'
        f"<main>{intro}{body}</main><footer><p>{escape(footer)}</p></footer></body></html>\n"
    )


def card(title: str, *body: str, class_: str = "card") -> str:
    """A box with a heading."""
    return node("div", node("h3", escape(title)) if title else "", *body, class_=class_)


def figure(title: str, drawing: str, class_: str = "card") -> str:
    """A plot in a box."""
    return node("figure", node("h3", escape(title)), drawing, class_=class_)


def tiles(items: Sequence[tuple[str, str, str]]) -> str:
    """Headline numbers: name, value, and a small line under it."""
    boxes = (
        node("div", node("dt", escape(n)), node("dd", escape(v), node("small", escape(s)) if s else ""), class_="tile")
        for n, v, s in items
    )
    return node("dl", *boxes, class_="tiles") if items else ""


def facts(pairs: Mapping[str, Any]) -> str:
    """Names and values; nested values are shown as compact text."""
    rows = "".join(node("dt", escape(str(k))) + node("dd", escape(plain(v))) for k, v in pairs.items())
    return node("dl", rows, class_="facts")


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell: text, a smaller line under it, a class, or ready markup instead of the text."""

    text: str = ""
    sub: str = ""
    class_: str = ""
    markup: str = ""

    def html(self, name: str, scope: str | None = None) -> str:
        sub = node("span", escape(self.sub), class_="sub") if self.sub else ""
        return node(name, self.markup or escape(self.text), sub, class_=self.class_ or None, scope=scope)


def table(
    head: Sequence[str], rows: Sequence[Sequence[Cell | str]], caption: str = "", numeric: Sequence[int] = ()
) -> str:
    """A table with a header row and a header cell a row, scrolling sideways on narrow screens; numeric columns align
    right."""
    titles = "".join(
        node("th", escape(h), scope="col", class_="n" if i in numeric else None) for i, h in enumerate(head)
    )
    lines = []
    for row in rows:
        cells = [c if isinstance(c, Cell) else Cell(c, class_="n" if i in numeric else "") for i, c in enumerate(row)]
        lines.append(node("tr", cells[0].html("th", "row"), *(c.html("td") for c in cells[1:])))
    named = node("caption", escape(caption)) if caption else ""
    inner = node(
        "table",
        named,
        node("thead", node("tr", titles)),
        node("tbody", *lines),
        class_="wide" if len(head) > 3 else None,
    )
    return node("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption or head[0])


def plain(value: Any) -> str:
    """A JSON-able value as short text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(v) for v in value) or "none"
    return str(value)


def duration(seconds: Any) -> str:
    """Seconds as people say them."""
    if not isinstance(seconds, (int, float)) or not math.isfinite(seconds):
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def hash_markup(value: Any) -> str:
    """A content hash: its start strong, all of it there to copy."""
    text = str(value or "")
    if not text:
        return node("span", "no hash", class_="muted")
    return node("code", node("b", escape(text[:12])), escape(text[12:]), class_="hash")


def as_interval(value: Any, where: str) -> Interval:
    """An Interval from itself, from its JSON form {estimate, low, high, n, method, level}, or from a bare number (no
    interval)."""
    if isinstance(value, Interval):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, Mapping)):
        raise ValueError(f"{where} must be a number or {{estimate, low, high, n}}, got {value!r}")
    if isinstance(value, (int, float)):
        return Interval(float(value), math.nan, math.nan, 0, "no interval given")
    if value.get("estimate") is None:
        raise ValueError(f"{where} lacks 'estimate': give {{estimate, low, high, n}}")
    ends = [math.nan if value.get(k) is None else float(value[k]) for k in ("low", "high")]
    n, method = int(value.get("n") or 0), str(value.get("method") or "interval")
    return Interval(float(value["estimate"]), ends[0], ends[1], n, method, float(value.get("level") or 0.95))
