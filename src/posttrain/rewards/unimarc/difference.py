"""What differs between two records: leader, control fields and subfields, as a list that people read. Field order does not count."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from posttrain.rewards.unimarc.record import Record, read


class Difference(NamedTuple):
    """A value on one side only. place: ``LDR``, ``001`` or ``200 1# $a``. a, b: the value on that side, None on the other."""

    place: str
    a: str | None
    b: str | None


def _rows(record: Record) -> Counter[tuple[str, str]]:
    rows = Counter({("LDR", record.leader): 1})
    for f in record.fields:
        if f.is_control:
            rows[f.tag, f.value or ""] += 1
        for code, value in f.subfields:
            rows[f"{f.tag} {f.indicators.replace(' ', '#')} ${code}", value] += 1
    return rows


def diff(a: Record | str | bytes, b: Record | str | bytes) -> list[Difference]:
    """Values that only one of two records has, by place; one-sided values of the same place are paired. RecordError on bad text."""
    left, right = (_rows(r if isinstance(r, Record) else read(r)) for r in (a, b))
    gone: dict[str, list[str]] = {}
    come: dict[str, list[str]] = {}
    for side, rows in ((gone, left - right), (come, right - left)):
        for place, value in sorted(rows.elements()):
            side.setdefault(place, []).append(value)
    out = []
    for place in sorted(gone.keys() | come.keys(), key=lambda p: (p != "LDR", p)):
        old, new = gone.get(place, []), come.get(place, [])
        for n in range(max(len(old), len(new))):
            out.append(Difference(place, old[n] if n < len(old) else None, new[n] if n < len(new) else None))
    return out
