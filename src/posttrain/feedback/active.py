"""Which items teach most: expected information of an answer, always mixed with chance so that estimates stay unbiased.

Score of a pair ``H(E[s(D)]) - E[H(s(D))]``, D ~ N(m, u) the difference of strengths: high where the outcome is open *and* we are unsure of
it (Houlsby et al. 2011). For fresh items m and u come from the scores that reward models gave the answers: parts of a score are members of
an ensemble, their spread is u. Drawn without replacement from ``e / N + (1 - e) softmax(score / T)``; the probability of each draw is
stored, and `hajek` turns it into weights.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from sqlalchemy import Connection, bindparam, func, select, update

from posttrain.core.group import Group
from posttrain.feedback import history, items
from posttrain.feedback.queues import Queue
from posttrain.feedback.tables import FREE, item

PRIOR = 8.0
"""Variance of the difference of two answers of which nothing is known (twice the square of the prior of `luce`)."""
TEMPERATURE = 0.05
AHEAD = 2_000
"""Fresh items whose order is drawn at once."""
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def information(mean: ArrayLike, variance: ArrayLike) -> np.ndarray:
    """Bits (nats) that one verdict on a pair is expected to tell about its strengths, by 32-point Gauss-Hermite."""
    m, u = np.asarray(mean, dtype=np.float64), np.asarray(variance, dtype=np.float64)
    p = 1 / (1 + np.exp(-np.clip(m[..., None] + np.sqrt(np.maximum(u, 0))[..., None] * _NODES, -40, 40)))
    return np.maximum(_entropy(p @ _WEIGHTS) - _entropy(p) @ _WEIGHTS, 0.0)


def _entropy(p: np.ndarray) -> np.ndarray:
    q = np.clip(p, 1e-15, 1 - 1e-15)
    return -q * np.log(q) - (1 - q) * np.log(1 - q)


def score(group: Group) -> float:
    """Expected information of the most informative pair of a fresh item."""
    if len(group.responses) < 2:
        return 0.0
    members = [
        np.array(list(r.score.parts.values()), dtype=np.float64)
        if r.score is not None and len(r.score.parts) > 1
        else None
        for r in group.responses
    ]
    means = [r.score.value if r.score is not None else None for r in group.responses]
    best = 0.0
    for i, j in combinations(range(len(means)), 2):
        a, b, mi, mj = members[i], members[j], means[i], means[j]
        if a is not None and b is not None and len(a) == len(b):
            gap = a - b
            m, u = float(gap.mean()), float(gap.var(ddof=1))
        elif mi is not None and mj is not None:
            m, u = mi - mj, PRIOR / 2
        else:
            m, u = 0.0, PRIOR
        best = max(best, float(information(m, u)))
    return best


def draw(
    scores: ArrayLike, uniform: float, n: int, seed: int, temperature: float = TEMPERATURE
) -> list[tuple[int, float, bool]]:
    """(index, probability of this draw, was it a random one) for n draws without replacement. uniform: e, at least 0.2."""
    if not 0.2 <= uniform <= 1:
        raise ValueError(f"uniform must lie in [0.2, 1], got {uniform}: without chance no estimate is unbiased")
    s = np.asarray(scores, dtype=np.float64) / temperature
    weight = np.exp(s - s.max()) if s.size else s
    rng, left = np.random.default_rng(seed), np.ones(len(s), dtype=bool)
    out = []
    for _ in range(min(n, len(s))):
        soft = np.where(left, weight, 0.0)
        if soft.sum() <= 0:
            soft = left.astype(np.float64)
        p = np.where(left, uniform / left.sum(), 0.0) + (1 - uniform) * soft / soft.sum()
        p = p / p.sum()
        k = int(rng.choice(len(s), p=p))
        chance = float(uniform / left.sum() / (uniform / left.sum() + (1 - uniform) * soft[k] / soft.sum()))
        out.append((k, float(p[k]), bool(rng.random() < chance)))
        left[k] = False
    return out


def select_next(connection: Connection, queue: Queue, seed: int | None = None, most: int = AHEAD) -> int:
    """Draw anew which fresh items come next; returns how many. Held-out items keep their place: they are always drawn uniformly."""
    c = item.c
    fresh = (c.queue == queue.id, c.kind == "ordinary", c.fresh == 1, FREE)
    seed = random.randrange(1 << 30) if seed is None else seed
    ids: list[str] = list(
        connection.execute(select(c.id).where(*fresh).order_by(func.abs(c.turn - 0.5), c.id).limit(5 * most)).scalars()
    )
    if not ids:
        return 0
    scores = [score(i.group) for i in items.read(connection, ids)]
    drawn = draw(scores, queue.settings.uniform, most, seed)
    rows = [
        {"at": ids[k], "place": -1.0 + n / (len(drawn) + 1), "p": p, "why": "random" if by_chance else "active"}
        for n, (k, p, by_chance) in enumerate(drawn)
    ]
    connection.execute(update(item).where(*fresh, c.turn < 0).values(turn=-c.turn))
    connection.execute(
        update(item)
        .where(c.id == bindparam("at"))
        .values(turn=bindparam("place"), propensity=bindparam("p"), reason=bindparam("why")),
        rows,
    )
    history.note(
        connection,
        "selection",
        None,
        {"queue": queue.id, "drawn": len(rows), "seed": seed, "uniform": queue.settings.uniform},
    )
    return len(rows)


def hajek(values: Sequence[float], propensity: Sequence[float], cap: float = 20.0) -> tuple[float, int]:
    """(mean of the population from draws of known probability, how many weights were capped at `cap` times the mean one)."""
    w = 1 / np.asarray(propensity, dtype=np.float64)
    limit = cap * float(w.min())
    capped = int((w > limit).sum())
    w = np.minimum(w, limit)
    return float((w * np.asarray(values)).sum() / w.sum()), capped
