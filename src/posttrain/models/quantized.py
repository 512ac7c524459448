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


def settle(model: nn.Module) -> None:
    """Make a packed model fit to be trained and read out. Raises ValueError where the library reads its weights wrongly.

    On CPUs with AVX512-BF16 bitsandbytes (0.50) packs weights anew in the first forward that needs no gradient, into a form that has no
    backward; and its kernel for AVX-512 reads rows that are no whole blocks of 64 numbers wrongly, without a word.
    """
    import bitsandbytes

    layers = [m for m in model.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    for width in sorted({layer.in_features for layer in layers}):
        if not reads_right(width, layers[0].weight.device):
            raise ValueError(
                f"lora.base: bitsandbytes reads four-bit rows of {width} numbers wrongly on this processor (multiples of 64 it reads "
                "right); use base: same"
            )


def reads_right(width: int, device: torch.device) -> bool:
    """Does a weight of rows of this width come back from four bits within their rounding?"""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    blocks = torch.rand(width, 64, generator=torch.Generator().manual_seed(0)).mul_(2).sub_(1)
    blocks *= 2.0 ** (torch.arange(width) % 5)[:, None]  # a block read with another's scale is seen
    packed, state = quantize_4bit(blocks.view(64, width).to(device), quant_type="nf4", compress_statistics=True)
    off = (dequantize_4bit(packed, state).cpu().view_as(blocks) - blocks).abs().amax(-1) / blocks.abs().amax(-1)
    return float(off.max()) < 0.25  # half the widest step of nf4 is 0.15 of a block's largest number


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
