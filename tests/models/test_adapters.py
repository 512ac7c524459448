"""LoRA: off is the reference, merged and adapter directories give the same log-probabilities; and which tensors move."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from posttrain.core.recipe import RecipeError, build_spec
from posttrain.models.adapters import Lora, adapter_off, add_lora, fold
from posttrain.models.freeze import apply_train
from posttrain.models.load import Loaded, load, save
from tests.models.tiny import tiny, tiny_directory

IDS = torch.arange(5, 40)[None]


def logp(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits.float().log_softmax(-1)


def adapted(path: Path, family: str, template: str | None = None, **fields: object) -> tuple[Loaded, Tensor]:
    """A model with an adapter that does something, and its log-probabilities without one."""
    loaded = load(tiny_directory(path, family), template=template)
    before = logp(loaded.model)
    torch.manual_seed(0)
    add_lora(loaded, Lora(rank=4, **fields))  # type: ignore[arg-type]
    for name, p in loaded.model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(p, std=0.1)
    return loaded, before


@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral", "gemma3", "phi3", "olmo2", "gpt2", "mixtral"])
def test_off_merged_and_reloaded(family: str, tmp_path: Path) -> None:
    loaded, before = adapted(tmp_path / "base", family)
    now = logp(loaded.model)
    assert (now - before).abs().max() > 0.05
    with adapter_off(loaded.model) as reference:
        assert torch.equal(logp(reference), before)
    held = {k: v.clone() for k, v in loaded.model.state_dict().items()}
    save(loaded, tmp_path / "merged")
    assert all(torch.equal(held[k], v) for k, v in loaded.model.state_dict().items())
    torch.testing.assert_close(logp(AutoModelForCausalLM.from_pretrained(tmp_path / "merged")), now, rtol=0, atol=5e-5)
    loaded.lora = loaded.lora.changed(save="adapter")
    save(loaded, tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    again = load(tmp_path / "adapter")
    torch.testing.assert_close(logp(again.model), now, rtol=0, atol=1e-6)
    assert again.stops == loaded.stops and again.template == loaded.template


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_folded_it_is_a_plain_model_again(family: str, tmp_path: Path) -> None:
    loaded, _ = adapted(tmp_path / "base", family, template="chatml")
    now, names = logp(loaded.model), set(load(tmp_path / "base", template="chatml").model.state_dict())
    fold(loaded)
    assert set(loaded.model.state_dict()) == names and loaded.lora is None
    assert all(p.requires_grad for p in loaded.model.parameters())
    torch.testing.assert_close(logp(loaded.model), now, rtol=0, atol=5e-5)
    add_lora(loaded, Lora(rank=2))
    torch.testing.assert_close(logp(loaded.model), now, rtol=0, atol=5e-5)


def test_new_tokens_are_trained_under_lora(tmp_path: Path) -> None:
    loaded, _ = adapted(tmp_path / "base", "gpt2", template="chatml")
    row = loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")
    ids = torch.tensor([[5, row, 7, row]])
    tokens = [p for n, p in loaded.model.named_parameters() if p.requires_grad and "trainable_tokens" in n]
    assert tokens
    with torch.no_grad():
        for p in tokens:
            p.add_(torch.randn_like(p))
        now = loaded.model(input_ids=ids).logits
    save(loaded, tmp_path / "merged")
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path / "merged").model(input_ids=ids).logits, now, rtol=0, atol=1e-4)
    loaded.lora = loaded.lora.changed(save="adapter")
    save(loaded, tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path / "adapter").model(input_ids=ids).logits, now, rtol=0, atol=1e-5)


def test_bad_settings_get_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"dropout: unknown field"):
        build_spec(Lora, {"dropout": 0.1})
    loaded = load(tiny_directory(tmp_path / "base", "llama"))
    with pytest.raises(ValueError, match="no layer for LoRA"):
        add_lora(loaded, Lora(targets=("no_such_layer",)))
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "/no/where"}')
    with pytest.raises(ValueError, match=r"no adapter_model\.safetensors"):
        load(tmp_path / "adapter")


def test_an_adapter_names_its_base_by_its_full_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_directory(tmp_path / "base", "llama")
    monkeypatch.chdir(tmp_path)
    loaded = load("base")
    add_lora(loaded, Lora(rank=2, save="adapter"))
    save(loaded, "adapter")
    monkeypatch.chdir("/")
    assert f"adapter of rank 2 on {(tmp_path / 'base').resolve()}" in load(tmp_path / "adapter").notes


def step(model: nn.Module) -> dict[str, Tensor]:
    """One optimiser step on everything trainable; the tensors before it."""
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.step()
    return before


@pytest.mark.parametrize(
    ("chosen", "moving"),
    [
        ({"only": ["model.layers.1.*"]}, lambda n: n.startswith("model.layers.1.")),
        ({"only": ["*q_proj*", "lm_head"]}, lambda n: "q_proj" in n or "lm_head" in n),
        ({"freeze": ["model.embed_tokens", "*norm*"]}, lambda n: "embed_tokens" not in n and "norm" not in n),
        ({}, lambda n: True),
    ],
)
def test_frozen_tensors_stay_bit_identical(chosen: dict[str, list[str]], moving: object) -> None:
    model, _ = tiny("llama")
    done = apply_train(model, **chosen)
    before = step(model)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) != moving(name), name  # type: ignore[operator]
        assert (name in done.trainable) == moving(name)  # type: ignore[operator]
    assert len(done.trainable) + len(done.frozen) == len(before)


def test_only_adapter_tensors_move_under_lora(tmp_path: Path) -> None:
    loaded, _ = adapted(tmp_path / "base", "llama")
    done = apply_train(loaded.model, only=["*layers.0*"])
    assert done.trainable and all("lora_" in n and "layers.0" in n for n in done.trainable)
    with pytest.raises(ValueError, match="under LoRA only adapter"):
        apply_train(loaded.model, only=["model.norm.weight"])


def test_unknown_patterns_name_the_nearest() -> None:
    model, _ = tiny("llama")
    with pytest.raises(ValueError, match=r"'model\.layer\.1\.\*' names no parameter; did you mean 'model\.layers\.1'"):
        apply_train(model, only=["model.layer.1.*"])
    with pytest.raises(ValueError, match="only or freeze, not both"):
        apply_train(model, only=["lm_head"], freeze=["model.norm"])
    with pytest.raises(ValueError, match="nothing is left"):
        apply_train(model, freeze=["*"])


def test_tied_tensors_are_reported() -> None:
    model, _ = tiny("gpt2")
    done = apply_train(model, freeze=["lm_head"])
    assert any("one tied tensor: frozen" in n for n in done.notes)
    assert not model.transformer.wte.weight.requires_grad
