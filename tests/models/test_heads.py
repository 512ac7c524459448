"""Score and value heads, and reward models in the library's own format."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from posttrain.core.needs import Needs
from posttrain.engine.local import LocalEngine
from posttrain.methods.dpo import pairs
from posttrain.models.adapters import Lora, add_lora
from posttrain.models.heads import LikelihoodHead, export_reward_model, for_needs, load_reward, score_head, value_head
from posttrain.models.load import load, save
from posttrain.models.trunk import backbone
from tests.models.tiny import tiny_directory

IDS = torch.arange(5, 40)[None]


def last_hidden(model: nn.Module, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        return backbone(model)(input_ids=ids).last_hidden_state[:, -1]


def test_initial_values() -> None:
    torch.manual_seed(0)
    score = score_head(255, 64)
    assert score.bias is None and score.weight.dtype == torch.float32
    assert score.weight.std().item() == pytest.approx(1 / math.sqrt(256), rel=0.02)
    value = value_head(16, 2)
    assert (
        not value.weight.any()
        and not value.bias.any()
        and value(torch.ones(3, 16, dtype=torch.bfloat16)).shape == (3, 2)
    )


def test_heads_are_saved_beside_the_model_and_found_again(tmp_path: Path) -> None:
    loaded = load(tiny_directory(tmp_path / "a", "llama"))
    heads = for_needs(loaded, Needs(score=2, value=1))
    assert heads.keys() == {"score", "value"}
    state = nn.ModuleDict(heads).state_dict()
    save(loaded, tmp_path / "b", heads=state)
    again = load(tmp_path / "b")
    found = nn.ModuleDict(for_needs(again, Needs(score=2, value=1))).state_dict()
    assert all(torch.equal(state[k], found[k]) for k in state)
    assert any("score head" in n for n in again.notes)
    with pytest.raises(ValueError, match="2 outputs, 1 are needed"):
        for_needs(again, Needs(score=1))
    with pytest.raises(ValueError, match="known: score, value"):
        for_needs(again, Needs(heads=("other",)))
    assert for_needs(loaded, Needs(logp=True)) == {}


def test_a_score_that_starts_as_the_likelihood(tmp_path: Path) -> None:
    """Fresh, it is the mean log-prob of each answer times its weight; saved and read again it keeps that weight, whatever is asked."""
    loaded = load(tiny_directory(tmp_path / "a", "llama"))
    needs = Needs(score=1, logp=True, likelihood=3.0)
    engine = LocalEngine(loaded.model, for_needs(loaded, needs), needs=needs)
    batch = engine.layout(pairs())
    out = engine.score(batch, needs)
    assert out.score is not None and out.logp is not None
    parts = out.logp.split([int(b - a) for a, b in itertools.pairwise(batch.tokens_of)])
    assert out.score[:, 0].tolist() == pytest.approx([3.0 * p.mean().item() for p in parts], rel=1e-5)
    save(loaded, tmp_path / "b", heads=nn.ModuleDict(engine.heads).state_dict())
    again = for_needs(load(tmp_path / "b"), Needs(score=1))["score"]
    assert isinstance(again, LikelihoodHead) and again.likelihood.item() == 3.0
    with pytest.raises(ValueError, match="likelihood: 0"):
        export_reward_model(loaded, again, tmp_path / "c")


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "phi3", "gpt2", "mixtral"])
def test_exported_scores_are_ours(family: str, tmp_path: Path) -> None:
    loaded = load(tiny_directory(tmp_path / "a", family))
    add_lora(loaded, Lora(rank=2))
    for name, p in loaded.model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(p, std=0.1)
    head = score_head(loaded.model.config.hidden_size)
    export_reward_model(loaded, head, tmp_path / "rm", gain=2.0, bias=0.3, temperature=1.5)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm").eval()
    pad = theirs.config.pad_token_id
    padded = torch.cat([IDS, torch.full((1, 6), pad)], 1)
    mask = torch.cat([torch.ones_like(IDS), torch.zeros(1, 6, dtype=torch.long)], 1)
    with torch.no_grad():
        alone, batched = theirs(input_ids=IDS).logits, theirs(input_ids=padded, attention_mask=mask).logits
    ours = 2 * head(last_hidden(loaded.model))
    torch.testing.assert_close(alone, ours, rtol=0, atol=2e-5)
    torch.testing.assert_close(batched, alone, rtol=0, atol=2e-5)
    again, found, bias = load_reward(tmp_path / "rm")
    torch.testing.assert_close(found(last_hidden(again.model)), alone, rtol=0, atol=1e-6)
    assert bias == 0.3 and again.template == loaded.template


def test_reward_models_that_cannot_be_trusted(tmp_path: Path) -> None:
    loaded = load(tiny_directory(tmp_path / "a", "llama"))
    with pytest.raises(ValueError, match="would be random"):
        load_reward(tmp_path / "a")
    loaded.tokenizer.pad_token = loaded.tokenizer.eos_token
    with pytest.raises(ValueError, match="needs a pad token"):
        export_reward_model(loaded, score_head(32), tmp_path / "rm")
    granite = load(tiny_directory(tmp_path / "g", "granite"))
    with pytest.raises(ValueError, match="no sequence-classification class for granite"):
        export_reward_model(granite, score_head(32), tmp_path / "rm")
