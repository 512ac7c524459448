"""Online runs from the recipe: they finish, they show their samples, and a run that was cut off ends with the same bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from posttrain.core.files import read_lines
from posttrain.jobs import online, threads
from posttrain.jobs.catalogue import build_job
from posttrain.jobs.job import Context
from posttrain.rollout.together import Together
from posttrain.train import checkpoint
from tests.jobs.tiny_run import base, demos, reward_run

QUIET = Context(Console(quiet=True), bars=False)


def run(tmp: Path, out: str, **fields: Any) -> Path:
    """Four steps of two prompts with three answers of up to six tokens."""
    node = {
        "model": base(tmp),
        "data": demos(tmp / "d.jsonl", 6),
        "reward": {"name": "model", "path": reward_run(tmp)},
        "rollout": {"n": 3, "max_new_tokens": 6, "keep_every": 2},
        "steps": 4,
        "batch": 2,
        "optimizer": {"lr": 1e-3},
        "checkpoint_every": 2,
        "preflight": "off",
        "log_to": [],
        "samples": 0,
        "dtype": "fp32",
        "threads": 1,
        "out": str(tmp / out),
        **fields,
    }
    build_job(node).run(QUIET)
    return tmp / out


ADAPTIVE = {"name": "ppo", "passes": 2, "minibatches": 2, "beta": 0.2, "control": {"name": "adaptive", "target": 0.5}}
PRICED = {"name": "grpo", "beta": 0.1, "constraint": {"cost": "model", "limit": -1.0}}


@pytest.mark.parametrize("method", [ADAPTIVE, PRICED], ids=lambda m: m["name"])
def test_a_run_that_was_cut_off_ends_with_the_same_bits(method: dict[str, Any], tmp_path: Path) -> None:
    whole = run(tmp_path, "whole", method=method)
    cut = tmp_path / "cut"
    shutil.copytree(whole, cut)
    last = checkpoint.found(cut / "checkpoints")[-1]
    _, before = checkpoint.read(last)
    shutil.rmtree(last)
    (cut / "manifest.json").unlink()
    again = run(tmp_path, "cut", method=method)
    one, two = (load_file(d / "model" / "model.safetensors") for d in (whole, again))
    assert all(torch.equal(one[n], two[n]) for n in one)
    _, after = checkpoint.read(checkpoint.found(again / "checkpoints")[-1])
    assert after["method"] == before["method"]
    start = {"ppo": 0.2, "grpo": 0.0}[method["name"]]
    moved = after["method"]["beta"] if method["name"] == "ppo" else after["method"]["remembered"]["log"]
    assert moved != start
    metrics = [read_lines(d / "metrics.jsonl") for d in (whole, again)]
    assert [r["reward"] for r in metrics[0]] == [r["reward"] for r in metrics[1]] and len(metrics[0]) == 4
    assert [r["step"] for r in read_lines(again / "rollouts.jsonl")] == [1, 3]


def test_pieces_side_by_side_are_resumed_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"threads": 2, "share": threads.WAYS[True], "why": "measured"}
    before, measured = torch.get_num_threads(), []
    monkeypatch.setattr(threads, "measured", lambda *_: measured.append(1) or told)
    fields: dict[str, Any] = {"method": "grpo", "threads": 2, "token_budget": 40}
    try:
        whole = run(tmp_path, "whole", **fields)
        cut = tmp_path / "cut"
        shutil.copytree(whole, cut)
        shutil.rmtree(checkpoint.found(cut / "checkpoints")[-1])
        (cut / "manifest.json").unlink()
        again = run(tmp_path, "cut", **fields)
    finally:
        torch.set_num_threads(before)
    assert measured == [1], "what was chosen before holds"
    one, two = (load_file(d / "model" / "model.safetensors") for d in (whole, again))
    assert all(torch.equal(one[n], two[n]) for n in one)
    manifest = json.loads((again / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["threads"]["share"] == threads.WAYS[True]


def test_answers_drawn_by_two_threads_train_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores change the time of a rollout and nothing else; a recipe that asks for one thread gets one."""
    made: list[int] = []

    class Counted(Together):
        def __init__(self, sampler: Any, count: int) -> None:
            made.append(count)
            super().__init__(sampler, count)

    monkeypatch.setattr(online, "Together", Counted)
    alone = run(tmp_path, "alone", method="grpo", threads=None)
    monkeypatch.setattr(online, "allowed", lambda: 2)
    one = run(tmp_path, "one", method="grpo", threads=1)
    assert made == []
    two = run(tmp_path, "two", method="grpo", threads=None)
    assert made == [2]
    for other in (one, two):
        first, second = (load_file(d / "model" / "model.safetensors") for d in (alone, other))
        assert all(torch.equal(first[n], second[n]) for n in first)
        assert read_lines(alone / "rollouts.jsonl") == read_lines(other / "rollouts.jsonl")


