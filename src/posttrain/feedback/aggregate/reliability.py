"""Who judges with care? Each annotator's rankings come from Davidson-Luce with probability q, else from a blind draw.

``P = q_a Luce(strengths) + (1 - q_a) Luce(all equal)`` (a blind draw ties as often as others do). The care of all annotators is where the
marginal likelihood is highest on the log-odds scale, q_a ~ Beta(0.8, 0.2): four in five careful, worth one judgment. An item has as many
strengths as answers and few judgments, so the likelihood is averaged over its strengths: draws around the fit, weighed by prior over the
density that they were drawn from. The fitted strengths in their place would follow the majority, and careless people who agree by chance
would look careful. Each ranking's chance of having been careful is its weight in the strengths; strengths and draws are then made anew.
Intervals of q_a are normal on the log-odds, from the squared scores of the items (Louis 1982). It weighs labels; it is never shown as a
score of worth. Leaves out: people who are careful on some subjects only, or who turn answers round on purpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit, logit

from posttrain.feedback.aggregate import luce
from posttrain.stats import Interval

A, B = 0.8, 0.2
PASSES = 4
"""How often strengths and draws are made anew."""
CELLS = 1_000_000
"""Rankings times draws held at once: many judgments take fewer draws, as each person's care is a mean over many items."""
LIMIT = 9.0
"""Log-odds of q stay within: a person without one doubtful judgment has no finite maximum of the likelihood alone."""


@dataclass(frozen=True)
class Reliable:
    """fit: strengths. care [rankings]: probability that each ranking was careful. q: by annotator, with its interval."""

    fit: luce.Fit
    care: luce.Floats
    q: dict[str, Interval]


def fit(rankings: Sequence[luce.Tiers], item: Sequence[int], who: Sequence[str], n: int, items: int) -> Reliable:
    """Strengths and reliabilities together; the three sequences go ranking by ranking."""
    names, count = sorted(set(who)), len(rankings)
    place = {name: k for k, name in enumerate(names)}
    at = np.array([place[w] for w in who], dtype=np.int64)
    where = np.asarray(item, dtype=np.int64)
    largest = max((len(t) for r in rankings for t in r), default=1)
    parts = luce.stages(rankings, item, n, largest, items)
    q, care = np.full(len(names), A / (A + B)), np.full(count, A / (A + B))
    b, log_d = luce.start(n, items, largest)
    half = np.random.default_rng(0).standard_normal((int(np.clip(CELLS // max(count, 1), 32, 128)) // 2, n))
    normal = np.concatenate([half, -half])  # so that turning all answers round turns the result round
    for _ in range(PASSES if names else 0):
        for _ in range(2):
            b, information = luce.strengths(parts, b, log_d, care)
            log_d = luce.ties(parts, b, log_d, care)
        draws, weight = _around(b, information, normal)
        careful = np.exp([luce.log_likelihood(parts, drawn, log_d, count) for drawn in draws])
        blind = np.exp(luce.log_likelihood(parts, np.zeros_like(b), log_d, count))
        q, care = Shares(at, where, careful, blind, weight).best(q)
    b, information = luce.strengths(parts, b, log_d, care)
    covariance: luce.Floats = np.asarray(np.linalg.inv(information), np.float64)
    return Reliable(luce.Fit(b, covariance, log_d), care, _told(names, q, at, where, care))


def _around(b: luce.Floats, information: luce.Floats, normal: luce.Floats) -> tuple[luce.Floats, luce.Floats]:
    """Strengths [draws, items, n] around a fit, and log of prior over the density drawn from [draws, items], up to a constant.

    They spread wider than the fit's own uncertainty, as a narrow sample would be ruled by its edge; less so in more dimensions.
    """
    root = (1 + 1 / b.shape[1]) * np.linalg.cholesky(np.linalg.inv(information))
    draws = b + np.einsum("inm,sm->sin", root, normal)
    prior = -(draws**2).sum(axis=2) / (2 * luce.PRIOR**2)
    return draws, prior + (normal**2).sum(axis=1)[:, None] / 2


@dataclass
class Shares:
    """The marginal likelihood of care. at, where [rankings]: annotator and item of each. careful [draws, rankings], blind [rankings]:
    likelihoods of a ranking. weight [draws, items]: log weight of each draw."""

    at: np.ndarray
    where: np.ndarray
    careful: luce.Floats
    blind: luce.Floats
    weight: luce.Floats

    def __post_init__(self) -> None:
        count, items = len(self.at), self.weight.shape[1]
        self.gather = csr_array((np.ones(count), (self.where, np.arange(count))), shape=(items, count))

    def best(self, q: luce.Floats) -> tuple[luce.Floats, luce.Floats]:
        """(q, care) where the posterior is highest, sought from q on."""
        ends = [(-LIMIT, LIMIT)] * len(q)
        made = minimize(lambda x: self.loss(expit(x))[:2], logit(q), jac=True, method="L-BFGS-B", bounds=ends)
        found = np.asarray(expit(made.x), np.float64)
        return found, self.loss(found)[2]

    def loss(self, q: luce.Floats) -> tuple[float, luce.Floats, luce.Floats]:
        """(minus log posterior, its slope in the log-odds of q, chance of each ranking that it was careful)."""
        own = q[self.at] * self.careful
        mixed = own + (1 - q[self.at]) * self.blind
        log = self.weight + (self.gather @ np.log(mixed).T).T
        top = log.max(axis=0)
        share = np.exp(log - top)
        total = share.sum(axis=0)
        care = ((share / total)[:, self.where] * own / mixed).sum(axis=0)
        value = (top + np.log(total)).sum() + (A * np.log(q) + B * np.log1p(-q)).sum()
        slope = np.bincount(self.at, care - q[self.at], len(q)) + A - (A + B) * q
        return -float(value), -slope, care


def _told(
    names: Sequence[str], q: luce.Floats, at: np.ndarray, where: np.ndarray, care: luce.Floats
) -> dict[str, Interval]:
    """By annotator: the mode, and an interval from the information that prior and items hold about everybody's care at once."""
    score = csr_array((care - q[at], (at, where)), shape=(len(q), int(where.max(initial=-1)) + 1))
    information = (score @ score.T).toarray() + np.diag((A + B) * q * (1 - q))
    reach = 1.96 * np.sqrt(np.diag(np.linalg.inv(information)))
    low, high, judged = expit(logit(q) - reach), expit(logit(q) + reach), np.bincount(at, minlength=len(q))
    ends = zip(names, q, low, high, judged, strict=True)
    return {who: Interval(float(m), float(x), float(y), int(k), "normal on the log-odds") for who, m, x, y, k in ends}
