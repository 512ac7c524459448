"""Decoder for any other causal language model of transformers, through its own forward and cache.

Rows that answer one prompt and start together always have the same length: such a cohort needs no padding, no mask and no position
bookkeeping, so whatever the architecture does (mixtures of experts, learnt positions, recurrent layers) is computed as its authors wrote
it. The prompt is prefilled once and its cache repeated. One forward per cohort and step: correct first, slower than `Fused` when many
different prompts are live.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from posttrain.rollout.attention import MIN_ROWS, Edit
from posttrain.rollout.score import without_dropout


@dataclass(slots=True, eq=False)
class Opened:
    """A prefilled prompt and its cache of one row."""

    cache: Any
    length: int


@dataclass(slots=True, eq=False)
class Cohort:
    """Rows of equal length. members: positions in the cache's batch of the live ones; size: rows in the cache, scratch ones included."""

    cache: Any
    length: int
    size: int
    members: list[int] = field(default_factory=list)


@contextmanager
def edited(model: Any, edit: Edit | None, prompt: bool) -> Iterator[None]:
    """Block outputs pass through `edit` for the duration (forward hooks on the decoder's list of layers)."""
    hooks = []
    for i, block in enumerate(model.get_decoder().layers if edit is not None else ()):

        def change(_: Any, __: Any, out: Any, i: int = i) -> Any:
            assert edit is not None
            states = out[0] if isinstance(out, tuple) else out
            made = edit(i, states.reshape(-1, states.shape[-1]), prompt).view_as(states)
            return (made, *out[1:]) if isinstance(out, tuple) else made

        hooks.append(block.register_forward_hook(change))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class Cohorts:
    """Rows 0..live-1 of any causal LM whose forward takes a `Cache`."""

    def __init__(self, model: Any, slots: int, max_context: int) -> None:
        self.slots, self.max_context = slots, max_context
        self.refresh(model)
        self.rows: list[tuple[Cohort, int]] = []
        self.cohorts: list[Cohort] = []
        self.edit: Edit | None = None

    def refresh(self, model: Any, _: Any = None) -> None:
        """Use this model from now on; it has no copies that a second argument could bring."""
        self.model = model

    @property
    def live(self) -> int:
        return len(self.rows)

    def open(self, prompts: list[list[int]], shared: list[bool]) -> tuple[list[Opened], Tensor]:
        """Prefill prompts one by one. Returns a handle and the next-token logits [G, V] float32 of each."""
        from transformers import DynamicCache

        device = next(self.model.parameters()).device
        handles, logits = [], []
        for ids in prompts:
            cache = DynamicCache(config=self.model.config)
            out = self._forward(torch.tensor([ids], device=device), cache, 0)
            handles.append(Opened(cache, len(ids)))
            logits.append(out[0])
        return handles, torch.stack(logits)

    def _forward(self, ids: Tensor, cache: Any, past: int) -> Tensor:
        with without_dropout(self.model), edited(self.model, self.edit, prompt=past == 0):
            out = self.model(
                input_ids=ids,
                attention_mask=torch.ones(ids.shape[0], past + ids.shape[1], dtype=torch.long, device=ids.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return out.logits[:, -1].float()

    def close(self, prompt: Opened) -> None:
        """No more rows of this prompt will be seated."""
        prompt.cache = None

    def seat(self, prompt: Opened, count: int) -> None:
        """Append `count` rows that answer a prompt: a new cohort."""
        cache, size = copy.deepcopy(prompt.cache), max(count, MIN_ROWS)
        cache.batch_repeat_interleave(size)
        cohort = Cohort(cache, prompt.length, size, list(range(count)))
        self.cohorts.append(cohort)
        self.rows += [(cohort, j) for j in range(count)]

    def release(self, row: int) -> None:
        """Row leaves; the last row takes its number."""
        cohort, j = self.rows[row]
        self.rows[row] = self.rows[-1]
        self.rows.pop()
        cohort.members.remove(j)
        if not cohort.members:
            self.cohorts.remove(cohort)
        elif cohort.size > MIN_ROWS and len(cohort.members) * 8 <= cohort.size * 7:
            self._shrink(cohort)

    def _shrink(self, cohort: Cohort) -> None:
        kept = cohort.members + cohort.members[:1] * (MIN_ROWS - len(cohort.members))
        cohort.cache.batch_select_indices(torch.tensor(kept, device=next(self.model.parameters()).device))
        renumber = {old: new for new, old in enumerate(cohort.members)}
        self.rows = [(c, renumber[j] if c is cohort else j) for c, j in self.rows]
        cohort.members, cohort.size = list(range(len(cohort.members))), len(kept)

    def step(self, tokens: list[int]) -> Tensor:
        """Feed one token to each live row; next-token logits [live, V] float32."""
        device = next(self.model.parameters()).device
        out: list[Tensor | None] = [None] * len(self.rows)
        for cohort in self.cohorts:
            at = [(row, j) for row, (c, j) in enumerate(self.rows) if c is cohort]
            ids = torch.full((cohort.size, 1), tokens[at[0][0]], dtype=torch.long)
            for row, j in at:
                ids[j, 0] = tokens[row]
            logits = self._forward(ids.to(device), cohort.cache, cohort.length)
            cohort.length += 1
            for row, j in at:
                out[row] = logits[j]
        return torch.stack([o for o in out if o is not None])
