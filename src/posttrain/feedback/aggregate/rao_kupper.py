"""Bradley-Terry with the ties of Rao and Kupper (1967): a threshold below which two answers cannot be told apart.

``P(i > j) = a_i / (a_i + t a_j)``, ``P(tie) = (t^2 - 1) a_i a_j / ((a_i + t a_j)(a_j + t a_i))``, t >= 1. For pairs only; rankings take
Davidson-Luce (`luce`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize


@dataclass(frozen=True)
class RaoKupper:
    """b [n]: log-strengths, centred by the prior. threshold: t."""

    b: np.ndarray
    threshold: float


def fit(comparisons: Sequence[tuple[int, int, float]], n: int, prior: float = 2.0) -> RaoKupper:
    """From (i, j, outcome): 1 where i won, 0 where j won, 0.5 for a tie. Raises ValueError on another outcome."""
    rows = np.asarray([(i, j) for i, j, _ in comparisons], dtype=np.int64).reshape(-1, 2)
    outcome = np.asarray([o for _, _, o in comparisons])
    if not np.isin(outcome, (0.0, 0.5, 1.0)).all():
        raise ValueError("outcomes are 1 (the first won), 0 (the second) or 0.5 (a tie)")

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        b, log_t = x[:n], np.logaddexp(0.0, x[n])  # softplus keeps t above 1
        gap = b[rows[:, 0]] - b[rows[:, 1]]
        win, lose = -np.logaddexp(0.0, log_t - gap), -np.logaddexp(0.0, log_t + gap)
        tie = win + lose + np.log(np.expm1(2 * log_t))
        value = np.where(outcome == 1, win, np.where(outcome == 0, lose, tie)).sum() - (b**2).sum() / (2 * prior**2)
        down, up = -np.expm1(win), -np.expm1(lose)  # derivatives of win by gap, and of -lose
        by_gap = np.where(outcome == 1, down, np.where(outcome == 0, -up, down - up))
        by_t = np.where(outcome == 1, -down, np.where(outcome == 0, -up, -down - up + 2 / -np.expm1(-2 * log_t)))
        slope = np.concatenate([-b / prior**2, [by_t.sum() / (1 + np.exp(-x[n]))]])
        np.add.at(slope, rows[:, 0], by_gap)
        np.add.at(slope, rows[:, 1], -by_gap)
        return -float(value), -slope

    found = minimize(loss, np.zeros(n + 1), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return RaoKupper(found.x[:n], float(np.exp(np.logaddexp(0.0, found.x[n]))))
