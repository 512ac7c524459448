"""Attention of one decoding step that also tells its log-sum-exp, and the shapes at which a row's bits depend on nothing but the row."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Edit = Callable[[int, Tensor, bool], Tensor]
"""A change of hidden states: (index of the block, its output [N, d], is it the prompt?) -> [N, d]. Steering vectors are such."""
MIN_ROWS = 4
"""From this many rows on, a row of a matrix product on CPU does not depend on their number."""


def rounded(n: int, step: int) -> int:
    """The next multiple of `step` from n on."""
    return -(-n // step) * step


def key_width(n: int, queries: int) -> int:
    """Number of keys to attend over for at least `n`, such that masked keys beyond `n` leave every bit alone.

    With four or more queries at once MKL sums over 193 to 383 keys in two halves, whose border moves with the number: that range is
    skipped. Observed, not documented; the test of batch independence guards it.
    """
    n = rounded(n, 16)  # whole vectors, which AVX-512 has of sixteen: a vector's tail goes through another exponential
    if queries < MIN_ROWS:
        return n
    return 384 if 192 < n < 384 else n


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Attention and its log-sum-exp: q [B, H, m, D], k and v [B, H, T, D], additive mask broadcastable to [B, H, m, T]."""
    if q.device.type == "cpu":
        mask = mask.expand(q.shape[0], 1, q.shape[2], k.shape[2])
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, False, attn_mask=mask, scale=scale
        )
    scores = torch.matmul(q, k.transpose(-1, -2)).float() * scale + mask
    return torch.matmul(scores.softmax(-1).to(v.dtype), v), scores.logsumexp(-1)