@pytest.mark.parametrize(
    ("method", "select"),
    [("sft", "best"), ("dpo", "pairs"), ("rloo", "all"), ("reinforce_pp", "all")],
)
def test_products(method: str, select: str, tmp_path: Path) -> None:
    """Rejection sampling, online DPO, RLOO and REINFORCE++ are the same parts."""
    out = run(tmp_path, "run", method=method, steps=2, rollout={"n": 3, "max_new_tokens": 6, "select": select})
    told = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert told["status"] == "finished" and told["steps"] == 2
    row = read_lines(out / "rollouts.jsonl")[0]
    assert len(row["responses"]) == {"best": 1, "pairs": 2, "all": 3}[select]
    assert all(r["score"]["value"] is not None for r in row["responses"])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"method": "grpo", "reward": None}, "needs one here"),
        ({"method": "sft", "rollout": None}, "set `rollout`"),
        ({"method": "grpo", "rollout": {"temperature": 0.5}}, "at its own temperature"),
        ({"method": "ppo", "validation": 0.5}, "no rows to hold out"),
        ({"method": {"name": "ppo", "minibatches": 3}}, "batch of as many prompts"),
        ({"method": "sft", "rollout": {"n": 2, "max_new_tokens": 4096}}, "leave no room"),
        ({"method": "dpo"}, "cannot learn from these answers"),
        ({"method": "grpo", "rollout": {"ahead": True}}, "rollout.ahead: answers of older weights"),
        ({"method": "grpo", "rollout": {"replay": {}}}, "rollout.replay: answers of older weights"),
        (
            {"method": "grpo", "rollout": {"max_new_tokens": 6, "environment": "catalog"}},
            "rollout.environment: 'catalog' is unknown",
        ),
        (
            {"method": "grpo", "rollout": {"max_new_tokens": 6, "environment": "catalogue"}},
            "no `catalogue` in its facts",
        ),
    ],
)
def test_what_cannot_be_is_one_line(fields: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        run(tmp_path, "run", **fields)


CORRECTED = {"name": "grpo", "correction": {"high": 2.0}}


@pytest.mark.parametrize(
    "changed",
    [{"ahead": True}, {"replay": {"share": 1.0, "size": 4}}, {"curriculum": {"pass_at": 99.0, "keep": 0.01}}],
    ids=lambda c: next(iter(c)),
)
def test_every_stream_changes_what_is_learned(changed: dict[str, Any], tmp_path: Path) -> None:
    """Against the run without: other answers, or other prompts; the curriculum says how much it passed over."""
    shape = {"n": 3, "max_new_tokens": 6, "keep_every": 1}
    fields: dict[str, Any] = {"method": CORRECTED, "steps": 4, "batch": 2, "optimizer": {"lr": 1e-2, "warmup": 0.0}}
    plain, other = (
        run(tmp_path, name, **fields, rollout=shape | more) for name, more in (("plain", {}), ("other", changed))
    )
    one, two = (load_file(d / "model" / "model.safetensors") for d in (plain, other))
    assert any(not torch.equal(one[n], two[n]) for n in one)
    told = json.loads((other / "manifest.json").read_text(encoding="utf-8"))
    assert told["steps"] == 4
    assert ("passed over" in json.dumps(told)) == ("curriculum" in changed)


def test_a_run_with_a_tool(tmp_path: Path) -> None:
    rows = [{"prompt": f"When was book {i} published?", "catalogue": {f"book {i}": "1990"}} for i in range(4)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    out = run(
        tmp_path, "run", method="grpo", data=str(data), steps=2,
        rollout={"n": 3, "max_new_tokens": 6, "environment": "catalogue", "turns": 2},
        reward={"name": "length", "limit": 1, "per": 1},
    )  # fmt: skip
    assert json.loads((out / "manifest.json").read_text(encoding="utf-8"))["steps"] == 2
