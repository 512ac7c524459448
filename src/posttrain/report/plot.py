"""Plots over a numeric axis: curves, histograms, reliability diagrams, labelled scatters. Inline SVG without scripts.

Hovering shows values through <title> and a crosshair made by the style sheet. Curves of more than 240 points are drawn
as a band from minimum to maximum with their smoothed mean; every value that could not be drawn is counted under the
plot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from posttrain.report.axes import COLOURS, TEXT, Frame, Scale, label, line, node, number, spread, svg
from posttrain.stats import Bin, Interval

WIDTH, HEIGHT = 420.0, 230.0
DRAWN, HOVERS = 240, 60


@dataclass(frozen=True, slots=True)
class Series:
    """A named curve; y may hold None or non-finite values, which break the line and are counted."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]

    def finite(self) -> list[tuple[float, float]]:
        return [(float(a), float(b)) for a, b in zip(self.x, self.y) if b is not None and math.isfinite(b)]


def smooth(values: Sequence[float], weight: float) -> list[float]:
    """Exponential moving average without the pull towards 0 at the start; weight 0 leaves the values."""
    out, total, mass = [], 0.0, 0.0
    for v in values:
        total, mass = weight * total + (1 - weight) * v, weight * mass + (1 - weight)
        out.append(total / mass)
    return out


def _weight(values: Sequence[float]) -> float:
    """Smoothing that grows with the number of points: none below 16 or for a curve without noise, 0.9 for long ones."""
    n, extent = len(values), max(values) - min(values)
    bends = sorted(abs(b - (a + c) / 2) for a, b, c in zip(values, values[1:], values[2:]))
    if n < 16 or bends[n // 2] <= 0.003 * extent:
        return 0.0
    return min(0.9, 1 - 8 / n)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float, float, float]]:
    """At most DRAWN buckets of (x, mean, low, high)."""
    size = math.ceil(len(points) / DRAWN)
    out = []
    for i in range(0, len(points), size):
        part = points[i : i + size]
        ys = [y for _, y in part]
        out.append((part[-1][0], sum(ys) / len(ys), min(ys), max(ys)))
    return out


def _curve(points: list[tuple[float, float]], frame: Frame, colour: int) -> list[str]:
    if len(points) == 1:
        x, y = points[0]
        return [node("circle", cx=frame.x(x), cy=frame.y(y), r=3.5, class_=f"fill c{colour}")]
    thin = _thin(points)
    values = [y for _, y in points]
    weight = _weight(values)
    means = smooth(values, weight)
    step = math.ceil(len(points) / DRAWN)
    picked = sorted({*range(0, len(points), step), len(points) - 1})
    bold = _path([(frame.x(points[i][0]), frame.y(means[i])) for i in picked])
    out = []
    if len(points) > DRAWN:
        upper = [(frame.x(x), frame.y(high)) for x, _, _, high in thin]
        lower = [(frame.x(x), frame.y(low)) for x, _, low, _ in thin]
        out.append(node("path", d=_path(upper + lower[::-1]) + "Z", class_=f"band c{colour}"))
    elif weight:
        out.append(node("path", d=_path([(frame.x(x), frame.y(y)) for x, y in points]), class_=f"raw c{colour}"))
    out.append(node("path", d=bold, class_=f"curve c{colour}"))
    if len(points) <= 12:
        out += [node("circle", cx=frame.x(x), cy=frame.y(y), r=2.8, class_=f"fill c{colour}") for x, y in points]
    return out


def _hovers(series: Sequence[Series], frame: Frame, x_label: str) -> list[str]:
    """Invisible columns that show the values nearest to them."""
    every = sorted({x for s in series for x, _ in s.finite()})
    if not every:
        return []
    size = math.ceil(len(every) / HOVERS)
    at = every[::-1][::size][::-1]
    edges = [frame.x.start, *((frame.x(a) + frame.x(b)) / 2 for a, b in pairwise(at)), frame.x.end]
    values = [dict(s.finite()) for s in series]
    out = []
    for i, x in enumerate(at):
        text, dots = [f"{x_label} {number(x)}"], []
        for c, (s, known) in enumerate(zip(series, values)):
            if x in known:
                text.append(f"{s.name} {number(known[x])}")
                dots.append(
                    node("circle", cx=frame.x(x), cy=frame.y(known[x]), r=3.5, class_=f"fill c{c % COLOURS} hid")
                )
        box = node(
            "rect",
            x=edges[i],
            y=frame.y.end,
            width=max(0.0, edges[i + 1] - edges[i]),
            height=frame.y.start - frame.y.end,
            class_="hit",
        )
        rule = line(frame.x(x), frame.y.start, frame.x(x), frame.y.end, "cross hid")
        out.append(node("g", node("title", escape("\n".join(text))), box, rule, *dots, class_="hover"))
    return out


