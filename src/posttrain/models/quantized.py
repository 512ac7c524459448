"""A frozen base in four bits under a low-rank adapter (QLoRA: Dettmers et al. 2023, arXiv:2305.14314), by the library bitsandbytes.

Linear layers but the head are held as normal floats of 4 bits with doubly quantised scales; the adapter and every sum stay in the
precision of the run. What is written is plain again: base weights as the four bits say them, with the adapter folded in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def four_bit(dtype: torch.dtype) -> Any:
    """The library's configuration; sums are taken in `dtype`. Raises ValueError where bitsandbytes is not installed."""
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise ValueError("lora.base: 4bit needs `pip install bitsandbytes`, or use same") from None
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def is_four_bit(model: nn.Module) -> bool:
    """Does any layer hold four bits?"""
    return any(hasattr(p, "quant_state") for p in model.parameters())


def dense(weight: Tensor) -> Tensor:
    """A weight as plain numbers: four bits are read out in the precision they were made from, anything else is given as it is."""
    state = getattr(weight, "quant_state", None)
    if state is None:
        return weight
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight.data, state)


def dense_state(inner: nn.Module) -> dict[str, Tensor]:
    """`state_dict` with plain weights in place of four bits and without their scales."""
    packed = {n for n, p in inner.named_parameters() if hasattr(p, "quant_state")}
    state = {n: v for n, v in inner.state_dict().items() if not any(n.startswith(f"{p}.") for p in packed)}
    return state | {n: dense(inner.get_parameter(n)) for n in packed}


@contextmanager
def written_plain(inner: Any) -> Iterator[None]:
    """While it lasts, `save_pretrained` takes the model for one that was never quantised."""
    if not is_four_bit(inner):
        yield
        return
    held = {n: inner.__dict__.pop(n) for n in ("hf_quantizer",) if n in inner.__dict__}
    config = inner.config.__dict__.pop("quantization_config", None)
    try:
        yield
    finally:
        inner.__dict__.update(held)
        if config is not None:
            inner.config.quantization_config = config
