"""Copying circuits set by hand before pretraining: pairs of heads that find what followed an earlier occurrence and say it again.

Induction heads (Olsson et al. 2022, arXiv:2209.11895) form late: on this project's laptop-sized model, millions of tokens passed without
one. Here each circuit is written into the fresh weights: a head of the first block attends to the previous token through the biases of its
query and key (a rotary embedding turns a constant into a function of distance), and writes that token into a subspace S; a head of the
second block looks for its own token in S, and writes what it finds towards the logits. Training is free to change all of it.
Needs a Llama-type model with attention biases and tied embeddings. A structured initialisation in the spirit of Trockman and Kolter 2023,
arXiv:2305.09828; it is part of how the shipped base model was made, and of no claim about learning.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

PAIRS = 3
"""Rotary planes, fastest first, that mark the distance of one token."""
SIZE = 6.3
"""Length of the bias in each plane: the score one step away falls by about 4.5."""
WRITE, SHARP, OUT = 0.15, 2.0, 0.3
"""Scales of the first head's output, of the second's query, and of the second's output, for embeddings of norm 1."""


def frame(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Random orthonormal rows [rows, columns]."""
    return torch.linalg.qr(torch.randn(columns, rows, generator=generator))[0].T.contiguous()


@torch.no_grad()
def set_copying(model: Any, circuits: int, seed: int = 0) -> None:
    """Write `circuits` copying circuits into a fresh Llama-type model, in place, and scale its embeddings to norm 1.

    Raises ValueError where the model has too few layers, heads or no attention biases.
    """
    config, blocks = model.config, model.model.layers
    if not getattr(config, "attention_bias", False) or len(blocks) < 2 or config.num_key_value_heads < circuits:
        raise ValueError("copying circuits need attention biases, two layers, and a key-value head for each circuit")
    generator = torch.Generator().manual_seed(seed)
    embedding = model.model.embed_tokens.weight
    embedding.mul_(1.0 / embedding.norm(dim=-1).mean())
    first, second = blocks[0].self_attn, blocks[1].self_attn
    size, width = first.head_dim, config.hidden_size
    rates = model.model.rotary_emb.inv_freq
    for circuit in range(circuits):
        rows = slice(circuit * size, (circuit + 1) * size)
        read, kept, said = (frame(size, width, generator) for _ in range(3))
        first.q_proj.weight[rows] = 0
        first.k_proj.weight[rows] = 0
        for plane in range(PAIRS):
            angle = 2 * math.pi * float(torch.rand((), generator=generator))
            at = (circuit * size + plane, circuit * size + size // 2 + plane)
            for projection, turned in ((first.k_proj, angle), (first.q_proj, angle - float(rates[plane]))):
                projection.bias[at[0]] = SIZE * math.cos(turned)
                projection.bias[at[1]] = SIZE * math.sin(turned)
        first.v_proj.weight[rows] = read
        first.o_proj.weight[:, rows] = WRITE * kept.T
        second.q_proj.weight[rows] = SHARP * read
        second.k_proj.weight[rows] = kept
        second.v_proj.weight[rows] = said
        second.o_proj.weight[:, rows] = OUT * said.T
