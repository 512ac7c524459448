"""The decoders against transformers: greedy tokens equal `generate`, log-probabilities equal a re-forward, on every architecture."""

from __future__ import annotations

import pytest
import torch

from posttrain.core.protocols import Sampling
from posttrain.native.library import library
from posttrain.rollout.native import Native
from posttrain.rollout.score import response_logps
from tests.rollout.models import FUSED, GENERIC, model_of, prompts, sampler_of


def generated(model: object, prompt: list[int], length: int, **options: object) -> list[int]:
    """`generate` of transformers, greedy, one prompt."""
    with torch.no_grad():
        out = model.generate(  # type: ignore[attr-defined]
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=length,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            **options,
        )
    return out[0, len(prompt) :].tolist()


@pytest.fixture(autouse=True, params=["kernels", "torch"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to compute a step of the fused path."""
    if request.param == "torch":
        monkeypatch.setattr(Native, "of", classmethod(lambda *_: None))
    elif library() is None:
        pytest.skip("no C compiler here")


@pytest.mark.parametrize("family", FUSED + GENERIC)
def test_greedy_equals_generate(family: str) -> None:
    sampler = sampler_of(family, slots=4)
    assert sampler.fused == (family in FUSED)
    texts = prompts((3, 33, 18))
    alone = sampler.decode(texts, Sampling(temperature=0, max_tokens=30))
    shared = sampler.decode(texts, Sampling(temperature=0, max_tokens=30), n=2)
    for text, one, two in zip(texts, alone, shared, strict=True):
        expected = generated(model_of(family)[0], text, 30)
        assert one[0].tokens == expected
        assert [s.tokens for s in two] == [expected, expected]


@pytest.mark.parametrize("family", FUSED + GENERIC)
def test_logp_equals_reforward(family: str) -> None:
    sampler = sampler_of(family)
    texts = prompts()
    worst = 0.0
    for temperature, n in ((0.7, 3), (1.0, 1)):
        for text, samples in zip(texts, sampler.decode(texts, Sampling(temperature, max_tokens=40), n=n), strict=True):
            with torch.no_grad():
                again = response_logps(model_of(family)[0], text, [s.tokens for s in samples], temperature)
            for s, expected in zip(samples, again, strict=True):
                worst = max(worst, float((torch.tensor(s.logps) - expected).abs().max()))
                assert s.sampled_logps == s.logps
    assert worst <= 1e-4


def test_repetition_penalty_equals_generate() -> None:
    sampler = sampler_of("llama")
    text = prompts((14,))[0]
    ours = sampler.decode([text], Sampling(temperature=0, max_tokens=30, repetition_penalty=1.7))[0][0]
    assert ours.tokens == generated(model_of("llama")[0], text, 30, repetition_penalty=1.7)
    assert ours.tokens != generated(model_of("llama")[0], text, 30)
    assert ours.logps != ours.sampled_logps


def test_unknown_rotary_table_takes_the_generic_path() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, rope_parameters=rope, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    from posttrain.rollout.sampler import Sampler

    assert not Sampler(LlamaForCausalLM(config).eval(), None, (), lambda chat, tools: [1]).fused


def test_lora_is_merged_into_the_copies() -> None:
    import copy

    from peft import LoraConfig, get_peft_model

    model = copy.deepcopy(model_of("llama")[0])
    wrapped = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"]))
    with torch.no_grad():
        for name, p in wrapped.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.3)
    from posttrain.rollout.sampler import Sampler

    sampler = Sampler(wrapped, None, (), lambda chat, tools: [1], slots=4, threads=1)
    assert sampler.fused
    text = prompts((9,))[0]
    ours = sampler.decode([text], Sampling(temperature=0, max_tokens=20))[0][0].tokens
    assert ours == generated(wrapped, text, 20)
    assert ours != generated(model_of("llama")[0], text, 20)
