"""Log-probabilities of targets under a language-model head by the kernels: a block of logits is normalised while it is in the cache.

`logp(...)` gives what `token_scores` gives for log-probs alone, without a cap; where nothing needs a gradient no logits are ever written.
"""

from __future__ import annotations

from ctypes import c_float, c_int64
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from posttrain.models.native_modules import ROWS, WIDEST, call, panels, usable, weight_gradient
from posttrain.native.library import library, padded


def knows(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """May the kernels compute this head here? hidden [N, d], weight [V, d]."""
    width = weight.shape[1]
    known = library() is not None and width <= WIDEST and width == padded(width) and weight.is_contiguous()
    return known and len(hidden) > 0 and usable(hidden, weight, *([] if bias is None else [bias]))


def logp(hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, factor: float) -> Tensor:
    """Log-probability [N] of each target under the softmax of factor * (hidden W^T + b)."""
    made: Tensor = _Head.apply(hidden, weight, bias, target, factor)
    return made


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, factor: float) -> Tensor:
        hidden, target = hidden.contiguous(), target.contiguous()
        kept = hidden.new_empty(len(hidden), len(weight)) if any(ctx.needs_input_grad) else None
        said = _forward(hidden, weight, bias, target, factor, kept)
        ctx.factor, ctx.kept = factor, kept
        ctx.save_for_backward(hidden, weight, bias, target)
        return said

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, target = ctx.saved_tensors
        p, ctx.kept = ctx.kept, None  # the gradient is written over it; a second backward computes the softmax again
        if p is None:
            p = hidden.new_empty(len(hidden), len(weight))
            _forward(hidden, weight, bias, target, ctx.factor, p)
        dx, (v, k) = torch.empty_like(hidden), weight.shape
        sizes = c_int64(k), c_int64(v), c_float(ctx.factor)
        call(
            "head_backward",
            p,
            c_int64(len(hidden)),
            panels(weight, back=True),
            *sizes,
            target,
            grads[0].contiguous(),
            dx,
        )
        dw = weight_gradient(p, hidden) if ctx.needs_input_grad[1] else None
        return dx, dw, p.sum(0) if ctx.needs_input_grad[2] else None, None, None


def _forward(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, factor: float, p: Tensor | None
) -> Tensor:
    (v, k), said = weight.shape, hidden.new_empty(len(hidden))
    sizes = c_int64(k), c_int64(v), c_float(factor)
    block = hidden.new_empty(0 if p is not None else ROWS * v)
    call("head_forward", hidden, c_int64(len(hidden)), panels(weight, back=False), bias, *sizes, target, p, block, said)
    return said
