"""Plots over names: dots with intervals, before/after dumbbells, and a bar of parts. Rows grow downwards, names on the
left."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from posttrain.report.axes import COLOURS, TEXT, Scale, cut, label, line, node, number, spread, svg
from posttrain.stats import Interval

WIDTH, ROW = 460.0, 30.0


def _rows(names: Sequence[str], scale_ends: tuple[float, float], width: float, right: float) -> tuple[Scale, int]:
    """The x scale and how many characters a name may take."""
    characters = min(24, max((len(n) for n in names), default=1))
    return Scale(*scale_ends, 14 + characters * TEXT * 1.08, width - right), characters


def _columns(x: Scale, top: float, bottom: float, wanted: int = 5) -> list[str]:
    out = []
    for value, text in x.ticks(wanted):
        out += [line(x(value), top, x(value), bottom, "grid"), label(text, x(value), bottom + 15, "middle", "t tick")]
    return out


def dot_plot(
    rows: Sequence[tuple[str, Interval]],
    title: str,
    x_label: str = "",
    reference: float | None = None,
    width: float = WIDTH,
    one_colour: bool = False,
) -> str:
    """One row a name: the estimate as a dot, its interval as a whisker, the number at the right."""
    if not rows:
        return node("p", escape(f"{title}: nothing to draw."), class_="empty")
    ends = [v for _, i in rows for v in ((i.low, i.high) if i.known else (i.estimate,))]
    if reference is not None:
        ends.append(reference)
    x, characters = _rows([name for name, _ in rows], spread(ends), width, 148)
    top, bottom = 8.0, 8 + ROW * len(rows)
    body = _columns(x, top, bottom)
    if reference is not None:
        body.append(line(x(reference), top, x(reference), bottom, "reference"))
    for n, (name, i) in enumerate(rows):
        y, c = top + ROW * (n + 0.5), 0 if one_colour else n % COLOURS
        marks = [node("title", escape(f"{name}: {i} (n = {i.n:,}, {i.method}, {i.level:.0%})"))]
        marks.append(node("rect", x=0.0, y=y - ROW / 2, width=width, height=ROW, class_="hit"))
        marks.append(label(cut(name, characters), 4, y + 4))
        if i.known:
            marks.append(line(x(i.low), y, x(i.high), y, f"whisker c{c}"))
        marks.append(node("circle", cx=x(i.estimate), cy=y, r=5.0, class_=f"fill c{c}"))
        shown = f"{i.estimate:.3f}  [{i.low:.3f}, {i.high:.3f}]" if i.known else f"{i.estimate:.3f}  no interval"
        marks.append(label(shown, width - 2, y + 4, "end", "t value"))
        body.append(node("g", *marks, class_="mark hover"))
    if x_label:
        body.append(label(x_label, x.end, bottom + 30, "end", "t name"))
    return svg(width, bottom + (36 if x_label else 22), title, body)


def dumbbell(
    rows: Sequence[tuple[str, float, float]], title: str, x_label: str, names: tuple[str, str] = ("before", "after")
) -> str:
    """Two values a name, joined: from a hollow dot (before) to a full one (after)."""
    if not rows:
        return node("p", escape(f"{title}: nothing to draw."), class_="empty")
    width, row = 460.0, 22.0
    ends = spread([v for _, a, b in rows for v in (a, b)], zero=True)
    x, characters = _rows([name for name, _, _ in rows], ends, width, 84)
    top, bottom = 24.0, 24 + row * len(rows)
    body = _columns(x, top, bottom, 4)
    body += [node("circle", cx=x.start + 5, cy=10.0, r=4.0, class_="hollow"), label(names[0], x.start + 14, 14)]
    after = x.start + 34 + TEXT * len(names[0])
    body += [node("circle", cx=after, cy=10.0, r=4.0, class_="fill c0"), label(names[1], after + 9, 14)]
    for n, (name, a, b) in enumerate(rows):
        y = top + row * (n + 0.5)
        told = node("title", escape(f"{name}: {number(a)} to {number(b)} {x_label}"))
        colour = 0 if b >= a else 1
        body.append(
            node(
                "g",
                told,
                node("rect", x=0.0, y=y - row / 2, width=width, height=row, class_="hit"),
                label(cut(name, characters), 4, y + 4, class_="t mono"),
                line(x(a), y, x(b), y, f"joint c{colour}"),
                node("circle", cx=x(a), cy=y, r=3.6, class_="hollow"),
                node("circle", cx=x(b), cy=y, r=4.4, class_=f"fill c{colour}"),
                label(f"{b - a:+.3g}", width - 2, y + 4, "end", "t value"),
                class_="mark hover",
            )
        )
    body.append(label(x_label, x.end, bottom + 30, "end", "t name"))
    return svg(width, bottom + 34, title, body)


def part_bar(parts: Sequence[tuple[str, int]], title: str, width: float = 760.0) -> str:
    """One bar cut into named counts, the first part being what was kept."""
    total = sum(n for _, n in parts)
    if total == 0:
        return node("p", escape(f"{title}: no rows."), class_="empty")
    body, at = [], 0.0
    for c, (name, n) in enumerate(parts):
        if n == 0:
            continue
        w = width * n / total
        told = node("title", escape(f"{name}: {n:,} of {total:,} ({n / total:.1%})"))
        body.append(
            node("rect", told, x=at, y=0.0, width=max(1.0, w - 1.5), height=18.0, class_=f"part c{c % COLOURS}")
        )
        at += w
    return svg(width, 18, title, body, strip=True)