def line_chart(series: Sequence[Series], title: str, x_label: str = "step", log_y: bool = False) -> str:
    """Curves over a common x with axes, legend, smoothing and hover values. log_y falls back where a value is not
    positive."""
    drawn = [s.finite() for s in series]
    ys = [y for points in drawn for _, y in points]
    if not ys:
        return node("p", escape(f"{title}: no finite value to draw."), class_="empty")
    xs = [x for points in drawn for x, _ in points]
    log = log_y and min(ys) > 0 and max(ys) / min(ys) > 20
    low, high = (min(ys) * 0.9, max(ys) * 1.1) if log else spread(ys)
    if min(ys) >= 0 > low:
        low = 0.0
    many = len(series) > 1
    frame = Frame(Scale(*_ends(xs), 50, WIDTH - 12), Scale(low, high, HEIGHT - 34, 30 if many else 16, log))
    body = frame.grid(x_label=x_label)
    for c, points in enumerate(drawn):
        if points:
            body += _curve(points, frame, c % COLOURS)
    if many:
        body += legend([s.name for s in series], 50, 14)
    body += _hovers(series, frame, x_label)
    lost = sum(len(s.y) - len(points) - sum(v is None for v in s.y) for s, points in zip(series, drawn))
    told = "; ".join(f"{s.name} from {number(p[0][1])} to {number(p[-1][1])}" for s, p in zip(series, drawn) if p)
    note = node("p", f"{lost} values are not finite and not drawn.", class_="warn small") if lost else ""
    return svg(WIDTH, HEIGHT, title, body, told) + note


def _ends(xs: Sequence[float]) -> tuple[float, float]:
    low, high = min(xs), max(xs)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def legend(names: Sequence[str], x: float, y: float, mark: str = "curve") -> list[str]:
    """Names with their colours, left to right."""
    out = []
    for c, name in enumerate(names):
        if mark == "curve":
            out.append(line(x, y - 4, x + 14, y - 4, f"curve c{c % COLOURS}"))
        else:
            out.append(node("circle", cx=x + 7, cy=y - 4, r=4.0, class_=f"{mark} c{c % COLOURS}"))
        out.append(label(name, x + 19, y, class_="t"))
        x += 30 + 6.2 * len(name)
    return out


def histogram(sets: Sequence[tuple[str, Sequence[float]]], title: str, x_label: str = "value", bins: int = 24) -> str:
    """Distributions of one or more sets over shared bins, as shares of their set so that sizes may differ."""
    kept = [(name, [float(v) for v in values if math.isfinite(v)]) for name, values in sets]
    every = [v for _, values in kept for v in values]
    if not every:
        return node("p", escape(f"{title}: no finite value to draw."), class_="empty")
    low, high = _ends(every)
    if all(v == int(v) for v in every):
        low, high = low - 0.5, high + 0.5
        bins = min(bins, max(1, round(high - low)))
    width = (high - low) / bins
    shares = []
    for _, values in kept:
        counts = [0] * bins
        for v in values:
            counts[min(bins - 1, int((v - low) / width))] += 1
        shares.append([n / max(1, len(values)) for n in counts])
    top = max(max(s) for s in shares)
    many = len(kept) > 1
    frame = Frame(Scale(low, high, 50, WIDTH - 12), Scale(0, top * 1.06, HEIGHT - 34, 30 if many else 16))
    body = frame.grid(x_label=x_label)
    for c, (name, share) in enumerate(zip((k[0] for k in kept), shares)):
        for i, s in enumerate(share):
            if s == 0:
                continue
            wide = (frame.x(low + width) - frame.x(low)) / len(kept)  # sets stand side by side inside a bin
            a = frame.x(low + i * width) + c * wide
            told = f"{name}: {s:.1%} in {number(low + i * width)} to {number(low + (i + 1) * width)}"
            bar = {"x": a + 0.4, "y": frame.y(s), "width": max(0.5, wide - 0.8), "height": frame.y.start - frame.y(s)}
            body.append(node("rect", node("title", escape(told)), **bar, class_=f"bar c{c % COLOURS}"))
    if many:
        body += legend([k[0] for k in kept], 50, 14, "fill")
    return svg(WIDTH, HEIGHT, title, body)


