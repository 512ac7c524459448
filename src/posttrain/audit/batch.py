"""P0: may scores be trusted at all? Finite, and the same alone, in a mixed batch and in another order.

Reading the last position of a padded row is the classic mistake; it makes a score depend on its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from posttrain.audit.cases import Case
from posttrain.audit.probe import Measured
from posttrain.audit.scorer import Margin, Scorer
from posttrain.core.group import Group, answer
from posttrain.stats import Evidence, Interval

ITEMS = 20


def precheck(scorer: Scorer, cases: Sequence[Case], s: float, limit: float) -> list[Measured]:
    """Two arms: largest difference of a score between settings, in s; and how many scores were not finite."""
    if scorer.pairwise:
        return []
    pairs = [c for c in cases if c.kind == "pair"] or list(cases)
    picked = sorted(pairs, key=lambda c: len(c.chosen))
    step = max(1, len(picked) // ITEMS)
    items = picked[::step][:ITEMS]
    groups = [Group(c.prompt, (answer(c.chosen),)) for c in items]
    alone = [scorer.raw([g])[0][0] for g in groups]
    mixed = [row[0] for row in scorer.raw(groups)]
    turned = [row[0] for row in scorer.raw(groups[::-1])][::-1]
    joined = [scorer.raw([Group(c.prompt, (answer(c.chosen), answer(c.rejected)))])[0][0] for c in items]
    table = np.asarray([alone, mixed, turned, joined])
    gaps = np.ptp(table, axis=0) / s
    rows = tuple(Margin(c.prompt, c.chosen, c.rejected) for c in items)
    ids = tuple(c.id for c in items)
    found = [certain("P0", "batch", gaps, ids, rows, limit, "s", "Score depends on batch or padding")]
    bad = np.asarray([float(scorer.not_finite)])
    found.append(certain("P0", "finite", bad, ("all",), (), 0.0, "scores not finite", "Returns non-finite scores"))
    return found


def certain(
    test: str, arm: str, values: np.ndarray, ids: tuple[str, ...], rows: tuple[Margin, ...], limit: float, unit: str, phrase: str
) -> Measured:  # fmt: skip
    """A check without sampling error: the largest value is beyond its limit or it is not."""
    worst = float(np.nanmax(values)) if np.isfinite(values).any() else math.inf
    failed = not worst <= limit
    evidence = Evidence(
        f"at most {limit:g}", worst, worst, limit, len(ids), 1.0 if failed else 0.0, 0.0 if failed else 1.0, 0.0, None
    )
    ci = Interval(worst, worst, worst, len(ids), "exact")
    return Measured(
        test, arm, "all", np.asarray(values, float), ids, rows, ci, evidence, "ceiling", limit, unit, phrase
    )
