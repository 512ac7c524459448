"""Activation checkpointing: a block keeps its input alone, and computes itself again in the backward (Chen et al. 2016, arXiv:1604.06174).

A third more arithmetic for a fraction of the memory, so it is turned on only where a step would not fit otherwise. The blocks of
`transformers` do it themselves; they ask for training mode, which is set on the blocks alone, so that nothing else changes.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from posttrain.models.trunk import attention_of, backbone, causal_lm


def recompute_blocks(model: nn.Module) -> int:
    """Turn it on; returns how many blocks. Raises ValueError for a model whose blocks cannot do it. Gradients stay the same."""
    inner: Any = causal_lm(model)
    blocks = [m for m in inner.modules() if isinstance(m, GradientCheckpointingLayer)]
    if not blocks or not getattr(inner, "supports_gradient_checkpointing", False):
        raise ValueError(
            f"recompute: the blocks of {type(inner).__name__} cannot be computed again; use recompute: off"
        )

    def contexts() -> tuple[Any, Any]:
        """Nothing around the forward; around its repetition the attention that was in force then, which is back to normal by now."""
        return nullcontext(), attention_of(model, backbone(model).config._attn_implementation)

    inner.activation_checkpointing_enable({"use_reentrant": False, "context_fn": contexts})
    for block in blocks:
        block.training = True  # the block alone, not its parts
    return len(blocks)
