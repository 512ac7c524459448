"""Expert minus anti-expert: `base + a * (expert - anti)` over the tokens that the base finds plausible.

DExperts (Liu et al. 2021, arXiv:2105.03023) and proxy tuning (Liu et al. 2024, arXiv:2401.08565). The three models share a vocabulary,
which is proven first; each expert keeps a cache of its own per row and sees the chat through its own template. a = 0 is the base, bit for
bit, and asks the experts nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from posttrain.core.chat import Chat
from posttrain.guard.pipeline import Row


class VocabMismatch(ValueError):
    """Two models whose token ids do not mean the same texts."""


def vocabulary_hash(tokenizer: Any) -> str:
    """Hash of which id spells what."""
    pairs = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return hashlib.sha256(repr(pairs).encode()).hexdigest()


def same_vocabulary(a: Any, b: Any) -> None:
    """Raise VocabMismatch unless the smaller vocabulary is the beginning of the larger one, id by id."""
    if vocabulary_hash(a) == vocabulary_hash(b):
        return
    small, large = sorted((a.get_vocab(), b.get_vocab()), key=len)
    wrong = next((piece for piece, i in small.items() if large.get(piece) != i), None)
    if wrong is not None:
        raise VocabMismatch(f"token {wrong!r} has another id in the other model; experts need the base's tokenizer")


class Companion:
    """Next-token logits of another causal LM for rows that it did not draw. encode: chat -> prompt ids, by that model's own template."""

    def __init__(self, model: Any, encode: Callable[[Chat], Sequence[int]], key: str) -> None:
        self.model, self.encode, self.key = model, encode, key

    @torch.no_grad()
    def logits(self, row: Row) -> Tensor:
        """Logits [V] after the row's tokens; feeds only what is new since the last call."""
        cache, fed = row.cells.get(self.key, (None, 0))
        if cache is None:
            assert row.request is not None, "a guarded row knows its request"
            ids = [*self.encode(row.request.prompt), *row.tokens]
        else:
            ids = row.tokens[fed:]
        device = next(self.model.parameters()).device
        out = self.model(input_ids=torch.tensor([ids], device=device), past_key_values=cache, use_cache=True)
        row.cells[self.key] = (out.past_key_values, len(row.tokens))
        return out.logits[0, -1].float()


class ExpertMix:
    """The stage. strength: a. plausible: tokens below this share of the base's best probability keep out (set to -1e9, never -inf)."""

    name = "experts"

    def __init__(
        self, expert: Companion, anti: Companion | None = None, strength: float = 1.0, plausible: float = 0.1
    ) -> None:
        if not 0 < plausible <= 1:
            raise ValueError(f"plausible is a share of the best probability and lies in (0, 1], got {plausible}")
        self.expert, self.anti, self.strength, self.plausible = expert, anti, strength, plausible

    def __call__(self, row: Row, logits: Tensor) -> Tensor:
        if self.strength == 0:
            return logits
        anti = self.anti.logits(row) if self.anti is not None else logits
        width = logits.shape[0]
        return mix(logits, _fit(self.expert.logits(row), width), _fit(anti, width), self.strength, self.plausible)


def _fit(logits: Tensor, width: int) -> Tensor:
    """Padding rows of an embedding do not count: cut, or filled with the smallest logit."""
    if logits.shape[0] >= width:
        return logits[:width]
    return torch.nn.functional.pad(logits, (0, width - logits.shape[0]), value=float(logits.min()))


def mix(base: Tensor, expert: Tensor, anti: Tensor, strength: float, plausible: float = 0.1) -> Tensor:
    """`base + a (expert - anti)` in logits [V]; tokens with p_base < plausible * max p_base are out.

    The masked value is finite so that later stages cannot meet inf - inf.
    """
    if strength == 0:
        return base
    keep = base >= base.max() + math.log(plausible)
    return torch.where(keep, base + strength * (expert.log_softmax(-1) - anti.log_softmax(-1)), -1e9)
