"""Scales, ticks and SVG primitives that every plot shares. Colours live in the page's style sheet, so plots follow
light and dark.

Everything is plain text with escaped content; no script and no style attribute, so the strictest content policy allows
it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

COLOURS = 6  # classes c0..c5 in the style sheet
TEXT = 6.2  # rough width of a character at the plot's font size


def node(name: str, *children: str, **attributes: Any) -> str:
    """One element. Children are markup already; attribute values are escaped. ``class_`` is ``class``, ``_`` becomes
    ``-``."""
    parts = []
    for key, value in attributes.items():
        if value is None:
            continue
        shown = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        parts.append(f' {key.rstrip("_").replace("_", "-")}="{escape(shown)}"')
    return f"<{name}{''.join(parts)}>{''.join(children)}</{name}>"


def label(text: str, x: float, y: float, anchor: str = "start", class_: str = "t") -> str:
    """Text at a point."""
    return node("text", escape(text), x=x, y=y, text_anchor=anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    return node("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def cut(text: str, characters: int) -> str:
    """Text shortened with an ellipsis; give the full text in a title where it matters."""
    return text if len(text) <= characters else text[: max(1, characters - 1)] + "…"


def svg(
    width: float, height: float, title: str, body: Sequence[str], description: str = "", strip: bool = False
) -> str:
    """The drawing, scaled to its container, named for people who listen. A strip keeps its height and stretches
    sideways."""
    described = node("desc", escape(description)) if description else ""
    return node(
        "svg",
        node("title", escape(title)),
        described,
        *body,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=title,
        preserveAspectRatio="none" if strip else None,
        class_="plot strip" if strip else "plot",
    )


def number(value: float) -> str:
    """A value as people read it: 4 significant digits, thousands separated, tiny and huge in powers of ten."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e9:
        mantissa, _, power = f"{value:.2e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"
    if size >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def tick_text(value: float, step: float) -> str:
    """A tick with the digits that its spacing needs."""
    size = max(abs(value), step)
    if value == 0:
        return "0"
    if size < 1e-3:
        return re.sub(r"\.?0*e-0?", "e-", f"{value:.1e}")
    if size >= 1e6:
        return f"{value / 1e6:g}M"
    if size >= 1e4:
        return f"{value / 1e3:g}k"
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{digits}f}"


def nice_ticks(low: float, high: float, wanted: int = 5) -> tuple[list[float], float]:
    """Round ticks inside [low, high] and their spacing: 1, 2, 2.5 or 5 times a power of ten."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low], abs(low) or 1.0
    raw = span / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    ticks = [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]
    return ticks, step


@dataclass(frozen=True, slots=True)
class Scale:
    """Data [low, high] to pixels [start, end]; log takes base-10 logarithms first."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        a, b, v = self.low, self.high, value
        if self.log:
            a, b, v = math.log10(a), math.log10(b), math.log10(v)
        return self.start + (self.end - self.start) * ((v - a) / (b - a) if b != a else 0.5)

    def ticks(self, wanted: int = 5) -> list[tuple[float, str]]:
        """Positions and their text."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            if len(powers) >= 2:
                return [(10.0**p, f"{10.0**p:g}" if -4 < p < 4 else f"1e{p}") for p in powers]
        values, step = nice_ticks(self.low, self.high, wanted)
        return [(v, tick_text(v, step)) for v in values]


def spread(values: Sequence[float], pad: float = 0.06, zero: bool = False) -> tuple[float, float]:
    """A range that holds the values with some air; `zero` includes 0. Equal values get a unit around them."""
    low, high = min(values), max(values)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        half = abs(low) * 0.1 or 0.5
        return low - half, high + half
    air = (high - low) * pad
    return (low if zero and low == 0 else low - air), high + air


@dataclass(frozen=True, slots=True)
class Frame:
    """The drawing area with a scale for each side."""

    x: Scale
    y: Scale

    def grid(self, x_ticks: int = 5, y_ticks: int = 5, x_label: str = "", y_label: str = "") -> list[str]:
        """Horizontal rules, tick texts and axis names."""
        left, right, bottom, top = self.x.start, self.x.end, self.y.start, self.y.end
        out = []
        for value, text in self.y.ticks(y_ticks):
            y = self.y(value)
            out += [line(left, y, right, y, "grid"), label(text, left - 6, y + 3.5, "end", "t tick")]
        for value, text in self.x.ticks(x_ticks):
            x = self.x(value)
            out += [line(x, bottom, x, bottom + 4, "axis"), label(text, x, bottom + 16, "middle", "t tick")]
        out.append(line(left, bottom, right, bottom, "axis"))
        if x_label:
            out.append(label(x_label, right, bottom + 30, "end", "t name"))
        if y_label:
            out.append(label(y_label, 4, top - 8, "start", "t name"))
        return out
