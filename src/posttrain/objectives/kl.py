"""Estimators of the KL divergence between policy and reference, per sampled token.

k1 = log p - log q of the token that was drawn: unbiased, noisy, may be negative. abs = |k1| (an old default of teaching code, no estimate
of the KL), mse = k1^2 / 2 (biased, little noise), k3 = e^-k1 - 1 + k1 (unbiased, never negative; Schulman 2020, "Approximating KL
divergence"), full = the sum over the vocabulary. As a penalty inside the reward k1 gives the gradient of KL(policy, reference); as a term
of the loss mse does, and k3 times the ratio (docs/online.md says why).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from posttrain.core.batch import Batch
from posttrain.core.needs import EVERY, Needs
from posttrain.core.protocols import Engine
from posttrain.core.recipe import Kind

LARGEST_LOG_RATIO = 20.0
"""Log-ratios are clamped to this before exp: a single broken token must not make a step infinite."""


class Estimator(Kind):
    """A function of the log-probs of drawn tokens."""

    family: ClassVar[str] = "estimator"
    sampled: ClassVar[bool] = True
    """Do the log-probs of the drawn tokens suffice?"""

    def __call__(self, logp: Tensor, ref: Tensor) -> Tensor:
        """logp, ref [N] of policy and reference -> [N] nats."""
        raise AssertionError(f"{type(self).__name__} has no formula")


class K1(Estimator):
    """log p - log q: unbiased; the one for penalties inside the reward."""

    name: ClassVar[str] = "kl"

    def __call__(self, logp: Tensor, ref: Tensor) -> Tensor:
        return logp - ref


class Abs(Estimator):
    """|log p - log q|: punishes every change; not an estimate of the KL."""

    name: ClassVar[str] = "abs"

    def __call__(self, logp: Tensor, ref: Tensor) -> Tensor:
        return (logp - ref).abs()


class MSE(Estimator):
    """(log p - log q)^2 / 2: little noise; the one for terms of the loss on fresh samples."""

    name: ClassVar[str] = "mse"

    def __call__(self, logp: Tensor, ref: Tensor) -> Tensor:
        return 0.5 * (logp - ref) ** 2


class K3(Estimator):
    """q / p - 1 - log(q / p): unbiased and never negative."""

    name: ClassVar[str] = "k3"

    def __call__(self, logp: Tensor, ref: Tensor) -> Tensor:
        gap = (ref - logp).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
        return torch.expm1(gap) - gap


class Full(Estimator):
    """The sum over the whole vocabulary: exact, and as costly as two heads over every token (in penalties only)."""

    name: ClassVar[str] = "full"
    sampled: ClassVar[bool] = False


def penalties(estimator: Estimator, batch: Batch, engine: Engine, temperature: float) -> Tensor:
    """[N] the estimator between `old` and `ref` of the batch; `full` runs both models again, piece by piece. No gradient."""
    if estimator.sampled:
        return estimator(batch.data["old"], batch.data["ref"])
    pieces = engine.plan(batch, "row")
    return torch.cat([_full(p, engine, temperature) for p in pieces]) if pieces else batch.data["old"].clone()


def _full(piece: Batch, engine: Engine, temperature: float) -> Tensor:
    needs = Needs(topk=EVERY, temperature=temperature)
    mine, theirs = engine.score(piece, needs).topk_logp, engine.score(piece, needs, role="reference").topk_logp
    assert mine is not None and theirs is not None
    return (mine.exp() * (mine - theirs)).sum(-1)
