"""Attention over the flat layout by the kernels of `native/kernels.c`: fp32 on CPUs, prompts and answers read where they lie in the stream.

Nothing is gathered, padded or masked: a group's keys are packed once for all its answers, products run in tiles that stay in registers, and
a query's weights are made only for what it sees. The backward computes them again from the log-sum-exp (Dao et al. 2022, arXiv:2205.14135).
A group is computed by one thread, so its bits do not depend on how many there are. Takes what the buckets of `models.attention` take, and
gives the same to rounding, where `fits` says so.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import Structure, c_float, c_int64, c_void_p
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from posttrain.core.batch import Batch
from posttrain.core.machine import lanes, on_a_lane
from posttrain.models.attention import FlatPlan, plan
from posttrain.native.library import library


def fits(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Do the kernels compute such heads [T, H, D] on this machine?"""
    alike = q.shape[2] == k.shape[2] == v.shape[2] and q.shape[2] % 16 == 0
    plain = all(x.device.type == "cpu" and x.dtype == torch.float32 for x in (q, k, v))
    return alike and plain and library() is not None


class _Attention(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("q", "k", "v", "cosine", "sine", "out", "lse")),
        *((name, c_void_p) for name in ("dout", "dq", "dk", "dv")),
        *(
            (name, c_int64)
            for name in ("q_t", "q_h", "k_t", "k_h", "v_t", "v_h", "heads", "kv_heads", "head_dim", "window")
        ),
        ("scale", c_float),
    ]


@dataclass
class NativePlan:
    """Where each group's prompt and answers lie: start, length [G]; first [G + 1] into at, size [R], all int64. Heads that do not fit go
    through the buckets of the batch."""

    batch: Batch
    start: np.ndarray
    length: np.ndarray
    first: np.ndarray
    at: np.ndarray
    size: np.ndarray
    _buckets: FlatPlan | None = None

    @classmethod
    def of(cls, batch: Batch) -> NativePlan:
        """The groups of a batch."""
        rows = np.bincount(batch.group_of, minlength=batch.G)
        first = np.concatenate([[0], np.cumsum(rows)])
        told = (batch.prompt_start, batch.prompt_length, first, batch.start, batch.length)
        start, length, first, at, size = (np.ascontiguousarray(x, dtype=np.int64) for x in told)
        return cls(batch, start, length, first, at, size)

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scale: float | None,
        window: int | None,
        turn: tuple[Tensor, ...] = (),
    ) -> Tensor:
        """[T, H, D] queries, [T, H_kv, D] keys and values -> [T, H, D]. turn: cosine and sine [T, D] by which queries and keys are turned
        where they are read, halves of a head being pairs; for heads that fit."""
        if not fits(q, k, v):
            assert not turn, "heads that do not fit are turned before"
            self._buckets = self._buckets or plan(self.batch)
            return self._buckets.attend(q, k, v, scale, window)
        made: Tensor = _Attend.apply(
            self, scale or q.shape[-1] ** -0.5, window or 0, *map(_plain, (q, k, v)), *(t.contiguous() for t in turn)
        )
        return made

    def run(self, what: _Attention, head_dim: int) -> None:
        """The kernel over all groups, on as many threads as torch has here."""
        lib = library()
        assert lib is not None, "a plan is made where the kernels are"
        groups, count = len(self.start), 1 if on_a_lane() else torch.get_num_threads()
        parts = [self._call(lib, what, head_dim, *ends) for ends in self._shares(min(count, groups))]
        if len(parts) == 1:
            parts[0]()
        else:
            for done in [lanes(count).submit(part) for part in parts]:
                done.result()

    def _shares(self, count: int) -> list[tuple[int, int]]:
        """Runs of groups of like work."""
        tokens = self.length + np.add.reduceat(np.append(self.size, 0), self.first[:-1]) * (np.diff(self.first) > 0)
        ends = np.searchsorted(np.cumsum(tokens), np.arange(1, count) * tokens.sum() / count).tolist()
        edges = [0, *ends, len(tokens)]
        return [(a, b) for a, b in pairwise(edges) if a < b]

    def _call(self, lib: Any, what: _Attention, head_dim: int, a: int, b: int) -> Callable[[], None]:
        answers = self.size[self.first[a] : self.first[b]]
        longest = int(self.length[a:b].max()), int(answers.max(initial=0))
        lib.attend_scratch.restype = c_int64
        floats = lib.attend_scratch(*map(c_int64, (*longest, head_dim)))
        where = [c_void_p(x.ctypes.data) for x in (self.start, self.length, self.first, self.at, self.size)]

        def call() -> None:
            room = torch.empty(floats)
            lib.attend(ctypes.byref(what), c_int64(a), c_int64(b), *where, c_void_p(room.data_ptr()))

        return call


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: NativePlan, scale: float, window: int, q: Tensor, k: Tensor, v: Tensor, *turn: Tensor
    ) -> Tensor:
        out = q.new_empty(q.shape)
        lse = q.new_empty(q.shape[:2])
        plan.run(_told(q, k, v, turn, out, lse, scale, window), q.shape[2])
        ctx.plan, ctx.scale, ctx.window = plan, scale, window
        ctx.save_for_backward(q, k, v, out, lse, *turn)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse, *turn = ctx.saved_tensors
        dout = grads[0].contiguous()
        dq, dk, dv = (x.new_empty(x.shape) for x in (q, k, v))
        told = _told(q, k, v, turn, out, lse, ctx.scale, ctx.window)
        told.dout, told.dq, told.dk, told.dv = (x.data_ptr() for x in (dout, dq, dk, dv))
        ctx.plan.run(told, q.shape[2])
        return None, None, None, dq, dk, dv, *(None for _ in turn)


def _plain(x: Tensor) -> Tensor:
    """A tensor whose heads are rows of numbers side by side."""
    return x if x.stride(2) == 1 else x.contiguous()


def _told(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    turn: Sequence[Tensor],
    out: Tensor,
    lse: Tensor,
    scale: float,
    window: int,
) -> _Attention:
    numbers = [s for x in (q, k, v) for s in x.stride()[:2]]
    cosine, sine = (x.data_ptr() for x in turn) if turn else (0, 0)
    where = [x.data_ptr() for x in (q, k, v)]
    ends = [cosine, sine, out.data_ptr(), lse.data_ptr(), 0, 0, 0, 0]
    return _Attention(*where, *ends, *numbers, q.shape[1], k.shape[1], q.shape[2], window, scale)
