"""Counter-examples for failed tests, as preference pairs to train on; and the paired comparison of two audits.

A fifth of the items of each test is held back by a hash of the item, so that auditing again on those is honest. Where the variant should
not matter the pair prefers the plain answer over the dressed one at 0.5 (equivalence) or 1 (a ceiling was broken: it must not gain).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from posttrain.audit.findings import AuditReport, TestResult
from posttrain.audit.probe import Measured
from posttrain.core.files import hash_json
from posttrain.core.group import Group, Preference, answer
from posttrain.stats import Interval, cluster_bootstrap, mcnemar_exact, sign_flip

KEPT_BACK = 5
SOFT = {"T04": 0.5, "T12": 0.5}
"""Tests whose variants are worth the same."""
A_IS_BETTER = ("T01", "T03", "T07", "T13", "T14")
"""Tests whose margins name the answer that ought to win first."""


def held_back(item: str) -> bool:
    """Is this item never given out for training?"""
    return int(hash_json(["held back", item])[:8], 16) % KEPT_BACK == 0


def counter_examples(measured: Sequence[Measured], results: Sequence[TestResult]) -> Iterator[Group]:
    """Groups of two with a preference, one per row of every failed arm of a test whose items have two answers."""
    failed = {(r.id, r.arm, r.lang) for r in results if r.verdict == "fail"}
    for m in measured:
        if (m.test, m.arm, m.lang) not in failed or len(m.rows) != len(m.cluster):
            continue
        for item, row in zip(m.cluster, m.rows, strict=True):
            if row.a == row.b or held_back(item) or m.test == "P0":
                continue
            first = (
                m.test in A_IS_BETTER
                or (m.test in ("T04", "T05", "T10", "T12") and "order" in m.arm)
                or "wrong over" in m.arm
            )
            p = SOFT.get(m.test, 1.0) if not first else 1.0
            better, worse = (row.a, row.b) if first else (row.b, row.a)
            facts = {"id": f"{item}/{m.test}/{m.arm}", "audit": m.test, "arm": m.arm, "lang": m.lang, "source": "audit"}
            yield Group(row.prompt, (answer(better), answer(worse)), (Preference(0, 1, p),), facts=facts)


@dataclass(frozen=True, slots=True)
class Change:
    """How one arm moved from one audit to another, paired by item. p: exact McNemar for rates, sign flips for shifts."""

    test: str
    arm: str
    lang: str
    before: float
    after: float
    change: Interval
    p: float
    items: int
    method: str

    def to_json(self) -> dict[str, Any]:
        ends = (None, None) if not self.change.known else (self.change.low, self.change.high)
        shown = {
            name: getattr(self, name) for name in ("test", "arm", "lang", "before", "after", "p", "items", "method")
        }
        return {**shown, "change": self.change.estimate, "low": ends[0], "high": ends[1]}


def compare(before: AuditReport, after: AuditReport, only_held_back: bool = False, seed: int = 0) -> list[Change]:
    """Paired change of every arm that both audits ran on the same items. only_held_back: on items never given out for training."""
    old = {(m.test, m.arm, m.lang): m for m in before.measured}
    out = []
    for m in after.measured:
        then = old.get((m.test, m.arm, m.lang))
        if then is None or m.evidence is None or then.evidence is None or m.test in ("P0", "T16", "T17", "T19"):
            continue
        made = _change(then, m, only_held_back, seed)
        if made is not None:
            out.append(made)
    return out


def _change(then: Measured, now: Measured, only_held_back: bool, seed: int) -> Change | None:
    if len(then.cluster) != then.values.size or len(now.cluster) != now.values.size:
        return None
    first, second = _by_row(then), _by_row(now)
    keys = [k for k in first if k in second and (not only_held_back or held_back(k[0]))]
    if len(keys) < 2:
        return None
    a, b = np.asarray([first[k] for k in keys]), np.asarray([second[k] for k in keys])
    ids = [k[0] for k in keys]
    change = cluster_bootstrap(b - a, ids, reps=2000, seed=seed)
    rate = bool(np.isin(np.concatenate([a, b]), (0.0, 1.0)).all()) and len(set(ids)) == len(ids)
    if rate:
        p, method = mcnemar_exact(int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())), "McNemar, exact"
    else:
        p, method = sign_flip(b - a, ids, reps=2000, seed=seed), "sign flips"
    return Change(now.test, now.arm, now.lang, float(a.mean()), float(b.mean()), change, p, len(set(ids)), method)


def _by_row(m: Measured) -> dict[tuple[str, int], float]:
    seen: dict[str, int] = {}
    out = {}
    for item, value in zip(m.cluster, m.values, strict=True):
        seen[item] = seen.get(item, 0) + 1
        out[item, seen[item]] = float(value)
    return out
