"""Checks of a reward model against labels it has not seen, against the policy's implicit reward, and against the policy's own answers.

The implicit reward of a policy is beta (log p - log p_ref) (Rafailov et al. 2023, arXiv:2305.18290): after DPO it should order answers as
the reward model does. The shift is how well a linear classifier tells answers of the policy from those of the preference data, on features
of the reward model; far from its data a reward model guesses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from posttrain.audit import fits
from posttrain.audit.consistency_figures import absent_check, bounded, decided, figured, with_remedy
from posttrain.audit.fits import FEW_PAIRS, hash_bit
from posttrain.audit.probe import Measured
from posttrain.audit.thresholds import Thresholds
from posttrain.core.group import Group
from posttrain.rewards.criterion import as_reward
from posttrain.stats import auroc, kendall_tau_b
from posttrain.stats.interval import Floats

FAR, SPREAD = 0.9, 2.0
LEAST = 20
"""Answers of each side below which no classifier is fitted."""
RIDGE = 1.0


def checks(
    data: Sequence[Group] | None, held_out: Sequence[Group] | None, reward_model: Any, policy: Any, reference: Any,
    samples: Sequence[Group] | None, checker: Any,
) -> Iterator[Measured]:  # fmt: skip
    """C07 to C10, as far as the inputs carry them."""
    if reward_model is None:
        return
    reward = as_reward(reward_model)
    if held_out:
        checker.progress(f"reward model on {len(held_out)} held-out rows")
        yield from _accuracy(reward, held_out, checker)
    if data and hasattr(policy, "logp") and hasattr(reference, "logp"):
        checker.progress(f"implicit reward of {len(data)} rows")
        yield from _implicit(reward, policy, reference, data, checker)
    if data and samples:
        yield _shift(reward_model, data, samples)


def lead(scores: Sequence[Sequence[float]], groups: Sequence[Group]) -> tuple[Floats, list[str]]:
    """Score of the better answer less that of the worse, for each decided pair, and the prompt of each; unscored pairs are left out."""
    values, ids = [], []
    for g, row in zip(groups, scores, strict=True):
        for p in g.pairs():
            if p.p != 0.5 and not p.both_bad:
                i, j = (p.i, p.j) if p.p > 0.5 else (p.j, p.i)
                if math.isfinite(row[i] - row[j]):
                    values.append(row[i] - row[j])
                    ids.append(g.prompt_hash)
    return np.asarray(values, float), ids


def told(reward: Any, groups: Sequence[Group]) -> list[list[float]]:
    """Scores as numbers; nan where there is none."""
    return [[math.nan if s.value is None else float(s.value) for s in row] for row in reward(groups)]


def sums(model: Any, groups: Sequence[Group]) -> list[list[float]]:
    """log p of each response, in nats."""
    return [[float(row.sum()) for row in rows] for rows in model.logp(groups)]


def _accuracy(reward: Any, held_out: Sequence[Group], checker: Any) -> Iterator[Measured]:
    limits = Thresholds()
    margins, ids = lead(told(reward, held_out), held_out)
    if not margins.size:
        return
    wins = (margins > 0) + 0.5 * (margins == 0)
    yield figured(
        "C07", "held-out pairs", wins, ids, "floor", limits.accuracy, "of pairs", "The reward model orders new pairs wrongly",
        "more preference data, or a larger reward model", reps=checker.reps, seed=checker.seed,
    )  # fmt: skip
    if margins.size >= FEW_PAIRS:
        from dataclasses import replace

        made = replace(fits.calibration(margins, ids, "all", limits.ece, checker.seed), test="C08")
        yield with_remedy(made, "rescale the margins by the temperature fitted here, or train with label smoothing")
    else:
        yield absent_check("C08", f"{FEW_PAIRS} held-out pairs; there are {margins.size}")


def _implicit(reward: Any, policy: Any, reference: Any, data: Sequence[Group], checker: Any) -> Iterator[Measured]:
    """C09: does what the policy has learned to prefer agree with the reward model? On margins, each turned by a hash of its prompt."""
    paired = [g for g in data if g.pairs()][: max(checker.samples, 10)]
    now, then = sums(policy, paired), sums(reference, paired)
    own, _ = lead(
        [[checker.beta * (a - b) for a, b in zip(x, y, strict=True)] for x, y in zip(now, then, strict=True)], paired
    )
    model, ids = lead(told(reward, paired), paired)
    if own.size != model.size or own.size < 10:
        yield absent_check("C09", f"ten pairs that the reward model scores; there are {min(own.size, model.size)}")
        return
    turn = np.asarray([-1.0 if hash_bit(i) else 1.0 for i in ids])
    remedy = "train the policy longer, lower beta, or train the reward model on the same pairs"
    phrase = "The policy prefers what the reward model rejects"
    yield bounded("C09", "Kendall tau-b", kendall_tau_b(own * turn, model * turn), 0.0, "tau", phrase, remedy)
    same = (np.sign(own) == np.sign(model)).astype(float)
    yield figured(
        "C09", "same sign", same, ids, "floor", 0.5, "of pairs", phrase, remedy, reps=checker.reps, seed=checker.seed
    )


def _shift(reward_model: Any, data: Sequence[Group], samples: Sequence[Group]) -> Measured:
    """C10: AUROC of a linear classifier between answers of the data and of the policy, and how much more an ensemble disagrees there."""
    if not hasattr(reward_model, "features"):
        return absent_check("C10", "a reward model with features(groups): hidden states of its answers")
    x = [np.asarray(reward_model.features(groups), float) for groups in (data, samples)]
    if min(len(part) for part in x) < LEAST:
        return absent_check("C10", f"{LEAST} answers of each side; there are {len(x[0])} and {len(x[1])}")
    y = np.r_[np.zeros(len(x[0])), np.ones(len(x[1]))]
    area = auroc(crossed(np.concatenate(x), y), y)
    ratio = _spread_ratio(reward_model, data, samples)
    note = (
        "one vote only: no spread to compare"
        if ratio is None
        else f"votes spread {ratio:.2f} times as far as on the data"
    )
    failed = area.known and area.low > FAR and ratio is not None and ratio > SPREAD
    phrase = "The policy writes what the reward model has not seen"
    return decided(
        "C10", "answers", failed, area, FAR, "AUROC", phrase, "retrain the reward model on fresh policy samples", note
    )


def crossed(x: Floats, y: Floats, folds: int = 5, seed: int = 0) -> Floats:
    """Scores [n] of a ridge classifier of labels y from features x [n, d], each from the folds it is not in."""
    order, out = np.random.default_rng(seed).permutation(len(y)), np.zeros(len(y))
    spread = x.std(axis=0) + 1e-9
    z = np.c_[(x - x.mean(axis=0)) / spread, np.ones(len(y))]
    for fold in range(folds):
        test = order[fold::folds]
        kept = np.setdiff1d(order, test)
        gram = z[kept].T @ z[kept] + RIDGE * len(kept) / 10 * np.eye(z.shape[1])
        out[test] = z[test] @ np.linalg.solve(gram, z[kept].T @ (y[kept] - y[kept].mean()))
    return out


def _spread_ratio(reward_model: Any, data: Sequence[Group], samples: Sequence[Group]) -> float | None:
    """Mean spread of an ensemble's votes on the samples over that on the data; None for one vote."""
    if not hasattr(reward_model, "opinions"):
        return None
    votes = [[v for row in reward_model.opinions(groups) for v in row] for groups in (samples, data)]
    if min(len(v) for part in votes for v in part) < 2:
        return None
    here, there = (float(np.mean([np.std(v) for v in part])) for part in votes)
    return here / max(there, 1e-12)
