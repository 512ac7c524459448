"""The guard of one model or request: one pipeline of fixed order, logged per answer. It is a `Steer`, so it moves with its row.

    1 ban mask computed · 2 additive bias · 3 expert mix · 4 guidance, in the order given · then the sampler: penalties, temperature,
    top-k, top-p, min-p, with the ban mask applied before them · 5 the drawn token is checked against the mask again

The mask is kept apart from the logits. A stage that gives a number that is not finite raises `GuidanceError` with its name. Leaves out
look-ahead over several tokens.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from posttrain.core.protocols import Request
from posttrain.guard.automaton import DEAD, START, State
from posttrain.guard.bans import Bans


class GuidanceError(ValueError):
    """A stage of the pipeline gave numbers that are not finite, or let a forbidden token through."""


@dataclass(slots=True)
class Row:
    """State of one answer: what was asked, tokens so far, the bans' state, and what happened.

    steps counts by name: tokens drawn, steps at which something was masked, steps of each stage. cells: what stages remember of the row.
    """

    request: Request | None
    ban: State = START
    forbidden: Tensor | None = None
    tokens: list[int] = field(default_factory=list)
    steps: Counter[str] = field(default_factory=Counter)
    cells: dict[str, Any] = field(default_factory=dict)


class Stage(Protocol):
    """A step of the pipeline. `name` is what its errors and the log call it."""

    name: str

    def __call__(self, row: Row, logits: Tensor) -> Tensor: ...


Guidance = Callable[..., Tensor]
"""What people write: `guidance_fn(logits)` or `guidance_fn(row, logits)`; the number of arguments decides."""


@dataclass(frozen=True)
class Guided:
    """A plain guidance function as a stage."""

    function: Guidance
    name: str = "guidance"

    def __call__(self, row: Row, logits: Tensor) -> Tensor:
        return self.function(logits) if _takes_one(self.function) else self.function(row, logits)


def _takes_one(function: Guidance) -> bool:
    wanted = [
        p
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return len(wanted) == 1


class Guard:
    """bans: phrases. bias: token id to what is added to its logit. stages: expert mix, rewards, plain functions, in this order.

    name: what logs call it. The logs of the answers of a request lie in `rows[request.id]` until they are taken.
    """

    def __init__(
        self,
        bans: Bans | None = None,
        bias: Mapping[int, float] | None = None,
        stages: Sequence[Stage | Guidance] = (),
        name: str = "guard",
    ) -> None:
        self.bans, self.name = bans, name
        self.bias = dict(bias or {})
        self.stages: list[Stage] = [s if hasattr(s, "name") else Guided(s) for s in stages]  # type: ignore[misc]
        self._bias: Tensor | None = None

    def start(self, request: Request) -> Row:
        return Row(request)

    @property
    def only_forbids(self) -> bool:
        """Are there bans alone, so that `forbid` is all of `adjust`?"""
        return not self.bias and not self.stages

    def forbid(self, row: Row) -> Tensor | None:
        """Stage 1: ids [k] of the tokens that may not come next."""
        row.forbidden = None if self.bans is None else self.bans.forbidden(row.ban)
        return row.forbidden

    def adjust(self, row: Row, logits: Tensor) -> Tensor:
        """Stages 1 to 4 on logits [V]."""
        self.forbid(row)
        if self.bias:
            if self._bias is None or self._bias.shape != logits.shape:
                self._bias = torch.zeros_like(logits)
                self._bias[list(self.bias)] = torch.tensor(list(self.bias.values()), dtype=logits.dtype)
            logits = logits + self._bias
        for stage in self.stages:
            logits = stage(row, logits)
            row.steps[stage.name] += 1
            if not bool(torch.isfinite(logits.amax())):
                raise GuidanceError(f"{self.name}: stage {stage.name} gave logits that are not finite")
        return logits

    def mask(self, row: Row) -> Tensor | None:
        return row.forbidden

    def advance(self, row: Row, token: int) -> Row:
        """Take note of the token that was drawn."""
        row.steps["tokens"] += 1
        row.tokens.append(token)
        if self.bans is not None:
            row.steps["masked"] += row.forbidden is not None
            # The text itself is asked here, not the mask again: a stop token alone adds none.
            after = self.bans.advance(row.ban, token)
            if after is DEAD or (token in self.bans.stop_ids and _holds(row.forbidden, token)):
                raise GuidanceError(f"{self.name}: token {token} was drawn although it is forbidden")
            row.ban = after
        return row

    def settle(self, text: str) -> str:
        """The text that may be shown: without a banned word that the end of the answer would complete."""
        return text if self.bans is None else self.bans.cut(text)


def _holds(ids: Tensor | None, token: int) -> bool:
    return ids is not None and bool((ids == token).any())


def _both(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Two masks as one: sets of allowed tokens [V] bool, or ids that are forbidden."""
    if a is None or b is None:
        return b if a is None else a
    if a.dtype != torch.bool and b.dtype != torch.bool:
        return torch.cat([a, b]).unique()
    mask, other = (a, b) if a.dtype == torch.bool else (b, a)
    return mask & other if other.dtype == torch.bool else mask.index_fill(0, other.to(mask.device), False)


class Chain:
    """Several steers as one: adjusted in order, masks joined. The first is the server's policy, later ones only tighten it."""

    def __init__(self, *steers: Any) -> None:
        self.steers = steers

    def start(self, request: Request) -> list[Any]:
        return [s.start(request) for s in self.steers]

    def adjust(self, states: list[Any], logits: Tensor) -> Tensor:
        for steer, state in zip(self.steers, states, strict=True):
            logits = steer.adjust(state, logits)
        return logits

    def mask(self, states: list[Any]) -> Tensor | None:
        out: Tensor | None = None
        for steer, state in zip(self.steers, states, strict=True):
            out = _both(out, steer.mask(state))
        return out

    def advance(self, states: list[Any], token: int) -> list[Any]:
        return [s.advance(state, token) for s, state in zip(self.steers, states, strict=True)]

    def settle(self, text: str) -> str:
        for steer in self.steers:
            text = steer.settle(text) if hasattr(steer, "settle") else text
        return text
