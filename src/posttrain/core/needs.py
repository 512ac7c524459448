"""What a method asks of a forward, what it gets, and what it gives back.

`Needs` is declared, `Output` is aligned with the batch's `target` (no shift and no mask in a method file), `Loss` holds sums that
the loop divides by global counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

Critic = Literal["head", "adapter", "separate"]
UNITS = ("token", "row", "group")

EVERY = 2**31 - 1
"""As `Needs.topk`: the whole vocabulary, in the order of its ids."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Outputs and roles that a method's loss reads.

    logp: log p(target) [N]. entropy: nats [N]. mean_logp: mean over the vocabulary of log p [N]. log_sum_sq: log sum p^2 [N].
    value: number of value heads read at the state before each token [N, k]. score: number of score heads read on the last
    trained token of each response [R, k]. likelihood: a fresh score head adds this times the answer's mean log-probability.
    critic: which trunk the value heads stand on: the policy's own (head), the policy's with an
    adapter of its own (adapter), or a copy (separate).
    topk: width of the likeliest tokens [N, k], best first (`EVERY`: all of them, in order of id).
    at_ids: name of batch data [N, k] with ids to score.
    own: read at each trained token itself instead of the place before it: tags of tokens, models that look both ways.
    labels: number of label heads read at each trained token itself [N, k]. pooled: mean hidden state of each row's prompt and trained
    tokens [R, d].
    hidden: hidden states at scored positions [N, d]. heads: names of further heads. roles: frozen roles that must exist.
    moving: those of them whose weights the method moves (`Engine.move`), so that checkpoints hold them.
    temperature: logits are divided by it.
    """

    logp: bool = False
    entropy: bool = False
    mean_logp: bool = False
    log_sum_sq: bool = False
    value: int = 0
    critic: Critic = "head"
    score: int = 0
    likelihood: float = 0.0
    topk: int = 0
    at_ids: str | None = None
    own: bool = False
    labels: int = 0
    pooled: bool = False
    hidden: bool = False
    heads: tuple[str, ...] = ()
    roles: frozenset[str] = frozenset()
    moving: frozenset[str] = frozenset()
    temperature: float = 1.0

    @property
    def head_rows(self) -> bool:
        """Does the language-model head have to run?"""
        return (
            self.logp or self.entropy or self.mean_logp or self.log_sum_sq or self.topk > 0 or self.at_ids is not None
        )


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """What a forward produced; a field that was not asked for is None. Shapes as in `Needs`."""

    logp: Tensor | None = None
    entropy: Tensor | None = None
    mean_logp: Tensor | None = None
    log_sum_sq: Tensor | None = None
    value: Tensor | None = None
    score: Tensor | None = None
    topk_logp: Tensor | None = None
    topk_ids: Tensor | None = None
    at_logp: Tensor | None = None
    hidden: Tensor | None = None
    labels: Tensor | None = None
    pooled: Tensor | None = None
    heads: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def concat(cls, parts: list[Output]) -> Output:
        """Outputs of consecutive pieces of one batch, joined along their leading dimension."""
        if len(parts) == 1:
            return parts[0]
        joined: dict[str, Any] = {}
        for name in cls.__slots__:
            values = [getattr(p, name) for p in parts]
            if name == "heads":
                joined[name] = {k: torch.cat([v[k] for v in values]) for k in values[0]} if values else {}
            elif values and values[0] is not None:
                joined[name] = torch.cat(values)
        return cls(**joined)


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """Sums over units, one per name declared in the method's `sums`, and metrics as (sum, count).

    A method never divides: the same sums over any cut of the batch, and over any number of ranks, add up to the same step.
    """

    sums: Mapping[str, Tensor]
    metrics: Mapping[str, tuple[Tensor | float, Tensor | float]] = field(default_factory=dict)

    def over(self, totals: Mapping[str, float], units: Mapping[str, str]) -> Tensor:
        """The scalar to differentiate: each sum over the global count of its unit (`units` = the method's `sums`)."""
        if set(self.sums) != set(units):
            raise AssertionError(f"loss gave {sorted(self.sums)}, the method declares {sorted(units)}")
        total: Tensor | None = None
        for name, value in self.sums.items():
            part = value / max(float(totals[units[name]]), 1.0)
            total = part if total is None else total + part
        assert total is not None
        return total
