"""Who judges with care: the marginal likelihood against quadrature, planted care found and covered, nothing that depends on names."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from posttrain.feedback.aggregate import luce, reliability

CARE = (0.95, 0.8, 0.5, 0.2)
World = tuple[np.ndarray, list[list[list[int]]], list[int], list[str]]


def world(seed: int, n: int = 2, items: int = 120, sharp: float = 4.0) -> World:
    """(worth, rankings, item, who): each item is seen by three of four people; careless ones draw an order blindly."""
    rng = np.random.default_rng([seed, n])
    worth, rankings, item, who = rng.normal(size=(items, n)), [], [], []
    for i in range(items):
        for a in rng.choice(len(CARE), 3, replace=False):
            felt = rng.gumbel(size=n) + (sharp * worth[i] if rng.random() < CARE[a] else 0)
            rankings.append([[int(k)] for k in np.argsort(-felt)])
            item.append(i)
            who.append("abcd"[a])
    return worth, rankings, item, who


def right(b: np.ndarray, worth: np.ndarray) -> float:
    """Share of pairs of answers that stand in the true order."""
    pairs = [(i, j) for i in range(b.shape[1]) for j in range(i)]
    return float(np.mean([np.sign(b[:, i] - b[:, j]) == np.sign(worth[:, i] - worth[:, j]) for i, j in pairs]))


def test_the_likelihood_is_that_of_quadrature() -> None:
    """For pairs the average over strengths is an integral over one difference: slope, care and value agree with it."""
    _, rankings, item, who = world(1, items=40)
    at, where = np.array(["abcd".index(w) for w in who]), np.array(item)
    parts = luce.stages(rankings, item, 2, 1, 40)
    b, information = luce.strengths(parts, np.zeros((40, 2)), np.zeros(1), np.full(len(at), 0.8))
    half = np.random.default_rng(3).standard_normal((4000, 2))
    draws, weight = reliability._around(b, information, np.concatenate([half, -half]))
    careful = np.exp([luce.log_likelihood(parts, d, np.zeros(1), len(at)) for d in draws])
    shares = reliability.Shares(at, where, careful, np.full(len(at), 0.5), weight)

    nodes, at_nodes = np.polynomial.hermite_e.hermegauss(200)
    first = np.array([1 if r[0] == [0] else -1 for r in rankings])
    p = expit(first[:, None] * np.sqrt(2) * luce.PRIOR * nodes)

    def exact(q: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = q[at, None] * p + (1 - q[at, None]) / 2
        joint = np.ones((40, 200))
        for r, i in enumerate(where):
            joint[i] *= mixed[r]
        total = joint @ at_nodes
        care = (q[at, None] * p / mixed * joint[where] * at_nodes).sum(axis=1) / total[where]
        prior = (reliability.A * np.log(q) + reliability.B * np.log1p(-q)).sum()
        return -float(np.log(total).sum() + prior), care

    one, two = np.array([0.9, 0.7, 0.5, 0.3]), np.array([0.6, 0.6, 0.6, 0.6])
    for q in (one, two):
        assert shares.loss(q)[2] == pytest.approx(exact(q)[1], abs=0.02)
    assert shares.loss(one)[0] - shares.loss(two)[0] == pytest.approx(exact(one)[0] - exact(two)[0], abs=0.05)
    step = 1e-5 * np.eye(4)
    slope = [(shares.loss(expit(np.log(one / (1 - one)) + s))[0] - shares.loss(one)[0]) / 1e-5 for s in step]
    assert shares.loss(one)[1] == pytest.approx(np.array(slope), abs=1e-3)


def test_weighing_beats_counting_on_pairs_and_on_orders() -> None:
    for n, sharp, least in ((2, 4.0, 0.01), (4, 2.0, 0.02)):
        gain = []
        for seed in range(6):
            worth, rankings, item, who = world(seed, n, sharp=sharp)
            made = reliability.fit(rankings, item, who, n, 120)
            gain.append(right(made.fit.b, worth) - right(luce.fit(rankings, item, n, 120).b, worth))
            q = [made.q[w].estimate for w in "abcd"]
            assert min(q[:2]) > q[3], "the careless one is found"
        assert np.mean(gain) > least and min(gain) > -0.02


def test_intervals_hold_the_planted_care() -> None:
    held = []
    for seed in range(10, 30):
        _, rankings, item, who = world(seed)
        q = reliability.fit(rankings, item, who, 2, 120).q
        held += [q[w].low <= c <= q[w].high for w, c in zip("abcd", CARE, strict=True)]
        assert all(v.n == who.count(w) for w, v in q.items())
    assert np.mean(held) >= 0.88


def test_turning_answers_round_turns_strengths_round() -> None:
    _, rankings, item, who = world(5, items=60)
    made = reliability.fit(rankings, item, who, 2, 60)
    turned = reliability.fit([[[1 - k for k in t] for t in r] for r in rankings], item, who, 2, 60)
    assert turned.fit.b[:, ::-1] == pytest.approx(made.fit.b, abs=1e-4)
    assert [v.estimate for v in turned.q.values()] == pytest.approx([v.estimate for v in made.q.values()], abs=1e-4)


def test_one_person_and_nobody() -> None:
    """Without anybody else nothing is known of a person's care but the prior; without judgments there is nothing to fit."""
    alone = reliability.fit([[[0], [1]]] * 5, list(range(5)), ["a"] * 5, 2, 5).q["a"]
    assert 0.6 < alone.estimate < 0.95 and alone.high - alone.low > 0.5
    nobody = reliability.fit([], [], [], 3, 2)
    assert nobody.q == {} and np.all(nobody.fit.b == 0)
