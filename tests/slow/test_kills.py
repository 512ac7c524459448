"""Killed at any point, a run that is started again ends with the same bits: weights, metrics, order of the data.

Every trial is a process that dies by SIGKILL (at a named point of the code, or at a random moment) and the same command again.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from posttrain.core.files import read_lines, write_text
from posttrain.train import checkpoint
from tests.models.tiny import tiny_directory

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
WATCH = ("seconds", "tokens_per_second", "share_of_peak", "memory_mib")
"""What a metrics line says of the machine and not of the run."""
KILLED = -9


class Lab:
    """The forking process of tests/slow/lab.py."""

    def __init__(self) -> None:
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        command = [sys.executable, "-m", "tests.slow.lab"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._reply() == {"ready": True}

    def _reply(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the lab died"
        return json.loads(line)

    def run(self, recipe: Path, crash: str = "", kill: dict[str, Any] | None = None, **env: str) -> int:
        """Run `posttrain run RECIPE` once; what it said is in `<recipe>.log`."""
        assert self.process.stdin is not None
        request = {
            "argv": ["run", str(recipe)],
            "env": {"POSTTRAIN_CRASH_AT": crash, **env},
            "log": f"{recipe}.log",
            "kill": kill,
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self._reply()["status"])


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    assert made.process.stdin is not None
    made.process.stdin.close()
    made.process.wait(timeout=20)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tiny model and rows of many lengths."""
    at = tmp_path_factory.mktemp("kills")
    tiny_directory(at / "model", "smollm3", hidden=16)
    words = ["rain", "sun", "fox", "dog", "two", "four", "Paris", "hello", "write", "short", "answer", "lazy"]
    rng = random.Random(0)
    pairs = [
        {"id": f"r{i}", "prompt": f"{words[i % 12]} {i}?", "chosen": " ".join(rng.choices(words, k=1 + i % 7)),
         "rejected": " ".join(rng.choices(words, k=1 + i % 5)) + "!"}
        for i in range(40)
    ]  # fmt: skip
    sft = [{"id": r["id"], "prompt": r["prompt"], "completion": r["chosen"]} for r in pairs]
    for name, rows in (("pairs", pairs), ("sft", sft)):
        write_text(at / f"{name}.jsonl", "".join(json.dumps(r) + "\n" for r in rows))
    return at


def recipe(place: Path, name: str, **changes: Any) -> Path:
    """Write a recipe of 30 small steps with a checkpoint every 5, and return its path; the run is beside it."""
    body = {
        "method": "dpo", "model": str(place / "model"), "data": str(place / "pairs.jsonl"), "out": str(place / name),
        "steps": 30, "batch": 4, "checkpoint_every": 5, "threads": 1, "preflight": "off", "log_to": [], "samples": 1,
        "sample_tokens": 3, "validation": 8, "evaluate_every": 10, "optimizer": {"lr": 0.002}, "seed": 3, **changes,
    }  # fmt: skip
    if "jobs" in body:
        body = {k: body[k] for k in ("jobs", "out", "seed")}
    file = place / f"{name}.yaml"
    write_text(file, yaml.safe_dump(body))
    return file


def steps_done(run: Path) -> dict[int, tuple[str, ...]]:
    """Rows of each step, by number; a step that was done twice had the same rows both times."""
    out: dict[int, tuple[str, ...]] = {}
    for line in read_lines(run / "order.jsonl"):
        rows = tuple(line["rows"])
        assert out.setdefault(line["step"], rows) == rows, f"step {line['step']} had other rows the second time"
    return out


def result(run: Path) -> dict[str, Any]:
    """What must be equal bit for bit."""
    metrics = [{k: v for k, v in row.items() if k not in WATCH} for row in read_lines(run / "metrics.jsonl")]
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    weights = {f.name: f.read_bytes() for f in (run / "model").iterdir() if f.suffix == ".safetensors"}  # trunk, heads
    left = [p.name for p in (run / "checkpoints").iterdir() if p.name.startswith(".")]
    assert not left, f"rests of killed saves: {left}"
    return {
        "weights": weights,
        "metrics": metrics,
        "order": steps_done(run),
        "steps": manifest["steps"],
        "stopped": manifest["stopped"],
        "samples": (run / "samples.jsonl").read_text(encoding="utf-8"),
    }


