"""Strengths from rankings with ties: Davidson-Luce, which for two answers is Bradley-Terry with Davidson's ties.

A tier S is chosen from what remains with f(S) = d_|S| (prod of strengths in S)^(1/|S|) over the sum of f over all subsets, d_1 = 1:
``P(i > j) = a_i / (a_i + a_j + v sqrt(a_i a_j))`` for a pair, v = d_2 (Davidson 1970; Firth, Kosmidis and Turner 2019). With b = log a
that is a conditional logit over subsets, linear in (b, log d), so Newton's method with a Gaussian prior has one optimum. Without ties it is
Plackett-Luce, and Bradley-Terry for pairs. Many items of equal size are solved at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Floats = NDArray[np.float64]
Tiers = Sequence[Sequence[int]]
PRIOR = 2.0
"""Standard deviation of log-strengths before any judgment."""


@dataclass
class Stages:
    """Choices out of the same remaining set. members [S, n]: each subset's share on each answer; size [S]. chosen, item, ranking [m].

    outer [S, n * n]: members with themselves. gather [items, m]: adds choices up by item.
    """

    members: Floats
    size: NDArray[np.int64]
    chosen: NDArray[np.int64]
    item: NDArray[np.int64]
    ranking: NDArray[np.int64]
    outer: Floats
    gather: csr_array


def stages(rankings: Sequence[Tiers], item: Sequence[int], n: int, largest: int, items: int) -> list[Stages]:
    """The choices of all rankings, gathered by what remained. largest: biggest tie that may be chosen."""
    found: dict[tuple[int, ...], list[tuple[tuple[int, ...], int, int]]] = defaultdict(list)
    for r, (tiers, where) in enumerate(zip(rankings, item, strict=True)):
        left = tuple(sorted(k for tier in tiers for k in tier))
        for tier in tiers[: len(tiers)]:
            if len(left) == 1:
                break
            found[left].append((tuple(sorted(tier)), where, r))
            left = tuple(k for k in left if k not in tier)
    out = []
    for left, rows in sorted(found.items()):
        sets = [s for k in range(1, min(largest, len(left)) + 1) for s in combinations(left, k)]
        at = {s: i for i, s in enumerate(sets)}
        members = np.zeros((len(sets), n))
        for i, s in enumerate(sets):
            members[i, list(s)] = 1 / len(s)
        columns = np.array([[at[s], w, r] for s, w, r in rows], dtype=np.int64)
        outer = (members[:, :, None] * members[:, None, :]).reshape(len(sets), n * n)
        m = len(columns)
        gather = csr_array((np.ones(m), (columns[:, 1], np.arange(m))), shape=(items, m))
        size = np.array([len(s) for s in sets])
        out.append(Stages(members, size, columns[:, 0], columns[:, 1], columns[:, 2], outer, gather))
    return out


def _logits(stage: Stages, b: Floats, log_d: Floats) -> Floats:
    """log f of every subset for every choice [m, S]."""
    return b[stage.item] @ stage.members.T + log_d[stage.size - 1]


def _softmax(x: Floats) -> tuple[Floats, Floats]:
    """(probabilities, log of the sum) by row."""
    top = x.max(axis=1, keepdims=True)
    e = np.exp(x - top)
    s = e.sum(axis=1, keepdims=True)
    return e / s, (np.log(s) + top)[:, 0]


def log_likelihood(parts: Sequence[Stages], b: Floats, log_d: Floats, count: int) -> Floats:
    """log P of each ranking [count]."""
    out = np.zeros(count)
    for stage in parts:
        x = _logits(stage, b, log_d)
        _, total = _softmax(x)
        np.add.at(out, stage.ranking, x[np.arange(len(x)), stage.chosen] - total)
    return out


@dataclass(frozen=True)
class Fit:
    """Posterior of log-strengths (Laplace). b [items, n], covariance [items, n, n], log_d [largest]: 0 for single answers."""

    b: Floats
    covariance: Floats
    log_d: Floats

    @property
    def tie(self) -> float:
        """v of Davidson's model: how readily two equal answers are called equal."""
        return float(np.exp(self.log_d[1])) if len(self.log_d) > 1 else 0.0


