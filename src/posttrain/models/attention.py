"""Attention over the flat layout: each prompt attended once, every response on its own prompt, no dense mask over the stream.

A `FlatPlan` is built once per batch and shared by all layers. It cuts the stream into segments: *causal* ones (a prompt with several
responses, or a whole prompt+answer document when there is one response) and *suffix* ones (a response whose keys are its prompt and
itself, aligned bottom-right). Segments of like length go through one batched SDPA call; padding inside a bucket never reaches the
stream, because outputs are read back only where a token is. The function enters stock `transformers` models through
`AttentionInterface.register`, so no model code is copied.

Leaves out: soft-capping and attention sinks (such models take the dense path), and ALiBi-type biases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from posttrain.core.batch import Batch

NAME = "posttrain_flat"
WASTE = 0.12
"""Share of padding that a bucket may hold before a new one is opened (measured break-even on CPU, specs of performance)."""


@dataclass
class Bucket:
    """Segments of like shape. queries [B, Lq] and keys [B, Lk] are places in the stream; valid marks real queries."""

    queries: Tensor
    keys: Tensor
    causal: bool
    query_position: Tensor
    key_position: Tensor
    key_valid: Tensor
    padded: bool
    _masks: dict[int | None, Tensor | None] = field(default_factory=dict)

    def mask(self, window: int | None) -> Tensor | None:
        """[B, 1, Lq, Lk] bool, or None where SDPA's own causal rule is exact. `window` counts the token itself."""
        if window is not None and int(self.key_position.max()) < window:
            window = None
        if window not in self._masks:
            self._masks[window] = self._build(window)
        return self._masks[window]

    def _build(self, window: int | None) -> Tensor | None:
        if self.causal and window is None:
            return None
        q, k = self.query_position[:, :, None], self.key_position[:, None, :]
        seen = (k <= q) & self.key_valid[:, None, :]
        if window is not None:
            seen &= k > q - window
        return seen[:, None]


@dataclass
class FlatPlan:
    """Buckets of one batch, and for every place of the stream where its output stands among the buckets' outputs."""

    buckets: list[Bucket]
    back: Tensor

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None, window: int | None) -> Tensor:
        """[T, H, D] queries, [T, H_kv, D] keys and values -> [T, H, D]."""
        outs = []
        for bucket in self.buckets:
            mask = bucket.mask(window)
            shape_q, shape_k = bucket.queries.shape, bucket.keys.shape
            out = F.scaled_dot_product_attention(
                q.index_select(0, bucket.queries.flatten()).unflatten(0, shape_q).transpose(1, 2),
                k.index_select(0, bucket.keys.flatten()).unflatten(0, shape_k).transpose(1, 2),
                v.index_select(0, bucket.keys.flatten()).unflatten(0, shape_k).transpose(1, 2),
                attn_mask=mask,
                is_causal=mask is None,
                scale=scale,
                enable_gqa=q.shape[1] != k.shape[1],
            )
            outs.append(out.transpose(1, 2).flatten(0, 1))
        joined = outs[0] if len(outs) == 1 else torch.cat(outs)
        return joined.index_select(0, self.back)


