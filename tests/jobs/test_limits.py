"""A limit of the recipe ends an online run; with rollback the weights are those of the last checkpoint before the alert."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from posttrain.core.files import read_lines
from posttrain.jobs.train import Train
from posttrain.train import checkpoint
from tests.jobs.tiny_run import base, rows_file


def run(tmp_path: Path, name: str, **limits: Any) -> tuple[dict[str, Any], Path]:
    data = rows_file(tmp_path / "prompts.jsonl", [{"prompt": f"What is {i} + 1?"} for i in range(8)])
    Train(
        model=base(tmp_path), method={"name": "grpo", "beta": 0.04}, data=data, out=str(tmp_path / name), steps=6, batch=2,
        rollout={"n": 4, "max_new_tokens": 6}, reward={"name": "length", "limit": 1, "per": 1}, optimizer={"lr": 0.05, "warmup": 0.0},
        checkpoint_every=1, keep=6, preflight="off", samples=0, log_to=(), threads=1, limits=limits,
    ).run()  # fmt: skip
    return json.loads((tmp_path / name / "manifest.json").read_text()), tmp_path / name


def test_a_limit_stops_and_rollback_goes_back(tmp_path: Path) -> None:
    free, place = run(tmp_path, "free")
    assert free["stopped"] is None and free["steps"] == 6
    kl = [row["kl_sequence"] for row in read_lines(place / "metrics.jsonl")]
    assert abs(kl[0]) < 1e-3 and max(kl) > 0.01, kl
    bound = max(kl[:4]) * 0.9 if max(kl[:4]) > 0.01 else max(kl) * 0.9
    at = next(i for i, v in enumerate(kl, 1) if v > bound)

    stopped, place = run(tmp_path, "stop", kl=bound)
    assert "exceeds the limit" in stopped["stopped"] and stopped["steps"] == at
    assert "limit_kl" in stopped["alerts"]

    back, place = run(tmp_path, "back", kl=bound, action="rollback")
    assert back["steps"] == at - 1
    (there,) = [p for p in checkpoint.found(place / "checkpoints") if int(p.name[5:]) == back["steps"]]
    weights = checkpoint.read(there)[1]["engine"]["weights"]
    written = load_file(place / "model" / "model.safetensors")
    shared = set(weights) & set(written)
    assert shared and all(torch.equal(weights[n], written[n]) for n in shared)
