"""Small random models of every family for the sampler's tests: sharp enough that greedy paths are not all alike."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from posttrain.rollout.sampler import Sampler
from tests.models.tiny import tiny

FUSED = ("llama", "qwen3", "mistral", "gemma3", "phi3", "olmo2", "smollm3", "granite")
GENERIC = ("gpt2", "gpt_neox", "mixtral", "cohere")
GREEDY_CONTEXT = 512


@cache
def model_of(family: str, heads: int = 2) -> tuple[Any, Any]:
    """Model and tokenizer; norm weights and biases are moved off their initial values, so that dropping one shows."""
    model, tokenizer = tiny(family, seed=1, hidden=16 * heads, layers=2, heads=heads)
    torch.manual_seed(2)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.add_(torch.randn_like(p) * 0.2)
            elif not any(part in name for part in ("embed", "wte", "lm_head")):
                p.copy_(torch.randn_like(p) * 1.5 / p.shape[-1] ** 0.5)
    return model, tokenizer


def sampler_of(family: str, slots: int = 8, heads: int = 2, stop: tuple[int, ...] = (), **options: Any) -> Sampler:
    """A sampler over `model_of`, with prompts rendered as plain text; threads = 1."""
    model, tokenizer = model_of(family, heads)

    def encode(chat: Any, tools: Any) -> list[int]:
        return tokenizer.encode(chat[-1].content, add_special_tokens=False)

    return Sampler(model, tokenizer, stop, encode, slots=slots, threads=1, **options)


def prompts(lengths: tuple[int, ...] = (5, 33, 12, 40, 20), seed: int = 0) -> list[list[int]]:
    """Random prompts of these lengths."""
    made = torch.Generator().manual_seed(seed)
    return [torch.randint(10, 400, (n,), generator=made).tolist() for n in lengths]