def said(file: Path) -> str:
    return Path(f"{file}.log").read_text(encoding="utf-8")


def undisturbed(lab: Lab, file: Path) -> dict[str, Any]:
    assert lab.run(file) == 0, said(file)
    return result(file.with_suffix(""))


@pytest.fixture(scope="module")
def whole(lab: Lab, place: Path) -> dict[str, Any]:
    made = undisturbed(lab, recipe(place, "whole"))
    assert made["steps"] == 30 and [m["step"] for m in made["metrics"]] == list(range(1, 31))
    assert len(made["order"]) == 30 and "eval_loss" in made["metrics"][9]
    return made


CRASHES = (
    "backward:17",
    "before-rename:2",
    "after-rename:2",
    "checkpoint-written:2",
    "before-model",
    "model-written",
)


@pytest.mark.parametrize("crash", CRASHES)
def test_crash_point(crash: str, lab: Lab, place: Path, whole: dict[str, Any]) -> None:
    file = recipe(place, crash.replace(":", "-"))
    assert lab.run(file, crash) == KILLED, said(file)
    assert not (file.with_suffix("") / "manifest.json").exists()
    assert lab.run(file) == 0, said(file)
    assert result(file.with_suffix("")) == whole
    assert "resumed after step" in said(file)


@pytest.mark.parametrize("life", range(3))
def test_random_moments(life: int, lab: Lab, place: Path, whole: dict[str, Any]) -> None:
    """Ten kills in three lives: each life is killed at three or four random moments, later and later, and then let live."""
    rng = random.Random(f"life {life}")
    file = recipe(place, f"life{life}")
    moments = sorted(rng.sample(range(1, 29), 4 if life == 0 else 3))
    for lines in moments:
        when = {"file": str(file.with_suffix("") / "metrics.jsonl"), "lines": lines, "after": rng.random() * 0.03}
        assert lab.run(file, kill=when) == KILLED, said(file)
    assert lab.run(file) == 0, said(file)
    assert result(file.with_suffix("")) == whole


def test_crash_during_a_resumed_save(lab: Lab, place: Path, whole: dict[str, Any]) -> None:
    """Killed before the first checkpoint, between two, and inside the save of a resumed life."""
    file = recipe(place, "thrice")
    for crash in ("backward:3", "backward:12", "before-rename:1"):
        assert lab.run(file, crash) == KILLED, said(file)
    assert lab.run(file) == 0, said(file)
    assert result(file.with_suffix("")) == whole


def test_lora_sft(lab: Lab, place: Path) -> None:
    fields = {"method": "sft", "data": str(place / "sft.jsonl"), "lora": {"rank": 2}, "steps": 12, "validation": 0}
    expected = undisturbed(lab, recipe(place, "lora-whole", **fields))
    file = recipe(place, "lora", **fields)
    assert lab.run(file, "backward:8") == KILLED, said(file)
    assert lab.run(file) == 0, said(file)
    assert result(file.with_suffix("")) == expected


def test_patience_is_remembered(lab: Lab, place: Path) -> None:
    """The counter of bad validations and the best weights survive a kill: the run stops at the same step with the same weights."""
    fields = {"method": "sft", "data": str(place / "sft.jsonl"), "steps": 60, "evaluate_every": 2, "patience": 4,
              "optimizer": {"lr": 0.3, "warmup": 0.3}, "checkpoint_every": 3}  # fmt: skip
    expected = undisturbed(lab, recipe(place, "patience-whole", **fields))
    last = expected["steps"]
    assert expected["stopped"] is not None and 8 < last < 60, expected["steps"]
    file = recipe(place, "patience", **fields)
    assert lab.run(file, f"backward:{last - 1}") == KILLED, said(file)  # after the best step, before the end
    assert lab.run(file) == 0, said(file)
    assert result(file.with_suffix("")) == expected


