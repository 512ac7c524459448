"""From a judge's words to the ledger: verdicts as rankings, written beside those of people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from posttrain.core.group import Group
from posttrain.rewards.judge import Comparison

if TYPE_CHECKING:
    from posttrain.feedback.judges import Kept

Verdict = tuple[tuple[int, ...], ...] | str | None
"""Tiers of response places, best first; ``both_bad``; or None where the judge could not be read."""


def by_pairs(n: int, found: Sequence[Comparison]) -> Verdict:
    """The verdict on n answers from comparisons: by the mean probability of winning; None where a pair could not be read."""
    if not found or any(c.p is None for c in found):
        return None
    if all(c.both_bad for c in found):
        return "both_bad"
    wins = [0.0] * n
    for c in found:
        assert c.p is not None
        wins[c.i] += c.p
        wins[c.j] += 1 - c.p
    return tiers(wins)


def by_scores(group: Group) -> Verdict:
    """The verdict from marks or ranks; None where an answer has none, or there is one answer."""
    values = [r.score.value for r in group.responses if r.score is not None and r.score.value is not None]
    return tiers(values) if len(values) == len(group.responses) > 1 else None


def tiers(values: Sequence[float]) -> tuple[tuple[int, ...], ...]:
    """Places by value, the highest first; equal values (to nine digits) share a tier.

    >>> tiers([0.5, 1.0, 0.5])
    ((1,), (0, 2))
    """
    rounded = [round(v, 9) for v in values]
    return tuple(tuple(i for i, v in enumerate(rounded) if v == value) for value in sorted(set(rounded), reverse=True))


def keep(ledger: str, queue: str, judge: str, groups: Sequence[Group], verdicts: Sequence[Verdict]) -> Kept:
    """Write verdicts into a ledger, which is made where there is none. Raises ValueError as `feedback.judges.keep` does."""
    from posttrain.feedback import judges, queues
    from posttrain.feedback.ledger import Ledger

    opened = Ledger(ledger)
    try:
        with opened.write() as connection:
            known = next((q for q in queues.queues(connection) if q.name == queue), None)
            return judges.keep(
                connection, known or queues.make(connection, queue, queues.Settings()), judge, groups, verdicts
            )
    finally:
        opened.close()