def fit(
    rankings: Sequence[Tiers], item: Sequence[int], n: int, items: int = 1, weight: Sequence[float] | Floats | None = None,
    prior: float = PRIOR, rounds: int = 50,
) -> Fit:  # fmt: skip
    """Strengths of n answers of each of `items` items from rankings (of all answers or of some), ties shared by all items.

    weight: of each ranking. prior: standard deviation of log-strengths, around 0 (so each item's strengths are centred).
    """
    w = np.ones(len(rankings)) if weight is None else np.asarray(weight, dtype=np.float64)
    largest = max((len(t) for r in rankings for t in r), default=1)
    parts = stages(rankings, item, n, largest, items)
    b, log_d = start(n, items, largest)
    for _ in range(rounds):
        old = log_d
        b, information = strengths(parts, b, log_d, w, prior)
        log_d = ties(parts, b, log_d, w)
        if np.abs(log_d - old).max() < 1e-6:
            break
    covariance: Floats = np.asarray(np.linalg.inv(information), np.float64)
    return Fit(b, covariance, log_d)


def start(n: int, items: int, largest: int) -> tuple[Floats, Floats]:
    """(b, log d) before anything is known."""
    log_d = np.full(largest, -1.0)
    log_d[0] = 0.0
    return np.zeros((items, n)), log_d


def _value(parts: Sequence[Stages], b: Floats, log_d: Floats, w: Floats, prior: float) -> Floats:
    """log posterior by item."""
    out = -(b**2).sum(axis=1) / (2 * prior**2)
    for stage in parts:
        x = _logits(stage, b, log_d)
        _, total = _softmax(x)
        out += stage.gather @ (w[stage.ranking] * (x[np.arange(len(x)), stage.chosen] - total))
    return out


def strengths(
    parts: Sequence[Stages], b: Floats, log_d: Floats, w: Floats, prior: float = PRIOR, steps: int = 25
) -> tuple[Floats, Floats]:
    """Newton with step halving on every item at once, ties fixed. Returns (b, information [items, n, n])."""
    n = b.shape[1]
    here = _value(parts, b, log_d, w, prior)
    information = np.zeros((len(b), n, n))
    for _ in range(steps):
        slope = -b / prior**2
        flat = np.tile(np.eye(n).ravel() / prior**2, (len(b), 1))
        for stage in parts:
            p, _ = _softmax(_logits(stage, b, log_d))
            weight = w[stage.ranking][:, None]
            mean = p @ stage.members
            slope += stage.gather @ (weight * (stage.members[stage.chosen] - mean))
            spread = p @ stage.outer - (mean[:, :, None] * mean[:, None, :]).reshape(len(mean), n * n)
            flat += stage.gather @ (weight * spread)
        information = flat.reshape(len(b), n, n)
        step = np.linalg.solve(information, slope[:, :, None])[:, :, 0]
        if np.abs(step).max(initial=0.0) < 1e-8:
            break
        share = np.ones(len(b))
        for _ in range(30):
            moved = _value(parts, b + share[:, None] * step, log_d, w, prior)
            worse = moved < here - 1e-10
            if not worse.any():
                break
            share[worse] /= 2
        b, here = b + share[:, None] * step, moved
    return b, information


def ties(parts: Sequence[Stages], b: Floats, log_d: Floats, w: Floats, steps: int = 20) -> Floats:
    """Newton on log d, strengths fixed; a weak prior (sd 3) keeps sizes that never occur finite."""
    k = len(log_d)
    for _ in range(steps if k > 1 else 0):
        slope, information = -log_d[1:] / 9.0, np.eye(k - 1) / 9.0
        for stage in parts:
            p, _ = _softmax(_logits(stage, b, log_d))
            of_size = np.stack([(stage.size == s + 2).astype(np.float64) for s in range(k - 1)], axis=1)
            weight = w[stage.ranking][:, None]
            mean = p @ of_size
            slope = slope + (weight * (of_size[stage.chosen] - mean)).sum(axis=0)
            information = information + np.diag((weight * mean).sum(axis=0)) - (weight * mean).T @ mean
        step = np.clip(np.linalg.solve(information, slope), -1.0, 1.0)
        log_d = np.concatenate([log_d[:1], log_d[1:] + step])
        if np.abs(step).max() < 1e-9:
            break
    return log_d


def components(rankings: Sequence[Tiers], n: int) -> list[list[int]]:
    """Answers (or models) that were compared, directly or through others; different components must never be compared."""
    parent = list(range(n))

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    for tiers in rankings:
        named = [k for tier in tiers for k in tier]
        for k in named[1:]:
            parent[root(k)] = root(named[0])
    groups: dict[int, list[int]] = defaultdict(list)
    for k in range(n):
        groups[root(k)].append(k)
    return sorted(groups.values(), key=lambda g: (-len(g), g))
