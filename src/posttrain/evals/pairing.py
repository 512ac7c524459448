"""Two models on the same prompts: differences, wins, ties and losses, with intervals and with what the sample could have seen.

The length-controlled win rate asks what would be won at equal length: a logistic regression of winning on the difference in length, read at
0 (Dubois et al. 2024, arXiv:2404.04475; with one pair of models only its length term remains). The alignment tax is judged by
non-inferiority: is the loss surely smaller than the margin?
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from posttrain.stats import Interval, cluster_bootstrap, mde, non_inferior, paired_bootstrap

TIE = 1e-9


def by_id(rows: Sequence[Mapping[str, Any]], figure: str) -> dict[str, float]:
    """Mean of a figure over a row's answers, by row id; rows without it are left out."""
    out = {}
    for row in rows:
        known = [v for v in row["figures"].get(figure, ()) if v is not None and math.isfinite(v)]
        if known:
            out[str(row["id"])] = float(np.mean(known))
    return out


def shared(a: Mapping[str, float], b: Mapping[str, float]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Ids that both have, in a's order, and the two columns of values."""
    ids = [i for i in a if i in b]
    return ids, np.asarray([a[i] for i in ids]), np.asarray([b[i] for i in ids])


def differences(
    rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], seed: int = 0
) -> dict[str, tuple[Interval, float]]:
    """For each figure that both have: the mean paired difference (rows - others), and the smallest one that n rows find in 4 of 5 cases."""
    names = list(dict.fromkeys(n for r in rows for n in r["figures"]))
    out = {}
    for name in names:
        _, x, y = shared(by_id(rows, name), by_id(others, name))
        if len(x) >= 2:
            out[name] = (paired_bootstrap(x, y, seed=seed), smallest(x - y))
    return out


def smallest(difference: np.ndarray) -> float:
    """The least true difference that a two-sided 5% test of these rows finds with probability 0.8."""
    return mde(len(difference), float(difference.std(ddof=1)))


@dataclass(frozen=True, slots=True)
class Duel:
    """win, tie, loss: shares. rate: win rate, ties half. equal_length: the same at equal length; None where lengths tell nothing."""

    win: float
    tie: float
    loss: float
    rate: Interval
    equal_length: Interval | None
    difference: Interval
    smallest: float
    n: int


def duel(
    rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], figure: str, seed: int = 0
) -> Duel | None:
    """The first model against the second on one figure where higher is better; None without shared prompts."""
    ids, x, y = shared(by_id(rows, figure), by_id(others, figure))
    if len(ids) < 2:
        return None
    gap = x - y
    won = np.where(gap > TIE, 1.0, np.where(gap < -TIE, 0.0, 0.5))
    longer = np.asarray([by_id(rows, "length").get(i, 0.0) - by_id(others, "length").get(i, 0.0) for i in ids])
    return Duel(
        float((won == 1).mean()),
        float((won == 0.5).mean()),
        float((won == 0).mean()),
        cluster_bootstrap(won, seed=seed),
        length_controlled(won, longer, seed),
        paired_bootstrap(x, y, seed=seed),
        smallest(gap),
        len(ids),
    )


def length_controlled(won: np.ndarray, longer: np.ndarray, seed: int = 0, reps: int = 400) -> Interval | None:
    """Win rate at equal length with a bootstrap interval; None where all lengths or all outcomes are the same."""
    spread = float(longer.std())
    if spread == 0 or np.ptp(won) == 0 or len(won) < 30:
        return None
    pairs = np.stack([won, longer / spread], 1)
    return cluster_bootstrap(pairs, stat=_at_equal_length, reps=reps, seed=seed)


def _at_equal_length(pairs: np.ndarray) -> float:
    """sigmoid(intercept) of a logistic regression with a weak ridge, by Newton's method (ties count half)."""
    won, x = pairs[:, 0], np.stack([np.ones(len(pairs)), pairs[:, 1]], 1)
    b = np.zeros(2)
    ridge = np.diag([1e-3, 1e-2]) * len(pairs)
    for _ in range(25):
        p = 1 / (1 + np.exp(-(x @ b)))
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + ridge, x.T @ (won - p) - ridge @ b)
        b = b + step
        if float(np.abs(step).max()) < 1e-8:
            break
    return float(1 / (1 + math.exp(-b[0])))


@dataclass(frozen=True, slots=True)
class Tax:
    """What alignment cost: the change of a figure against the base. kept: is a loss of `margin` or more ruled out at 5%?"""

    figure: str
    change: Interval
    margin: float
    p: float
    kept: bool


def tax(
    rows: Sequence[Mapping[str, Any]],
    base: Sequence[Mapping[str, Any]],
    figure: str,
    margin: float = 0.02,
    seed: int = 0,
    down: bool = False,
) -> Tax | None:
    """Is the model not worse than its base on a figure by `margin` or more? down: lower values are better."""
    _, x, y = shared(by_id(rows, figure), by_id(base, figure))
    if len(x) < 2:
        return None
    gap = (y - x) if down else (x - y)
    p = non_inferior(float(gap.mean()), float(gap.std(ddof=1)) / math.sqrt(len(gap)), len(gap) - 1, margin)
    return Tax(figure, cluster_bootstrap(gap, seed=seed), margin, p, p < 0.05)


def forgetting(
    stages: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], figure: str, task: str = "task", seed: int = 0
) -> dict[str, list[tuple[str, Interval]]]:
    """Per task, the figure at each stage: how far later stages lose what earlier ones had."""
    out: dict[str, list[tuple[str, Interval]]] = {}
    for stage, rows in stages:
        values = by_id(rows, figure)
        for name in sorted({str(r["facts"][task]) for r in rows if task in r.get("facts", {})}):
            mine = [values[str(r["id"])] for r in rows if r["facts"].get(task) == name and str(r["id"]) in values]
            if mine:
                out.setdefault(name, []).append((stage, cluster_bootstrap(mine, seed=seed)))
    return out
