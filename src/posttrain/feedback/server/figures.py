"""Two figures of the dashboard as SVG: intervals on one axis, and who agrees with whom. Every text in them is escaped."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup, escape

from posttrain.stats import Interval

WIDTH, ROW, LEFT, RIGHT = 560, 26, 205, 132


def intervals(
    rows: Sequence[tuple[str, Interval]], title: str, low: float, high: float, mark: float | None = None,
    say: Callable[[str], str] = str,
) -> Markup:  # fmt: skip
    """A dot and a line for each; what is not known says why. say: puts names and reasons into the reader's language."""
    if not rows:
        return Markup("")
    low = min([low, *(i.low for _, i in rows if i.known), *(i.estimate for _, i in rows if not math.isnan(i.estimate))])
    low = low if low >= 0 else float(math.floor(low))  # so that the marks of the axis are round

    def x(value: float) -> float:
        return round(LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    height = ROW * len(rows) + 26
    out = [f'<svg class="figure" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">']
    steps = [low + (high - low) * k / 4 for k in range(5)]
    for s in steps:
        out.append(
            f'<line class="axis" x1="{x(s)}" x2="{x(s)}" y1="0" y2="{height - 20}"/>'
            f'<text class="dim" x="{x(s)}" y="{height - 5}" text-anchor="middle">{s:.2g}</text>'
        )
    if mark is not None:
        out.append(f'<line class="mid" x1="{x(mark)}" x2="{x(mark)}" y1="0" y2="{height - 20}"/>')
    for n, (name, i) in enumerate(rows):
        y = ROW * n + 15
        out.append(f'<text x="0" y="{y + 4}">{escape(say(name)[:32])}</text>')
        if math.isnan(i.estimate):
            why = "too few items" if i.method.startswith("too few") else i.method
            out.append(f'<text class="dim" x="{LEFT + 6}" y="{y + 4}">{escape(say(why)[:44])}</text>')
            continue
        if i.known:
            out.append(f'<line class="range" x1="{x(i.low)}" x2="{x(min(i.high, high))}" y1="{y}" y2="{y}"/>')
        told = f"{i.estimate:.2f} [{i.low:.2f}, {i.high:.2f}]" if i.known else f"{i.estimate:.2f}"
        out.append(
            f'<circle class="dot" cx="{x(i.estimate)}" cy="{y}" r="4.5"/><text x="{WIDTH}" y="{y + 4}" text-anchor="end">{told}</text>'
        )
    return Markup("".join(out) + "</svg>")


def heat(
    shown: Sequence[str], ids: Sequence[str], matrix: Mapping[tuple[str, str], tuple[float, int]], title: str, verdicts: str,
    most: int = 16,
) -> Markup:  # fmt: skip
    """Shares of equal verdicts for each two people. verdicts: ``{n} of verdicts`` in the reader's language."""
    shown, ids = shown[:most], ids[:most]
    if len(ids) < 2:
        return Markup("")
    cell, left, top = 46, 120, 30
    wide, high = left + cell * len(ids), top + cell * len(ids)
    frame = f'viewBox="0 0 {wide} {high}" width="{wide}" height="{high}"'
    out = [f'<svg class="figure heat" {frame} role="img" aria-label="{escape(title)}">']
    for n, name in enumerate(shown):
        out.append(f'<text x="{left - 8}" y="{top + cell * n + 27}" text-anchor="end">{escape(name[:15])}</text>')
        out.append(
            f'<text class="dim" x="{left + cell * n + cell / 2}" y="20" text-anchor="middle">{escape(name[:6])}</text>'
        )
    for r, a in enumerate(ids):
        for c, b in enumerate(ids):
            share, n = matrix.get((a, b), matrix.get((b, a), (math.nan, 0)))
            if a == b or not n:
                continue
            x, y = left + cell * c, top + cell * r
            light = ' class="light"' if share > 0.6 else ""
            out.append(
                f"<g><title>{escape(shown[r])}, {escape(shown[c])}: {escape(verdicts.replace('{n}', f'{share:.0%} ({n})'))}</title>"
                f'<rect class="cell" x="{x + 1}" y="{y + 1}" width="{cell - 2}" height="{cell - 2}" rx="5" '
                f'fill-opacity="{max(0.06, share):.2f}"/>'
                f'<text{light} x="{x + cell / 2}" y="{y + 27}" text-anchor="middle">{share:.0%}</text></g>'
            )
    return Markup("".join(out) + "</svg>")
