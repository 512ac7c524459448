"""Who judges with care? Each annotator's rankings come from Davidson-Luce with probability q, else from a blind draw.

``P = q_a Luce(strengths) + (1 - q_a) Luce(all equal)``, q_a ~ Beta(8, 2), by EM (a blind
draw ties as often as others do): the share of each ranking that was careful is its weight in
the strengths. The interval of q_a is its Beta posterior at the last shares. It weighs labels; it is never shown as a score of worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from posttrain.feedback.aggregate import luce
from posttrain.stats import Interval

A, B = 8.0, 2.0


@dataclass(frozen=True)
class Reliable:
    """fit: strengths. care [rankings]: probability that each ranking was careful. q: by annotator, with its interval."""

    fit: luce.Fit
    care: np.ndarray
    q: dict[str, Interval]


def fit(
    rankings: Sequence[luce.Tiers], item: Sequence[int], who: Sequence[str], n: int, items: int, rounds: int = 40
) -> Reliable:
    """Strengths and reliabilities together; the three sequences go ranking by ranking."""
    names = sorted(set(who))
    at = np.array([names.index(w) for w in who], dtype=np.int64) if names else np.zeros(0, dtype=np.int64)
    q = np.full(len(names), A / (A + B))
    largest = max((len(t) for r in rankings for t in r), default=1)
    parts = luce.stages(rankings, item, n, largest, items)
    level = np.zeros((items, n))
    care = q[at]
    b, log_d = luce.start(n, items, largest)
    b, _ = luce.strengths(parts, b, log_d, care, steps=6)
    for _ in range(rounds):
        log_d = luce.ties(parts, b, log_d, care, steps=2)
        blind = luce.log_likelihood(parts, level, log_d, len(rankings))
        careful = np.log(q[at]) + luce.log_likelihood(parts, b, log_d, len(rankings))
        care = 1 / (1 + np.exp(np.clip(np.log1p(-q[at]) + blind - careful, -700, 700)))
        total, count = np.bincount(at, care, len(names)), np.bincount(at, minlength=len(names))
        new = (total + A - 1) / (count + A + B - 2)
        b, _ = luce.strengths(parts, b, log_d, care, steps=2)  # a few Newton steps a round: generalised EM
        moved = float(np.abs(new - q).max(initial=0.0))
        q = new
        if moved < 1e-4:
            break
    b, information = luce.strengths(parts, b, log_d, care)
    covariance: luce.Floats = np.asarray(np.linalg.inv(information), np.float64)
    fitted = luce.Fit(b, covariance, log_d)
    told = {}
    for k, name in enumerate(names):
        mine = at == k
        right, wrong = A + float(care[mine].sum()), B + float((1 - care[mine]).sum())
        low, high = beta.ppf([0.025, 0.975], right, wrong)
        told[name] = Interval(float(q[k]), float(low), float(high), int(mine.sum()), "Beta posterior")
    return Reliable(fitted, care, told)