def reliability_diagram(bins: Sequence[Bin], title: str) -> str:
    """Observed rate against stated probability, with Wilson intervals and the diagonal of perfect calibration."""
    size = 300.0
    frame = Frame(Scale(0, 1, 44, size - 12), Scale(0, 1, size - 36, 16))
    body = frame.grid(x_label="stated probability", x_ticks=4, y_ticks=4)
    body.append(line(frame.x(0), frame.y(0), frame.x(1), frame.y(1), "reference"))
    total = sum(b.observed.n for b in bins) or 1
    for b in bins:
        x, o = frame.x(b.stated), b.observed
        told = node("title", escape(f"stated {b.stated:.3f}, observed {o} of {o.n}"))
        dot = node("circle", cx=x, cy=frame.y(o.estimate), r=2.5 + 4 * math.sqrt(o.n / total), class_="fill c0")
        body.append(node("g", told, line(x, frame.y(o.low), x, frame.y(o.high), "whisker c0"), dot, class_="mark"))
    return svg(size, size, title, body)


def scatter(points: Sequence[tuple[str, float, Interval]], title: str, x_label: str, y_label: str) -> str:
    """Named points with an interval upwards: quality against its cost."""
    if not points:
        return node("p", escape(f"{title}: nothing to draw."), class_="empty")
    ends = [v for _, _, i in points for v in ((i.low, i.high) if i.known else (i.estimate,))]
    x_low, x_high = spread([x for _, x, _ in points], 0.1)
    wide = 460.0
    frame = Frame(Scale(x_low, x_high, 50, wide - 30), Scale(*spread(ends), HEIGHT - 34, 30))
    body = frame.grid(x_label=x_label, y_label=y_label)
    taken = [(frame.x(x) - 6, frame.y(i.estimate) - 6, frame.x(x) + 6, frame.y(i.estimate) + 6) for _, x, i in points]
    for c, (name, x, i) in enumerate(points):
        px, py = frame.x(x), frame.y(i.estimate)
        marks = [node("title", escape(f"{name}: {x_label} {number(x)}, {y_label} {i}"))]
        if i.known:
            marks.append(line(px, frame.y(i.low), px, frame.y(i.high), f"whisker c{c % COLOURS}"))
        marks.append(node("circle", cx=px, cy=py, r=4.5, class_=f"fill c{c % COLOURS}"))
        tx, ty, anchor = _place(px, py, TEXT * 1.1 * len(name), wide, taken)
        marks.append(label(name, tx, ty, anchor, "t strong"))
        body.append(node("g", *marks, class_="mark"))
    return svg(wide, HEIGHT, title, body)


def _place(
    x: float, y: float, length: float, width: float, taken: list[tuple[float, float, float, float]]
) -> tuple[float, float, str]:
    """Where a name beside a point hides least: right, left, above, below. Remembers the box it takes."""
    best: tuple[float, tuple[float, float, str], tuple[float, float, float, float]] | None = None
    for tx, ty, anchor, left in (
        (x + 9, y + 4, "start", x + 9),
        (x - 9, y + 4, "end", x - 9 - length),
        (x, y - 14, "middle", x - length / 2),
        (x, y + 22, "middle", x - length / 2),
    ):
        box = (left, ty - 10, left + length, ty + 3)
        hidden = sum(
            max(0.0, min(box[2], t[2]) - max(box[0], t[0])) * max(0.0, min(box[3], t[3]) - max(box[1], t[1]))
            for t in taken
        )
        hidden += 1e6 * (box[0] < 0 or box[2] > width)
        if best is None or hidden < best[0] - 1e-9:
            best = (hidden, (tx, ty, anchor), box)
    assert best is not None
    taken.append(best[2])
    return best[1]
