"""Directories in and out: every family keeps its weights, stops and template; bad directories get one line."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from posttrain.core.group import group
from posttrain.models.checks import directory_findings
from posttrain.models.load import load, pick_dtype, save, stop_ids
from posttrain.models.render import Renderer
from posttrain.models.template import from_source, named, turn_ends
from posttrain.models.token_checks import stop_round_trip
from tests.models.tiny import FAMILIES, tiny_directory

IDS = torch.arange(5, 40)[None]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_directory(tmp_path_factory.mktemp("models") / "llama", "llama")


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_save_and_load_change_nothing(family: str, tmp_path: Path) -> None:
    loaded = load(tiny_directory(tmp_path / "a", family))
    save(loaded, tmp_path / "b")
    again = load(tmp_path / "b")
    mine, theirs = loaded.model.state_dict(), again.model.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)
    assert stop_ids(again) == stop_ids(loaded)
    assert again.template == loaded.template
    assert again.tokenizer.pad_token_id == loaded.tokenizer.pad_token_id
    assert again.notes == ()  # nothing is left to decide the second time
    generation = GenerationConfig.from_pretrained(tmp_path / "b")
    ends = turn_ends(again.tokenizer, again.template)
    assert stop_round_trip(loaded.stops, AutoTokenizer.from_pretrained(tmp_path / "b"), generation, ends, 10_000) == []
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "b")
    torch.testing.assert_close(logits(plain), logits(loaded.model), rtol=0, atol=1e-5)
    assert (tmp_path / "b" / "chat_template.jinja").read_text() == loaded.template.source


@pytest.mark.parametrize("family", FAMILIES)
def test_checks_of_the_directory_to_be_written(family: str) -> None:
    loaded = _loaded(family)
    renderer = Renderer.of(loaded)
    groups = [
        g for g in renderer.render_many([group("hi <s> there", "yes"), group("and?", "no", "maybe")]) if g is not None
    ]
    assert directory_findings(loaded, renderer, groups) == []
    other = Renderer(loaded.tokenizer, from_source("{{ messages[0].content + eos_token }}"), stops=loaded.stops)
    assert {f.id for f in directory_findings(loaded, other, groups)} == {"M7"}


def test_every_stop_token_is_known() -> None:
    expected = {"llama": {"<|end_of_text|>", "<|eot_id|>"}, "gemma3": {"<eos>", "<end_of_turn>"}, "phi3": {"<|endoftext|>", "<|end|>"},
                "qwen3": {"<|im_end|>"}, "mistral": {"</s>"}, "gpt2": {"<|endoftext|>"}}  # fmt: skip
    for family, names in expected.items():
        loaded = _loaded(family)
        assert {loaded.tokenizer.convert_ids_to_tokens(i) for i in loaded.stops} == names, family
        assert loaded.tokenizer.pad_token_id not in loaded.stops


@cache
def _loaded(family: str):
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        return load(tiny_directory(Path(place) / family, family))


def test_stored_in_bf16(llama: Path, tmp_path: Path) -> None:
    loaded = load(llama)
    save(loaded, tmp_path / "half", dtype=torch.bfloat16)
    again = load(tmp_path / "half", dtype="fp32")
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value.bfloat16().float()), name
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    assert all(p.dtype == torch.float32 for p in loaded.model.parameters())
    held = load(llama, dtype="bf16")
    save(held, tmp_path / "held")
    assert load(tmp_path / "held", dtype="bf16").model.state_dict().keys() == held.model.state_dict().keys()


def test_dropout_is_off_and_comes_back_on_disk(tmp_path: Path) -> None:
    loaded = load(tiny_directory(tmp_path / "a", "gpt2"))
    loaded.model.train()
    assert torch.equal(logits(loaded.model), logits(loaded.model))
    assert all(m.p == 0 for m in loaded.model.modules() if isinstance(m, nn.Dropout))
    assert loaded.model.config.resid_pdrop == 0 and loaded.model.config.use_cache is False
    save(loaded, tmp_path / "b")
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["resid_pdrop"] == 0.1 and config["use_cache"] is True
    assert loaded.model.config.resid_pdrop == 0


def test_base_model_gets_a_named_template_and_a_pad(tmp_path: Path) -> None:
    loaded = load(tiny_directory(tmp_path / "a", "gpt2"))
    assert loaded.template == named("plain")
    assert loaded.tokenizer.pad_token_id != loaded.tokenizer.eos_token_id
    assert any("plain" in n for n in loaded.notes) and any("pad token" in n for n in loaded.notes)
    assert loaded.new_rows == 1


def test_named_template_adds_its_markers(tmp_path: Path) -> None:
    path = tiny_directory(tmp_path / "a", "gpt2")
    loaded = load(path, template="chatml")
    before = load(path)
    assert set(loaded.added) >= {"<|im_start|>", "<|im_end|>"}
    rows = loaded.model.get_input_embeddings().weight
    assert rows.shape[0] == len(loaded.tokenizer)
    old = before.model.get_input_embeddings().weight[:-1]
    torch.testing.assert_close(rows[-1], old.mean(0))
    assert loaded.tokenizer.convert_tokens_to_ids("<|im_end|>") in loaded.stops
    save(loaded, tmp_path / "b")
    assert load(tmp_path / "b").template == named("chatml")


def test_template_from_a_file(llama: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("{{ bos_token }}{% for m in messages %}{{ m.content + eos_token }}{% endfor %}")
    loaded = load(llama, template=str(file))
    assert loaded.template.source == file.read_text()
    assert any("replaces the tokenizer's own" in n for n in loaded.notes)
    with pytest.raises(ValueError, match="accepted: posttrain-chat, chatml, plain"):
        load(llama, template="no-such")


def _without(source: Path, to: Path, *names: str) -> Path:
    shutil.copytree(source, to)
    for name in names:
        for file in to.glob(name):
            file.unlink()
    return to


def test_bad_directories_get_one_line(llama: Path, tmp_path: Path) -> None:
    pickled = _without(llama, tmp_path / "pickled", "*.safetensors")
    (pickled / "pytorch_model.bin").write_bytes(b"never read")
    partial = _without(llama, tmp_path / "partial")
    from safetensors.torch import load_file, save_file

    state = load_file(partial / "model.safetensors")
    save_file(
        {k: v for k, v in state.items() if "layers.1.mlp" not in k}, partial / "model.safetensors", {"format": "pt"}
    )
    broken = _without(llama, tmp_path / "broken")
    (broken / "tokenizer.json").write_text("{")
    cases = {
        str(tmp_path / "nothing"): "no such directory",
        str(llama / "config.json"): "a file, not a model directory",
        str(_without(llama, tmp_path / "config", "config.json")): "no config.json",
        str(pickled): "only as pickle",
        str(_without(llama, tmp_path / "weights", "*.safetensors")): "no weights",
        str(_without(llama, tmp_path / "words", "token*")): "no tokenizer",
        str(broken): "tokenizer cannot be read",
        str(partial): "are not in the weights",
    }
    for path, words in cases.items():
        with pytest.raises(ValueError, match=words) as caught:
            load(path)
        assert "\n" not in str(caught.value) and path in str(caught.value)


def test_hub_id_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="no config of that hub id") as caught:
        load("nobody/no-such-model")
    assert "\n" not in str(caught.value)


def test_an_interrupted_save_leaves_the_old_directory(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(llama)
    save(loaded, tmp_path / "out")
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    monkeypatch.setattr(type(loaded.tokenizer), "save_pretrained", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(loaded, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_dtype_names() -> None:
    assert pick_dtype("auto", "cuda") == torch.bfloat16
    assert pick_dtype("fp32", "cpu") == torch.float32
    with pytest.raises(ValueError, match="accepted: auto"):
        pick_dtype("fp8", "cpu")
