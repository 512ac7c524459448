"""The trunk of a causal LM: a Batch in, hidden states at the wanted places out, by the shared path or the dense one.

The shared path runs the flat stream once (`models.attention`). The dense path pads one row per response, as every trainer does; it
is the fallback for models with recurrent layers, soft-capping or sinks, and the oracle that the shared path is verified against.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from posttrain.core.batch import Batch
from posttrain.models.attention import NAME
from posttrain.models.kernels import PLANS, Kernel
from posttrain.models.last_block import MOST, read_only_at


def causal_lm(model: Any) -> Any:
    """The `transformers` model inside an adapter wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def backbone(model: nn.Module) -> Any:
    """The stack that ends in the final norm, without the language-model head."""
    inner = causal_lm(model)
    return getattr(inner, inner.base_model_prefix, inner)


def is_encoder(model: nn.Module) -> bool:
    """Does the model look both ways (BERT and its kin)? Such a model fills masks and has task classes of its own."""
    return reads_both_ways(causal_lm(model).config)


def reads_both_ways(config: Any) -> bool:
    """`is_encoder` from the config alone."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as fills_masks

    other = getattr(config, "is_decoder", False) or getattr(config, "is_encoder_decoder", False)
    return config.model_type in fills_masks and not other


def dense_reason(model: nn.Module) -> str | None:
    """Why this architecture cannot share prompts, or None. What the name of the config says; the first batch verifies the rest."""
    config = causal_lm(model).config
    if is_encoder(model):
        return "an encoder reads prompt and answer together"
    if getattr(config, "attn_logit_softcapping", None):
        return "attention logits are soft-capped"
    layers = set(getattr(config, "layer_types", None) or ())
    other = layers - {"full_attention", "sliding_attention"}
    if other:
        return f"layers of type {', '.join(sorted(other))} are not plain attention"
    if not getattr(causal_lm(model), "_supports_attention_backend", False):
        return "its attention cannot be replaced"
    if not getattr(causal_lm(model), "_supports_sdpa", True):
        return "it refuses SDPA"
    return None


def dense_attention(model: nn.Module) -> str:
    """The library's attention for the dense path: SDPA, or eager where the model's rules do not fit SDPA."""
    inner = causal_lm(model)
    capped = getattr(inner.config, "attn_logit_softcapping", None)
    return "eager" if capped or not getattr(inner, "_supports_sdpa", True) else "sdpa"


def hidden(model: nn.Module, batch: Batch, places: Tensor) -> Tensor:
    """Final hidden states [len(places), d] at places of the flat stream."""
    return shared_hidden(model, batch, places) if batch.layout == "shared" else dense_hidden(model, batch, places)


def shared_hidden(model: nn.Module, batch: Batch, places: Tensor, kernel: Kernel = "buckets") -> Tensor:
    """One pass over the flat stream, batch dimension 1; each prompt token is computed once."""
    trunk = backbone(model)
    with attention_of(model, NAME), nullcontext() if len(places) > MOST * batch.T else read_only_at(trunk, places):
        out = trunk(
            input_ids=batch.ids[None], position_ids=batch.position[None], use_cache=False, flat=PLANS[kernel](batch)
        )
    return out.last_hidden_state[0].index_select(0, places)


@dataclass(frozen=True)
class Rectangle:
    """Rows of prompt + response, right-padded: ids and mask [R, L]; `where` [T] the place of a stream token in [R * L].

    A prompt token of a group with several responses stands in several rows; `where` names the first. `prompt_end` [R] is the
    place of the row's own last prompt token, from which its first response token is predicted.
    """

    ids: Tensor
    mask: Tensor
    where: np.ndarray
    prompt_end: np.ndarray


def rectangle(batch: Batch, pad: int = 0, extra: int = 0) -> Rectangle:
    """The dense form of a batch; `extra` columns of padding are for tests of padding invariance."""
    group_of = batch.group_of
    lengths = batch.prompt_length[group_of] + batch.length
    width = int(lengths.max()) + extra
    ids = batch.ids.cpu().numpy()
    rows = np.full((batch.R, width), pad, dtype=np.int64)
    mask = np.zeros((batch.R, width), dtype=bool)
    where = np.full(batch.T, -1, dtype=np.int64)
    prompt_end = np.zeros(batch.R, dtype=np.int64)
    for r in range(batch.R):
        g = group_of[r]
        p0, p1 = int(batch.prompt_start[g]), int(batch.prompt_start[g] + batch.prompt_length[g])
        a0, a1 = int(batch.start[r]), int(batch.start[r] + batch.length[r])
        rows[r, : p1 - p0] = ids[p0:p1]
        rows[r, p1 - p0 : lengths[r]] = ids[a0:a1]
        mask[r, : lengths[r]] = True
        base = r * width
        first = where[p0] < 0
        if first:
            where[p0:p1] = base + np.arange(p1 - p0)
        where[a0:a1] = base + (p1 - p0) + np.arange(a1 - a0)
        prompt_end[r] = base + (p1 - p0) - 1
    device = batch.ids.device
    return Rectangle(torch.from_numpy(rows).to(device), torch.from_numpy(mask).to(device), where, prompt_end)


def dense_hidden(model: nn.Module, batch: Batch, places: Tensor, pad: int = 0, extra: int = 0) -> Tensor:
    """The same hidden states from padded rows and the library's own attention.

    `places` must be the batch's `source` or `last`: where they name a shared prompt end, each row reads its own copy.
    """
    box = rectangle(batch, pad, extra)
    with attention_of(model, dense_attention(model)):
        out = backbone(model)(input_ids=box.ids, attention_mask=box.mask.long(), use_cache=False)
    flat = out.last_hidden_state.flatten(0, 1)
    at = box.where[places.cpu().numpy()]
    if places.shape[0] == batch.N:
        rows = batch.row.cpu().numpy()
        from_prompt = places.cpu().numpy() < batch.start[rows]
        at = np.where(from_prompt, box.prompt_end[rows], at)
    return flat.index_select(0, torch.from_numpy(at).to(flat.device))


class attention_of:
    """Context: the model's attention implementation is `name`, and what it was before afterwards."""

    def __init__(self, model: nn.Module, name: str) -> None:
        self.config, self.name = backbone(model).config, name
        self.before = self.config._attn_implementation

    def __enter__(self) -> None:
        self.config._attn_implementation = self.name

    def __exit__(self, *_: object) -> None:
        self.config._attn_implementation = self.before
