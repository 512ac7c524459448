"""Copying circuits copy before any training; models that cannot hold them are refused."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from posttrain.models.copying import set_copying


def fresh(bias: bool = True, layers: int = 3) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=400, hidden_size=160, intermediate_size=200, num_hidden_layers=layers, num_attention_heads=5,
        num_key_value_heads=5, tie_word_embeddings=True, attention_bias=bias,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@torch.no_grad()
def halves(model: LlamaForCausalLM) -> tuple[float, float]:
    """Mean loss on random tokens, and on the same tokens said again, over repeats of different lengths."""
    generator = torch.Generator().manual_seed(1)
    first, second = [], []
    for n in (9, 14, 23):
        ids = torch.randint(0, 400, (8, n), generator=generator).repeat(1, 2)
        logp = model(ids, use_cache=False).logits[:, :-1].log_softmax(-1)
        nll = -logp.gather(-1, ids[:, 1:, None])[..., 0]
        first.append(nll[:, : n - 1].mean())
        second.append(nll[:, n:].mean())
    return float(torch.stack(first).mean()), float(torch.stack(second).mean())


def test_repeats_are_copied_without_training() -> None:
    plain, circuit = fresh(), fresh()
    set_copying(circuit, 2)
    once, again = halves(plain)
    assert abs(once - again) < 0.1
    once, again = halves(circuit)
    assert once - again > 1.0


def test_same_seed_same_weights() -> None:
    one, two = fresh(), fresh()
    set_copying(one, 2, seed=3)
    set_copying(two, 2, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize(("model", "circuits"), [(fresh(bias=False), 1), (fresh(layers=1), 1), (fresh(), 6)])
def test_models_without_room_are_refused(model: LlamaForCausalLM, circuits: int) -> None:
    with pytest.raises(ValueError, match="copying circuits need"):
        set_copying(model, circuits)
