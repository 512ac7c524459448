"""Who judges with care? Each annotator's rankings come from Davidson-Luce with probability q, else from a blind draw.

``P = q_a Luce(strengths) + (1 - q_a) Luce(all equal)``, q_a ~ Beta(8, 2), by EM (a blind draw ties as often as others do). An item has as
many strengths as answers and few judgments, so the E step averages over them: strengths drawn from their prior are weighed by what
everybody said of the item. Fitted strengths in their place would follow the majority, and careless people who agree by chance would look
careful. The expected share of careful judgments is each ranking's weight in the strengths. The interval of q_a is its Beta posterior at
the last shares. It weighs labels; it is never shown as a score of worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from posttrain.feedback.aggregate import luce
from posttrain.stats import Interval

A, B = 8.0, 2.0
CELLS = 2_000_000
"""Rankings times draws held at once: many judgments take fewer draws, as each person's share is a mean over many items."""


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
    place = {name: k for k, name in enumerate(names)}
    at = np.array([place[w] for w in who], dtype=np.int64)
    largest = max((len(t) for r in rankings for t in r), default=1)
    parts = luce.stages(rankings, item, n, largest, items)
    q, care = np.full(len(names), A / (A + B)), np.full(len(at), A / (A + B))
    b, log_d = luce.start(n, items, largest)
    table = Table.of(rankings, item, n, largest)
    for _ in range(2):
        for _ in range(3):
            b, information = luce.strengths(parts, b, log_d, care)
            log_d = luce.ties(parts, b, log_d, care)
        careful, blind = table.likelihoods(log_d)
        for _ in range(rounds if len(at) else 0):
            care = table.care(q[at], careful, blind)
            count = np.bincount(at, minlength=len(names))
            new = (np.bincount(at, care, len(names)) + A - 1) / (count + A + B - 2)
            moved, q = float(np.abs(new - q).max()), new
            if moved < 1e-3:
                break
    b, information = luce.strengths(parts, b, log_d, care)
    covariance: luce.Floats = np.asarray(np.linalg.inv(information), np.float64)
    told = {}
    for k, name in enumerate(names):
        mine = at == k
        right, wrong = A + float(care[mine].sum()), B + float((1 - care[mine]).sum())
        low, high = beta.ppf([0.025, 0.975], right, wrong)
        told[name] = Interval(float(q[k]), float(low), float(high), int(mine.sum()), "Beta posterior")
    return Reliable(luce.Fit(b, covariance, log_d), care, told)


@dataclass(frozen=True)
class Table:
    """Rankings by item, each as the number of its pattern, and strengths drawn from the prior.

    parts: the choices of the patterns. pattern, order [rankings]: in the order of items. first: where each item begins. draws [S, n].
    """

    parts: list[luce.Stages]
    patterns: int
    pattern: np.ndarray
    order: np.ndarray
    first: np.ndarray
    draws: luce.Floats

    @classmethod
    def of(cls, rankings: Sequence[luce.Tiers], item: Sequence[int], n: int, largest: int) -> Table:
        keys = [tuple(tuple(sorted(t)) for t in r) for r in rankings]
        number = {key: k for k, key in enumerate(dict.fromkeys(keys))}
        order = np.argsort(np.asarray(item, dtype=np.int64), kind="stable")
        _, first = np.unique(np.asarray(item, dtype=np.int64)[order], return_index=True)
        half = int(np.clip(CELLS // max(len(rankings), 1), 64, 1024)) // 2
        drawn = np.random.default_rng(0).standard_normal((half, n)) * luce.PRIOR
        unique = luce.stages(list(number), list(range(len(number))), n, largest, len(number))
        pattern = np.array([number[k] for k in keys], dtype=np.int64)
        return cls(unique, len(number), pattern[order], order, first, np.concatenate([drawn, -drawn]))

    def likelihoods(self, log_d: luce.Floats) -> tuple[luce.Floats, luce.Floats]:
        """P of each pattern: under every draw [patterns, S], and where all answers are equal [patterns, 1]."""
        strengths = np.concatenate([self.draws, np.zeros((1, self.draws.shape[1]))])
        out = np.zeros((self.patterns, len(strengths)))
        for stage in self.parts:
            x = strengths @ stage.members.T + log_d[stage.size - 1]
            x -= x.max(axis=1, keepdims=True)
            x -= np.log(np.exp(x).sum(axis=1, keepdims=True))
            np.add.at(out, stage.ranking, x.T[stage.chosen])
        made = np.exp(out)
        return made[:, :-1], made[:, -1:]

    def care(self, q: luce.Floats, careful: luce.Floats, blind: luce.Floats) -> luce.Floats:
        """P that each ranking [rankings] was careful, given everything that was said of its item."""
        own = q[self.order][:, None] * careful[self.pattern]
        mixed = own + (1 - q[self.order])[:, None] * blind[self.pattern]
        log = np.add.reduceat(np.log(mixed), self.first, axis=0)
        weight = np.exp(log - log.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)
        spread = np.repeat(weight, np.diff([*self.first, len(self.pattern)]), axis=0)
        out = np.empty(len(self.pattern))
        out[self.order] = (spread * own / mixed).sum(axis=1)
        return out
