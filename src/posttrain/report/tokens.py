"""Which tokens a policy says more or less often after training, from two tables of counts.

A token's shift is its part of the Jensen-Shannon divergence of the two distributions (Lin 1991), in bits: rare tokens
that doubled weigh less than common ones that moved. Leaves out: which contexts the shift comes from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from posttrain.report.axes import node
from posttrain.report.dots import dumbbell
from posttrain.report.page import figure, tiles

TOP = 12


@dataclass(frozen=True, slots=True)
class Shift:
    """A token, its share before and after, and its part of the divergence in bits."""

    token: str
    before: float
    after: float
    bits: float


@dataclass(frozen=True, slots=True)
class Shifts:
    """Divergence in bits (0 equal, 1 nothing shared), totals, distinct tokens, and tokens by weight of their shift."""

    divergence: float
    totals: tuple[int, int]
    distinct: tuple[int, int]
    tokens: tuple[Shift, ...]


def token_shifts(before: Mapping[str, int], after: Mapping[str, int]) -> Shifts:
    """Compare two count tables. Raises ValueError when one is empty or a count is negative."""
    for name, counts in (("before", before), ("after", after)):
        if sum(counts.values()) <= 0 or any(v < 0 for v in counts.values()):
            raise ValueError(f"token_counts.{name} needs counts of 0 or more with a positive sum")
    total_b, total_a = sum(before.values()), sum(after.values())
    out = []
    for token in {**before, **after}:
        p, q = before.get(token, 0) / total_b, after.get(token, 0) / total_a
        middle = (p + q) / 2
        bits = sum(0.5 * s * math.log2(s / middle) for s in (p, q) if s > 0)
        out.append(Shift(token, p, q, max(0.0, bits)))
    out.sort(key=lambda s: (-s.bits, s.token))
    distinct = tuple(sum(v > 0 for v in c.values()) for c in (before, after))
    return Shifts(min(1.0, sum(s.bits for s in out)), (total_b, total_a), (distinct[0], distinct[1]), tuple(out))


def visible(token: str) -> str:
    """A token with its white space drawn and control characters named."""
    drawn = token.replace("\u0120", " ").replace("\u2581", " ").replace("\u010a", "\n")
    named = {" ": "␣", "\n": "↵", "\t": "⇥"}
    return "".join(named.get(c) or (c if c.isprintable() else f"\\x{ord(c):02x}") for c in drawn) or "(empty)"


def tokens_markup(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    """Headline numbers and the tokens that rose and fell most, in occurrences per 1,000 tokens."""
    s = token_shifts(before, after)
    head = tiles(
        [
            ("Divergence", f"{s.divergence:.4f} bits", "Jensen-Shannon, 0 is equal and 1 nothing shared"),
            ("Tokens counted", f"{s.totals[1]:,}", f"before {s.totals[0]:,}"),
            ("Distinct tokens", f"{s.distinct[1]:,}", f"before {s.distinct[0]:,}"),
        ]
    )
    drawings = []
    for title, chosen in (
        ("Said more often", [t for t in s.tokens if t.after > t.before][:TOP]),
        ("Said less often", [t for t in s.tokens if t.after < t.before][:TOP]),
    ):
        rows = [
            (visible(t.token), 1000 * t.before, 1000 * t.after)
            for t in sorted(chosen, key=lambda t: -abs(t.after - t.before))
        ]
        drawings.append(figure(title, dumbbell(rows, title, "per 1,000 tokens")))
    note = f"The {TOP} largest shifts each way of {len(s.tokens):,} tokens, by their part of the divergence."
    return head + node("div", *drawings, class_="pair") + node("p", escape(note), class_="muted small")
