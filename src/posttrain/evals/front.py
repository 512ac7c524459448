"""Trade-offs: which models no other beats on every objective at once (Pareto), for a person to choose from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def front(points: Mapping[str, Sequence[float]]) -> list[str]:
    """Names of the points that no other is at least as good as everywhere and better somewhere; higher is better in each place.

    Raises ValueError where points differ in length. Equal points stay together.
    """
    if len({len(p) for p in points.values()}) > 1:
        raise ValueError("every model needs a value for each objective")
    return [a for a, x in points.items() if not any(_beats(y, x) for b, y in points.items() if b != a)]


def _beats(y: Sequence[float], x: Sequence[float]) -> bool:
    return all(q >= p for p, q in zip(x, y)) and any(q > p for p, q in zip(x, y))


def hypervolume(points: Sequence[Sequence[float]], origin: Sequence[float]) -> float:
    """Area that points of two objectives dominate above `origin`: one number for how good a front is."""
    kept = sorted(((x - origin[0], y - origin[1]) for x, y in points if x > origin[0] and y > origin[1]), reverse=True)
    area, top = 0.0, 0.0
    for i, (x, y) in enumerate(kept):
        top = max(top, y)
        following = kept[i + 1][0] if i + 1 < len(kept) else 0.0
        area += (x - following) * top
    return area
