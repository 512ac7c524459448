"""Weights to a plain `transformers` directory: adapters folded in, four bits read out, another precision where asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from posttrain.core.files import write_json
from posttrain.models.quantized import dense_state, is_four_bit, written_plain


def write_weights(model: nn.Module, inner: Any, directory: Path, dtype: torch.dtype | None) -> None:
    """Config and safetensors of the plain model, an adapter folded in."""
    from transformers.utils import logging as hf_logging

    from posttrain.models.adapters import is_adapted, keep_ties, merged_state

    state = merged_state(model) if is_adapted(model) else dense_state(inner) if is_four_bit(inner) else None
    if dtype is not None:
        state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in (state or inner.state_dict()).items()}
        keep_ties(inner, state)
    bars = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        with written_plain(inner):
            inner.save_pretrained(directory, state_dict=state)
    finally:
        if bars:
            hf_logging.enable_progress_bar()
    if dtype is not None:
        _set_dtype(directory / "config.json", dtype)


def _set_dtype(path: Path, dtype: torch.dtype) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = str(dtype).removeprefix("torch.")
    write_json(path, config)