ONLINE = {
    "data": "sft.jsonl", "steps": 8, "validation": 0, "checkpoint_every": 3, "keep": 9, "reward": {"name": "length", "limit": 2, "per": 1},
    "rollout": {"n": 3, "max_new_tokens": 6, "slots": 5, "keep_every": 2},
}  # fmt: skip
PPO = {
    "name": "ppo",
    "passes": 2,
    "minibatches": 2,
    "beta": 0.3,
    "control": {"name": "adaptive", "target": 0.05, "horizon": 200},
}
OFF_POLICY = {
    "name": "grpo",
    "correction": {"high": 2.0},
    "beta": 0.1,
    "constraint": {"cost": "length", "price": {"name": "ascent", "most": 3.0}},
}
CURRICULUM = {"pass_at": 99.0, "low": 0.1, "high": 0.9, "keep": 0.5}
STREAMS = ONLINE["rollout"] | {"ahead": True, "replay": {"share": 0.5, "size": 6}, "curriculum": CURRICULUM}


def online(place: Path, name: str, **changes: Any) -> Path:
    return recipe(place, name, **ONLINE | {"data": str(place / "sft.jsonl")} | changes)


@pytest.fixture(scope="module")
def whole_ppo(lab: Lab, place: Path) -> dict[str, Any]:
    made = undisturbed(lab, online(place, "ppo-whole", method=PPO))
    betas = [m["beta"] for m in made["metrics"]]
    assert made["steps"] == 8 and len(set(betas)) == 8, betas  # the controller moved it at every step
    return made | {"rollouts": (place / "ppo-whole" / "rollouts.jsonl").read_text(encoding="utf-8")}


@pytest.mark.parametrize("crash", ["token:33", "backward:19", "before-rename:2", "checkpoint-written:1"])
def test_ppo_killed_while_sampling_updating_and_saving(
    crash: str, lab: Lab, place: Path, whole_ppo: dict[str, Any]
) -> None:
    """The learned KL coefficient, the running moments of the scores and the critic are part of what must be equal."""
    file = online(place, "ppo-" + crash.replace(":", "-"), method=PPO)
    assert lab.run(file, crash) == KILLED, said(file)
    assert not (file.with_suffix("") / "manifest.json").exists()
    assert lab.run(file) == 0, said(file)
    run = file.with_suffix("")
    assert result(run) | {"rollouts": (run / "rollouts.jsonl").read_text(encoding="utf-8")} == whole_ppo
    first, second = (checkpoint.read(checkpoint.found(d / "checkpoints")[-1])[1] for d in (place / "ppo-whole", run))
    assert first["method"] == second["method"] and first["source"] == second["source"]


@pytest.mark.parametrize("crash", ["token:75", "backward:8", "before-rename:3"])
def test_streams_killed(crash: str, lab: Lab, place: Path) -> None:
    """Curriculum, replay, a step drawn ahead in a thread and the price of a constraint: all of it comes back."""
    fields = {"method": OFF_POLICY, "rollout": STREAMS, "steps": 12, "batch": 6}  # every prompt comes again
    whole_run = place / "streams-whole"
    if not whole_run.exists():
        undisturbed(lab, online(place, "streams-whole", **fields))
    file = online(place, "streams-" + crash.replace(":", "-"), **fields)
    assert lab.run(file, crash) == KILLED, said(file)
    assert lab.run(file) == 0, said(file)
    run = file.with_suffix("")
    states = [checkpoint.read(checkpoint.found(d / "checkpoints")[-1])[1] for d in (whole_run, run)]
    assert states[0]["method"] == states[1]["method"] and states[0]["method"]["remembered"]["log"] != 0.0
    told = (whole_run / "manifest.json").read_text(encoding="utf-8")
    assert "turns of prompts" in told and "curriculum: 0 turns" not in told
    for name in ("weights", "metrics", "samples"):
        assert result(run)[name] == result(whole_run)[name], name


