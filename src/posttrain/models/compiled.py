"""torch.compile for the blocks of a model (Ansel et al. 2024, PyTorch 2): norms, rotations and activations become few kernels.

Block by block, so that all blocks share one compilation, with sizes left open, because every batch of the flat layout has another
length. The attention of the layout stays outside: its plan is a Python object. Names of parameters do not change. Leaves out: trunk
and head, and a compilation that is kept between runs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface
from transformers.modeling_layers import GradientCheckpointingLayer

from posttrain.models.attention import NAME, flat_attention
from posttrain.models.trunk import causal_lm

BACKEND = "inductor"


def blocks_of(model: nn.Module) -> list[Any]:
    """The blocks that repeat. Raises ValueError for a model whose blocks are not known."""
    found = [m for m in causal_lm(model).modules() if isinstance(m, GradientCheckpointingLayer)]
    if not found:
        raise ValueError(f"compile: the blocks of {type(causal_lm(model)).__name__} are not known; use compile: off")
    return found


def compile_blocks(model: nn.Module) -> int:
    """Compile on the next call, in place; returns how many blocks."""
    AttentionInterface.register(NAME, torch.compiler.disable(flat_attention))
    blocks = blocks_of(model)
    for block in blocks:
        block.compile(dynamic=True, backend=BACKEND)
    return len(blocks)


def plain_blocks(model: nn.Module) -> None:
    """Undo it."""
    for block in blocks_of(model):
        block._compiled_call_impl = None
    AttentionInterface.register(NAME, flat_attention)
