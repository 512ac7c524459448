"""A held-out probe sees over-optimisation and acts; a rollback ends the run, or it goes on with a changed setting, at most twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from posttrain.core.files import read_lines
from posttrain.jobs.train import Train
from posttrain.jobs.training import Training
from posttrain.train import checkpoint
from tests.jobs.test_online_run import QUIET
from tests.jobs.tiny_run import base, rows_file

SHORTER, LONGER = {"name": "length", "limit": 1, "per": 1}, {"name": "target_length", "target": 6, "width": 6}
"""What is trained on, and what the reader wants: each rises where the other falls."""


def run(tmp: Path, name: str, **fields: Any) -> tuple[dict[str, Any], Path]:
    data = rows_file(tmp / "prompts.jsonl", [{"prompt": f"What is {i} + 1?"} for i in range(8)])
    held = rows_file(tmp / "held.jsonl", [{"prompt": f"How much is {i} times 2?"} for i in range(24)])
    probe = {"data": held, "gold": LONGER, "every": 2, "n": 2, **fields.pop("probe", {})}
    node: dict[str, Any] = {
        "model": base(tmp), "method": {"name": "grpo", "beta": 0.04}, "data": data, "out": str(tmp / name), "steps": 14, "batch": 4,
        "rollout": {"n": 4, "max_new_tokens": 6}, "reward": SHORTER, "optimizer": {"lr": 0.03, "warmup": 0.0, "schedule": "constant"},
        "checkpoint_every": 1, "keep": 20, "preflight": "off", "samples": 0, "log_to": (), "threads": 1, "probe": probe, **fields,
    }  # fmt: skip
    Train(**node).run(QUIET)
    return json.loads((tmp / name / "manifest.json").read_text()), tmp / name


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    return run(tmp_path_factory.mktemp("stopped"), "run")


def test_gold_falls_while_the_reward_rises_and_the_run_ends(stopped: tuple[dict[str, Any], Path]) -> None:
    told, place = stopped
    looks = told["probe"]["looks"]
    assert [r["step"] for r in looks][:2] == [0, 2] and told["steps"] == looks[-1]["step"] < 14
    assert looks[-1]["probe_gold"] < looks[0]["probe_gold"] and looks[-1]["probe_reward"] > looks[0]["probe_reward"]
    assert "over-optimised" in told["stopped"] and told["probe"]["gold"]["name"] == "target_length"
    assert told["rollbacks"] == [] and "over-optimised" in told["alerts"]["over_optimised"]
    rows = read_lines(place / "metrics.jsonl")
    assert "probe_gold" in rows[1] and "probe_gold" not in rows[0]


def test_a_warning_lets_it_go_on(tmp_path: Path) -> None:
    told, _ = run(tmp_path, "run", probe={"action": "warn"})
    assert told["steps"] == 14 and told["stopped"] is None and told["probe"]["stopped"] < 14


def test_rollback_ends_with_the_weights_of_the_best_look(tmp_path: Path) -> None:
    told, place = run(tmp_path, "run", probe={"action": "rollback"})
    best = told["probe"]["best"]
    assert told["steps"] == best < told["probe"]["stopped"] and told["rollbacks"][0]["to"] == best
    assert any(n.startswith(f"rolled back to step {best}") and "ended there" in n for n in told["notes"])
    state = checkpoint.read(checkpoint.found(place / "best")[-1])[1]
    written = load_file(place / "model" / "model.safetensors")
    shared = set(state["engine"]["weights"]) & set(written)
    assert shared and all(torch.equal(state["engine"]["weights"][n], written[n]) for n in shared)


def test_it_goes_on_changed_at_most_twice_and_a_killed_one_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = {"beta": 2, "lr": 0.5}
    settings: list[tuple[int, float, float]] = []
    through = Training._through

    def noted(self: Training) -> None:
        settings.append((self.job.seed, self.job.method.beta, self.engine.eased))  # type: ignore[attr-defined]
        through(self)

    monkeypatch.setattr(Training, "_through", noted)
    told, place = run(tmp_path, "run", probe={"action": "rollback"}, again=again, steps=16)
    back = told["rollbacks"]
    assert 1 <= len(back) <= 3 and all(b["reason"].startswith("over-optimised") for b in back)
    assert settings == [(1_000_003 * k, 0.04 * 2**k, 0.5**k) for k in range(min(len(back), 2) + 1)]
    assert back[0]["changed"] == "beta x 2 and lr x 0.5"
    assert len(back) < 3 or "changed" not in back[2]  # the third time it ends
    steps = [r["step"] for r in read_lines(place / "metrics.jsonl")]
    assert steps == sorted(set(steps))  # what went wrong is forgotten

    cut = tmp_path / "cut"  # killed a step after it went on for the first time: all later files are gone
    shutil.copytree(place, cut)
    (cut / "manifest.json").unlink()
    there = checkpoint.found(cut / "checkpoints")
    states = {p: checkpoint.read(p)[1] for p in there}
    last = max((p for p in there if len(states[p]["rollbacks"]) == min(len(back), 2)), key=lambda p: p.name)
    for p in there:
        if p.name >= last.name and len(there) > 1:
            shutil.rmtree(p)
    again_told, again_place = run(tmp_path, "cut", probe={"action": "rollback"}, again=again, steps=16)
    assert again_told["rollbacks"] == back and again_told["steps"] == told["steps"]
    one, two = (load_file(d / "model" / "model.safetensors") for d in (place, again_place))
    assert all(torch.equal(one[n], two[n]) for n in one)


def test_a_limit_goes_on_too(tmp_path: Path) -> None:
    fields = {
        "limits": {"kl": 0.05, "action": "rollback"},
        "again": {"lr": 0.1, "times": 1},
        "probe": {"action": "warn", "every": 10},
    }
    told, _ = run(tmp_path, "run", **fields, optimizer={"lr": 0.05, "warmup": 0.0}, steps=6)  # fmt: skip
    assert told["rollbacks"][0]["changed"] == "lr x 0.1" and "exceeds the limit" in told["rollbacks"][0]["reason"]
    assert len(told["rollbacks"]) <= 2 and "limit_kl" in told["alerts"]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"probe": {"gold": SHORTER}}, "this is the reward that is trained on"),
        ({"probe": {"data": "@trained"}}, "8 of 8 prompts are trained on"),
        ({"probe": {"gold": {"name": "exact"}}}, "give the gold answer under that name"),
        ({"again": {"beta": 2}}, "nothing rolls back"),
        ({"again": {}, "probe": {"action": "rollback"}}, "say what changes"),
        ({"again": {"beta": 2}, "probe": {"action": "rollback"}, "method": "grpo"}, "no KL coefficient above 0"),
        ({"method": "sft", "reward": None, "rollout": None}, "this run has none"),
    ],
)
def test_what_cannot_be_is_one_line(fields: dict[str, Any], told: str, tmp_path: Path) -> None:
    if fields.get("probe", {}).get("data") == "@trained":
        fields = {"probe": {"data": str(tmp_path / "prompts.jsonl")}}
    with pytest.raises(ValueError, match=told):
        run(tmp_path, "run", **fields)


def test_gold_of_the_same_rows_is_refused(tmp_path: Path) -> None:
    from posttrain.jobs.online import as_reward_node
    from posttrain.jobs.probe import apart

    for name, rows in (("one", "a"), ("two", "a"), ("three", "b")):
        (tmp_path / name).mkdir()
        body = {"inputs": [{"name": "data", "path": "x", "hash": rows}, {"name": "model", "path": "m", "hash": "m"}]}
        (tmp_path / name / "manifest.json").write_text(json.dumps(body), encoding="utf-8")
    one, two, three = (as_reward_node(str(tmp_path / n)) for n in ("one", "two", "three"))
    apart(one, three)
    with pytest.raises(ValueError, match="learned from the same rows"):
        apart(one, two)