def two_stages(place: Path, name: str) -> Path:
    shared = {"batch": 4, "checkpoint_every": 5, "threads": 1, "preflight": "off", "log_to": [], "samples": 1, "sample_tokens": 3,
              "optimizer": {"lr": 0.002}, "steps": 8}  # fmt: skip
    jobs = {
        "sft": {"method": "sft", "model": str(place / "model"), "data": str(place / "sft.jsonl"), **shared},
        "dpo": {"method": "dpo", "model": "$sft", "data": str(place / "pairs.jsonl"), **shared},
    }
    return recipe(place, name, jobs=jobs, out=str(place / name))


def test_pipeline_killed_between_stages(lab: Lab, place: Path) -> None:
    first = two_stages(place, "stages-whole")
    assert lab.run(first) == 0, said(first)
    expected = {name: result(place / "stages-whole" / name) for name in ("sft", "dpo")}
    file = two_stages(place, "stages")
    done = place / "stages" / "sft" / "manifest.json"
    assert lab.run(file, kill={"file": str(done), "lines": 0, "after": 0.0}) == KILLED, said(file)
    assert not (place / "stages" / "dpo" / "manifest.json").exists()
    written = done.stat().st_mtime_ns
    assert lab.run(file, "backward:4") == KILLED, said(file)  # inside the second stage, before its first checkpoint
    assert lab.run(file) == 0, said(file)
    assert done.stat().st_mtime_ns == written and "reused" in said(file)
    assert {name: result(place / "stages" / name) for name in ("sft", "dpo")} == expected


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A file system of 900 KB where the system allows one to be mounted, else None."""
    at = tmp_path / "disk"
    at.mkdir()
    made = os.geteuid() == 0 and shutil.which("mount") is not None
    made = (
        made
        and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900k", "none", str(at)], check=False).returncode == 0
    )
    yield at if made else None
    if made:
        subprocess.run(["umount", "-l", str(at)], check=True)


def test_disk_full(lab: Lab, place: Path, whole: dict[str, Any], small_disk: Path | None) -> None:
    """One clear line, the older checkpoint intact, and after room is made the same command goes on."""
    run = (small_disk or place) / "full"
    file = recipe(place, "full", out=str(run), keep=9)
    code = lab.run(file, **({} if small_disk else {"FULL_AFTER": "2"}))
    text = said(file)
    assert code == 1, text
    lines = [line for line in text.splitlines() if line.startswith("posttrain:")]
    assert len(lines) == 1 and "No space left" in lines[0] and "goes on from" in lines[0], text
    assert "Traceback" not in text
    there = checkpoint.found(run / "checkpoints")
    assert there and checkpoint.read(there[-1])[0] == 5 * len(there) < 30
    assert not [p for p in (run / "checkpoints").iterdir() if p.name.startswith(".")]
    if small_disk is not None:
        subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert lab.run(file) == 0, said(file)
    assert result(run) == whole


def test_non_finite_gradient(lab: Lab, place: Path) -> None:
    """A rate that blows the weights up: the next step is not taken, its state and its rows are kept, exit code 3."""
    file = recipe(place, "wreck", checkpoint_every=1, validation=0, optimizer={"lr": 1e30, "warmup": 0.0, "clip": 1.0})
    assert lab.run(file) == 3, said(file)
    run = file.with_suffix("")
    assert not (run / "manifest.json").exists() and "non-finite gradient" in said(file)
    there = checkpoint.found(run / "checkpoints")
    (wreck,) = checkpoint.found(run / "nonfinite")
    (last, good), (bad, state) = checkpoint.read(there[-1]), checkpoint.read(wreck)
    assert bad == last + 1
    assert set(good["engine"]["weights"]) == set(state["engine"]["weights"])
    for name, value in good["engine"]["weights"].items():
        assert value.numpy().tobytes() == state["engine"]["weights"][name].numpy().tobytes(), name
    rows = json.loads((run / "nonfinite" / "batch.json").read_text(encoding="utf-8"))
    assert tuple(r["facts"]["id"] for r in rows) == steps_done(run)[bad]
    named = json.loads((run / "nonfinite" / "tensors.json").read_text(encoding="utf-8"))
    assert named["step"] == bad and named["names"]
