"""QLoRA on a CPU: the base in four bits, an adapter that learns beside it, and plain weights written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from posttrain.jobs.train import Train
from posttrain.models.adapters import Lora, adapter_off, add_lora
from posttrain.models.load import load, save
from posttrain.models.quantized import dense, is_four_bit
from tests.models.tiny import tiny

pytest.importorskip("bitsandbytes", reason="the extra `quant` is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    model, tokenizer = tiny("llama", seed=1, hidden=64)  # whole blocks of 64 numbers, as real models have
    at = tmp_path_factory.mktemp("plain")
    model.save_pretrained(at)
    tokenizer.save_pretrained(at)
    return str(at)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(5, 25)[None]).logits.float()


def test_four_bits_are_held_and_plain_weights_are_written(folder: str, tmp_path: Path) -> None:
    whole, packed = load(folder), load(folder, base="4bit")
    layer = packed.model.model.layers[0].mlp.up_proj
    assert is_four_bit(packed.model) and not is_four_bit(whole.model) and layer.weight.dtype == torch.uint8
    gap = (dense(layer.weight) - whole.model.model.layers[0].mlp.up_proj.weight).abs().max()
    assert 0 < gap < 0.2 * whole.model.model.layers[0].mlp.up_proj.weight.abs().max()
    add_lora(packed, Lora(rank=4, base="4bit"))
    with torch.no_grad():
        for name, p in packed.model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.02)
    before = logits(packed.model)
    save(packed, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "quantization_config" not in config and is_four_bit(packed.model)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert torch.allclose(logits(again), before, atol=2e-4)
    with adapter_off(packed.model) as reference:
        assert not torch.allclose(logits(reference), before, atol=1e-3)


def test_a_run_learns_over_four_bits(folder: str, tmp_path: Path) -> None:
    data = tmp_path / "demos.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"say {i % 3}", "completion": "one two"}) + "\n" for i in range(12)))
    rows = {}
    for base in ("same", "4bit"):
        job = Train(
            model=folder,
            method="sft",
            data=str(data),
            out=str(tmp_path / base),
            steps=12,
            batch=4,
            lora={"rank": 4, "base": base},
            optimizer={"lr": 0.01},
            samples=0,
            preflight="off",
            log_to=(),
        )
        run = job.run()
        rows[base] = [json.loads(line)["loss"] for line in run.metrics.read_text().splitlines()]
        AutoModelForCausalLM.from_pretrained(run.model)
    assert rows["4bit"][-1] < rows["4bit"][0] - 0.5
    assert rows["4bit"] != rows["same"] and abs(rows["4bit"][0] - rows["same"][0]) < 0.2


def test_an_adapter_is_no_base_for_four_bits(folder: str, tmp_path: Path) -> None:
    loaded = load(folder)
    add_lora(loaded, Lora(rank=4, save="adapter"))
    save(loaded, tmp_path / "adapter")
    with pytest.raises(ValueError, match="starts from whole weights"):
        load(str(tmp_path / "adapter"), base="4bit")


def test_rows_that_the_library_reads_wrongly_are_refused(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from posttrain.models import quantized

    assert quantized.reads_right(64, torch.device("cpu")) and quantized.reads_right(256, torch.device("cpu"))
    monkeypatch.setattr(quantized, "reads_right", lambda width, device: width != 64)
    with pytest.raises(ValueError, match=r"rows of 64 numbers wrongly on this processor.*use base: same"):
        load(folder, base="4bit")


def test_packed_weights_are_not_packed_anew_by_a_forward(folder: str) -> None:
    """On CPUs with AVX512-BF16 the library would, into a form without a backward."""
    model = load(folder, base="4bit").model
    before = {n: p.clone() for n, p in model.named_parameters()}
    logits(model.eval())
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
