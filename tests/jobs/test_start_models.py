"""Models that jobs start from: a run that saved its adapter alone, and a new model that is made once."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

from posttrain.core.run import Run, fingerprint, model_dir
from posttrain.jobs.assembly import resolve
from posttrain.jobs.job import Context
from posttrain.jobs.new_model import New
from posttrain.jobs.sample import answering
from posttrain.jobs.train import Train
from posttrain.jobs.training import Training
from posttrain.models.load import load
from posttrain.models.native_modules import adopt
from posttrain.rollout.policy import Policy
from tests.jobs.tiny_run import base, demos, pairs

QUIET = Context(bars=False)
LORA = {"rank": 4, "save": "adapter"}


def logp(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(5, 40)[None]).logits.float().log_softmax(-1)


def job(**fields: Any) -> Train:
    fixed = {"steps": 2, "batch": 4, "preflight": "off", "samples": 0, "log_to": (), "dtype": "fp32"}
    return Train(**{**fixed, "optimizer": {"lr": 0.05, "warmup": 0.0}, **fields})


def started(**fields: Any) -> Training:
    """A training ready for step 1."""
    made = Training(job(**fields), QUIET)
    made._prepare()
    return made


def test_a_run_that_saved_its_adapter_alone_is_a_model(tmp_path: Path) -> None:
    start = base(tmp_path)
    first = Training(
        job(model=start, method="sft", data=demos(tmp_path / "d.jsonl"), out=str(tmp_path / "a"), lora=LORA), QUIET
    )
    run = first.run()
    assert not (run.model / "config.json").exists()
    assert model_dir(run.path) == run.model
    trained = logp(first.loaded.model)
    assert (trained - logp(load(start).model)).abs().max() > 0.05
    again = load(resolve(str(run.path)), dtype="fp32")
    adopt(again.model)  # the same kernels, for the same last bits
    torch.testing.assert_close(logp(again.model), trained, rtol=0, atol=1e-6)
    torch.testing.assert_close(logp(Policy.open(run.path, dtype="fp32").loaded.model), trained, rtol=0, atol=1e-6)
    answering(str(run.path), None, "cpu")
    fields: dict[str, Any] = {"model": str(run.path), "method": "dpo", "data": pairs(tmp_path / "p.jsonl")}
    for name, lora in (("whole", None), ("adapter", LORA)):
        second = started(**fields, out=str(tmp_path / name), lora=lora)
        torch.testing.assert_close(logp(second.loaded.model), trained, rtol=0, atol=5e-5)
        second._preflight(QUIET.say)
        second.out.start(second.job.recipe())
        second._loop()
        loss = json.loads(second.out.metrics.read_text(encoding="utf-8").splitlines()[0])["loss"]
        assert abs(loss - math.log(2)) < 1e-5, "the reference is the run that it starts from, not that run's base"
        after = logp(second.loaded.model)
        second._finish()
        torch.testing.assert_close(logp(load(resolve(str(tmp_path / name)), "fp32").model), after, rtol=0, atol=5e-5)


def test_the_content_of_an_adapter_covers_its_base(tmp_path: Path) -> None:
    start = base(tmp_path)
    fields: dict[str, Any] = {"model": start, "method": "sft", "data": demos(tmp_path / "d.jsonl")}
    run = Training(job(**fields, out=str(tmp_path / "a"), lora=LORA), QUIET).run()
    before = fingerprint(run.path)
    assert before == fingerprint(run.model)
    weights = Path(start) / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept + b" ")
    assert fingerprint(run.path) != before
    weights.write_bytes(kept)
    assert fingerprint(run.path) == before


def test_a_new_model_is_made_once(tmp_path: Path) -> None:
    shape = {"hidden": 16, "layers": 1, "heads": 2, "kv_heads": 2, "ffn": 16, "context": 64}
    made = New(tokenizer=base(tmp_path), out=str(tmp_path / "new"), **shape)
    run = made.run(QUIET)
    weights = run.model / "model.safetensors"
    first, written = weights.read_bytes(), weights.stat().st_mtime_ns
    assert made.run(QUIET).path == run.path
    assert weights.stat().st_mtime_ns == written, "the same recipe around the same tokenizer is reused"
    made.changed(seed=1).run(QUIET)
    assert weights.read_bytes() != first
    made.run(QUIET)
    assert weights.read_bytes() == first
    weights.write_bytes(first + b" ")
    made.run(QUIET)
    assert weights.read_bytes() == first, "an edited model is made again"
    body = Run(run.path).finished
    assert body is not None and body["job"] == "new" and body["parameters"] > 0
