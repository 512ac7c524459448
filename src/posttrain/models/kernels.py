"""Other ways to attend over the flat stream: kernels of our own on CPUs, one variable-length call or FlexAttention on GPUs.

All compute what the buckets of `models.attention` compute, without padding and without a mask over the stream. A `VarlenPlan` hands
every segment of the batch (a prompt, or an answer with its prompt's keys before its own) to torch's variable-length flash attention,
whose causal rule is aligned bottom-right, as an answer after its prompt needs (Dao et al. 2022, arXiv:2205.14135). A `FlexPlan` gives
FlexAttention the rule of the tree itself: same group, and the prompt or the own branch, and not later (arXiv:2412.05496).

The variable-length kernel exists on CUDA alone, in fp16 and bf16; FlexAttention on CPUs computes forwards only. There the kernels of
`models.native_attention` are used, or the buckets where they cannot be compiled, and these plans are tested against them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from posttrain.core.batch import Batch
from posttrain.models.attention import FlatPlan, plan, segments
from posttrain.models.native_attention import NativePlan
from posttrain.native.library import library

Kernel = Literal["buckets", "native", "varlen", "flex"]


@dataclass
class VarlenPlan:
    """Every segment a sequence. queries [Q] and keys [K] are places in the stream, back [T] where a place's output stands."""

    queries: Tensor
    keys: Tensor
    query_starts: Tensor
    key_starts: Tensor
    longest_query: int
    longest_key: int
    back: Tensor
    call: Callable[..., Any] | None = None
    """Attention in the signature of `torch.nn.attention.varlen.varlen_attn`; None takes that."""

    @classmethod
    def of(cls, batch: Batch) -> VarlenPlan:
        """The segments of a batch, prompts and documents first."""
        causal, suffix = segments(batch)
        asked = [*causal, *(answer for _, answer in suffix)]
        seen = [*causal, *(np.concatenate([prompt, answer]) for prompt, answer in suffix)]
        back = np.zeros(batch.T, dtype=np.int64)
        queries = np.concatenate(asked)
        back[queries] = np.arange(len(queries))
        device = batch.ids.device

        def starts(parts: list[np.ndarray]) -> Tensor:
            return torch.from_numpy(np.cumsum([0, *map(len, parts)]).astype(np.int32)).to(device)

        return cls(
            torch.from_numpy(queries).to(device),
            torch.from_numpy(np.concatenate(seen)).to(device),
            starts(asked),
            starts(seen),
            max(map(len, asked)),
            max(map(len, seen)),
            torch.from_numpy(back).to(device),
        )

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None, window: int | None) -> Tensor:
        """[T, H, D] queries, [T, H_kv, D] keys and values -> [T, H, D]."""
        call = self.call or _varlen()
        out = call(
            q.index_select(0, self.queries),
            k.index_select(0, self.keys),
            v.index_select(0, self.keys),
            self.query_starts,
            self.key_starts,
            self.longest_query,
            self.longest_key,
            scale=scale,
            window_size=(-1 if window is None else window - 1, 0),
            enable_gqa=q.shape[1] != k.shape[1],
        )
        return out.index_select(0, self.back)


@dataclass
class FlexPlan:
    """The tree as a rule. group, branch (0 = the prompt) and position are [T]."""

    group: Tensor
    branch: Tensor
    position: Tensor
    _masks: dict[int | None, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: Batch) -> FlexPlan:
        """Group and branch of every place of the stream."""
        group, branch = np.zeros(batch.T, dtype=np.int64), np.zeros(batch.T, dtype=np.int64)
        for g in range(batch.G):
            start = int(batch.prompt_start[g])
            group[start : start + int(batch.prompt_length[g])] = g
        for r, g in enumerate(batch.group_of):
            place = slice(int(batch.start[r]), int(batch.start[r] + batch.length[r]))
            group[place], branch[place] = int(g), r + 1
        device = batch.ids.device
        return cls(torch.from_numpy(group).to(device), torch.from_numpy(branch).to(device), batch.position)

    def mask(self, window: int | None) -> Any:
        """The block mask of a window, built once for all layers that have it."""
        if window not in self._masks:
            from torch.nn.attention.flex_attention import create_block_mask

            group, branch, position = self.group, self.branch, self.position

            def seen(_b: Tensor, _h: Tensor, i: Tensor, j: Tensor) -> Tensor:
                told = (group[i] == group[j]) & ((branch[j] == 0) | (branch[j] == branch[i]))
                told = told & (position[j] <= position[i])
                return told if window is None else told & (position[j] > position[i] - window)

            total = len(self.group)
            self._masks[window] = create_block_mask(seen, None, None, total, total, device=self.group.device)
        return self._masks[window]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None, window: int | None) -> Tensor:
        """[T, H, D] queries, [T, H_kv, D] keys and values -> [T, H, D]."""
        heads = (x.transpose(0, 1)[None] for x in (q, k, v))
        call = _flex(q.is_cuda)
        out = call(*heads, block_mask=self.mask(window), scale=scale, enable_gqa=q.shape[1] != k.shape[1])
        return out[0].transpose(0, 1)


def _varlen() -> Callable[..., Any]:
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn


@cache
def _flex(compiled: bool) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    made: Callable[..., Any] = torch.compile(flex_attention, dynamic=True) if compiled else flex_attention  # type: ignore[assignment]
    return made


def on_cpu() -> Kernel:
    """The kernel of a CPU: our own where this machine can compile them."""
    return "buckets" if library() is None else "native"


PLANS: dict[Kernel, Callable[[Batch], FlatPlan | NativePlan | VarlenPlan | FlexPlan]] = {
    "buckets": plan,
    "native": NativePlan.of,
    "varlen": VarlenPlan.of,
    "flex": FlexPlan.of,
}
"""How each kernel reads a batch."""
