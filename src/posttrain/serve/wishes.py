"""What a request asks of its own decoding beyond sampling: logit biases, frequency and presence penalties, and alternatives to report.

A `Steer` around another one (the guard), which keeps the last word: its mask is the mask. Penalties are those of the OpenAI interface:
`logit - count * frequency - (count > 0) * presence` over the tokens of the answer so far.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from posttrain.core.protocols import Request, Steer


@dataclass(slots=True)
class Wish:
    """State of one answer: how often each token came, the likeliest alternatives at each step, and the inner steer's state."""

    inner: Any = None
    counts: dict[int, int] = field(default_factory=dict)
    tops: list[list[tuple[int, float]]] = field(default_factory=list)


class Wishes:
    """bias: token id to logit. frequency, presence: penalties. top: alternatives to keep per token. inner: the guard, or None.

    The states of a request's answers are kept in `answers`, in the order of their index.
    """

    def __init__(
        self,
        bias: Mapping[int, float] | None = None,
        frequency: float = 0.0,
        presence: float = 0.0,
        top: int = 0,
        inner: Steer | None = None,
    ) -> None:
        self.bias, self.frequency, self.presence, self.top, self.inner = (
            dict(bias or {}),
            frequency,
            presence,
            top,
            inner,
        )
        self.answers: list[Wish] = []

    def start(self, request: Request) -> Wish:
        made = Wish(None if self.inner is None else self.inner.start(request))
        self.answers.append(made)
        return made

    def adjust(self, state: Wish, logits: Tensor) -> Tensor:
        if self.top:
            best = logits.log_softmax(-1).topk(min(self.top, logits.shape[0]))
            state.tops.append(list(zip(best.indices.tolist(), best.values.tolist(), strict=True)))
        change: dict[int, float] = {i: b for i, b in self.bias.items() if i < logits.shape[0]}
        if self.frequency or self.presence:
            for token, count in state.counts.items():
                change[token] = change.get(token, 0.0) - count * self.frequency - self.presence
        if change:
            at = torch.tensor(list(change), device=logits.device)
            logits = logits.index_add(
                0, at, torch.tensor(list(change.values()), device=logits.device, dtype=logits.dtype)
            )
        return logits if self.inner is None else self.inner.adjust(state.inner, logits)

    def mask(self, state: Wish) -> Tensor | None:
        return None if self.inner is None else self.inner.mask(state.inner)

    def advance(self, state: Wish, token: int) -> Wish:
        state.counts[token] = state.counts.get(token, 0) + 1
        if self.inner is not None:
            state.inner = self.inner.advance(state.inner, token)
        return state

    def settle(self, text: str) -> str:
        """The guard's word on a finished text."""
        settle = getattr(self.inner, "settle", None)
        return settle(text) if settle is not None else text