def _bucketed(lengths: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Segment indices grouped so that padding (area of queries x keys) stays under WASTE. Deterministic."""
    order = sorted(range(len(lengths)), key=lambda s: (lengths[s][0] + lengths[s][1], lengths[s], s), reverse=True)
    buckets: list[list[int]] = []
    real = padded_q = padded_k = 0
    for s in order:
        q, k = lengths[s]
        if buckets:
            rows = len(buckets[-1]) + 1
            wide_q, wide_k = max(padded_q, q), max(padded_k, k)
            if rows * (wide_q + wide_k) <= (real + q + k) * (1 + WASTE):
                buckets[-1].append(s)
                real, padded_q, padded_k = real + q + k, wide_q, wide_k
                continue
        buckets.append([s])
        real, padded_q, padded_k = q + k, q, k
    return buckets


class Attending(Protocol):
    """A plan of one batch, whatever computes it."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None, window: int | None) -> Tensor: ...


def segments(batch: Batch) -> tuple[list[np.ndarray], list[tuple[np.ndarray, np.ndarray]]]:
    """Places in the stream: those that see themselves causally, and answers with the prompt that they see before themselves."""
    causal: list[np.ndarray] = []
    suffix: list[tuple[np.ndarray, np.ndarray]] = []
    rows_of = np.bincount(batch.group_of, minlength=batch.G)
    first_row = np.concatenate([[0], np.cumsum(rows_of)])
    for g in range(batch.G):
        prompt = np.arange(batch.prompt_start[g], batch.prompt_start[g] + batch.prompt_length[g])
        rows = range(int(first_row[g]), int(first_row[g + 1]))
        answers = [np.arange(batch.start[r], batch.start[r] + batch.length[r]) for r in rows]
        alone = len(answers) == 1
        causal.append(np.concatenate([prompt, *answers]) if alone else prompt)
        suffix += [] if alone else [(prompt, a) for a in answers]
    return causal, suffix


def plan(batch: Batch) -> FlatPlan:
    """The segments of a batch, bucketed; tensors lie on the batch's device."""
    causal, suffix = segments(batch)
    back = np.zeros(batch.T, dtype=np.int64)
    buckets, at = [], 0
    for members in _bucketed([(len(c), len(c)) for c in causal]):
        made = _causal_bucket([causal[s] for s in members])
        at = _note(back, made, [causal[s] for s in members], at)
        buckets.append(made)
    for members in _bucketed([(len(a), len(p)) for p, a in suffix]):
        made = _suffix_bucket([suffix[s] for s in members])
        at = _note(back, made, [suffix[s][1] for s in members], at)
        buckets.append(made)
    return FlatPlan([_moved(b, batch.ids.device) for b in buckets], torch.from_numpy(back).to(batch.ids.device))


def _note(back: np.ndarray, bucket: Bucket, places: list[np.ndarray], at: int) -> int:
    width = bucket.queries.shape[1]
    for b, place in enumerate(places):
        back[place] = at + b * width + np.arange(len(place))
    return at + len(places) * width


def _rectangle(rows: list[np.ndarray], fill: int = 0) -> np.ndarray:
    out = np.full((len(rows), max(len(r) for r in rows)), fill, dtype=np.int64)
    for b, r in enumerate(rows):
        out[b, : len(r)] = r
    return out


def _causal_bucket(places: list[np.ndarray]) -> Bucket:
    index = _rectangle(places)
    width = index.shape[1]
    # Right padding needs no mask under the causal rule: real queries never see later keys.
    position = torch.arange(width).expand(len(places), -1)
    lengths = torch.tensor([len(p) for p in places])
    valid = position < lengths[:, None]
    at = torch.from_numpy(index)
    return Bucket(at, at, True, position, position, valid | ~valid, bool((~valid).any()))


def _suffix_bucket(segments: list[tuple[np.ndarray, np.ndarray]]) -> Bucket:
    prompts, answers = [p for p, _ in segments], [a for _, a in segments]
    prompt_at, answer_at = _rectangle(prompts), _rectangle(answers)
    p_len = np.asarray([len(p) for p in prompts])[:, None]
    a_len = np.asarray([len(a) for a in answers])[:, None]
    p_pos, a_pos = np.arange(prompt_at.shape[1])[None], np.arange(answer_at.shape[1])[None]
    key_position = np.concatenate([np.broadcast_to(p_pos, prompt_at.shape), p_len + a_pos], axis=1)
    key_valid = np.concatenate([p_pos < p_len, a_pos < a_len], axis=1)
    return Bucket(
        queries=torch.from_numpy(answer_at),
        keys=torch.from_numpy(np.concatenate([prompt_at, answer_at], axis=1)),
        causal=False,
        # A padded query repeats the last real position, so that its row of the mask is never empty.
        query_position=torch.from_numpy(np.minimum(p_len + a_pos, p_len + a_len - 1)),
        key_position=torch.from_numpy(key_position),
        key_valid=torch.from_numpy(key_valid),
        padded=True,
    )


def _moved(bucket: Bucket, device: torch.device) -> Bucket:
    names = ("queries", "keys", "query_position", "key_position", "key_valid")
    return Bucket(causal=bucket.causal, padded=bucket.padded, **{n: getattr(bucket, n).to(device) for n in names})


def flat_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    flat: Attending | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention function in `transformers`' signature. query [1, H, T, D], key and value [1, H_kv, T, D] -> [1, T, H, D]."""
    if flat is None:
        raise AssertionError("the flat layout's plan did not reach the attention: this model drops keyword arguments")
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [T, H, D]
    return flat.attend(q, k, v, scaling, sliding_window)[None], None


def _no_mask(*_: Any, **__: Any) -> None:
    return None


def register() -> None:
    """Make `posttrain_flat` known to `transformers`; harmless when repeated."""
    AttentionInterface.register(NAME, flat_attention)
    AttentionMaskInterface.register(NAME, _no_mask)


register()
