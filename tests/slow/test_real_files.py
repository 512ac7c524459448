"""What the trainer sees of real files: the formats token by token, and `posttrain check` on each file.

The preflight's complaints are accepted by name where they are right, and their counts are compared with the file's own lines.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from posttrain import cli
from posttrain.core.group import Group
from posttrain.data.read import read
from posttrain.data.write import write
from posttrain.jobs.check import Check, Verdict
from posttrain.models.load import load
from posttrain.models.render import Renderer
from posttrain.rollout.policy import Policy
from tests.slow import real

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not real.DATA.is_dir(), reason="POSTTRAIN_DATA names no directory of real rows"),
]
LLAMA = "llamafactory-demo"
LIMIT = 2048
"""Tokens of a prompt with its answer; longer rows are left out, counted and accepted by name."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("real")


@pytest.fixture(scope="module")
def start(root: Path) -> str:
    return real.start_model(root)


@pytest.fixture(scope="module")
def renderer(start: str) -> Renderer:
    return Renderer.of(load(f"{start}/model"))


# Formats that are read through the trainer's own renderer


def trained_runs(groups: Sequence[Group], renderer: Renderer) -> list[list[str]]:
    """Of each group's answer, the stretches of tokens that are trained, as texts without the stop token that ends each."""
    out = []
    for done in renderer.render_many(groups):
        assert done is not None
        (answer,) = done.responses
        assert answer.tokens is not None and answer.trained is not None
        flags = np.concatenate([[False], np.asarray(answer.trained) > 0, [False]])
        edges = np.flatnonzero(flags[1:] != flags[:-1])
        runs = [answer.tokens[begin:end] for begin, end in zip(edges[::2], edges[1::2], strict=True)]
        assert all(int(run[-1]) in renderer.stops for run in runs)
        out.append([renderer.decode(run[:-1]) for run in runs])
    return out


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (real.DATA / name).read_bytes().split(b"\n") if line]


def test_kto_rows_train_on_their_labels(root: Path, start: str, renderer: Renderer) -> None:
    name = f"{LLAMA}/kto_en_demo.jsonl"
    groups, rows = real.groups_of(name), rows_of(name)
    assert [g.responses[0].label for g in groups] == [r["label"] for r in rows]
    assert trained_runs(groups, renderer) == [[r["messages"][-1]["content"].strip()] for r in rows]
    limited = Renderer(renderer.tokenizer, renderer.template, "all", LIMIT, "drop", renderer.stops)
    fit = [made is not None for made in limited.render_many(groups, keep_dropped=True)]
    groups, good = list(itertools.compress(groups, fit)), [bool(r["label"]) for r in itertools.compress(rows, fit)]
    settings = {"epochs": 2, "batch": 16, "optimizer": {"lr": 1e-3}, "max_tokens": LIMIT, "overlong": "drop"}
    after = real.train(root / "kto", model=start, method="kto", data=str(real.DATA / name), accept=["D1"], **settings)
    (account,) = json.loads((root / "kto" / "manifest.json").read_text(encoding="utf-8"))["data"]
    assert account["rows"] == len(rows) and account["kept"] == len(groups)
    lift = [
        float((a[0] - b[0]).sum()) for a, b in zip(after.logp(groups), Policy.open(start).logp(groups), strict=True)
    ]
    assert np.mean(np.compress(good, lift)) > np.mean(np.compress(np.logical_not(good), lift))


def test_typed_content_and_its_loss_weights_decide_what_is_trained(renderer: Renderer) -> None:
    name = f"{LLAMA}/v1_sft_demo.jsonl"
    said = [
        ["".join(part["value"] for part in m["content"]).strip() for m in row["messages"] if m["loss_weight"]]
        for row in rows_of(name)
    ]
    assert trained_runs(real.groups_of(name), renderer) == said


def test_tool_calls_are_trained_and_what_tools_answer_is_not(renderer: Renderer) -> None:
    name = f"{LLAMA}/glaive_toolcall_en_demo.jsonl"
    calls = 0
    for runs, row in zip(trained_runs(real.groups_of(name), renderer), rows_of(name), strict=True):
        turns = [t for t in row["conversations"] if t["from"] in ("gpt", "function_call")]
        for turn, text in zip(turns, runs, strict=True):
            if turn["from"] == "function_call":
                assert json.loads(text) == json.loads(turn["value"])
                calls += 1
            else:
                assert text == turn["value"].strip()
    assert calls > 50


def test_chinese_rows_survive_the_way_to_tokens_and_files(tmp_path: Path, renderer: Renderer) -> None:
    name = f"{LLAMA}/alpaca_zh_demo.jsonl"
    groups, rows = real.groups_of(name), rows_of(name)
    runs = trained_runs(groups, renderer)
    assert runs == [[r["output"].strip()] for r in rows]
    for done, row in zip(renderer.render_many(groups), rows, strict=True):
        assert done is not None and done.prompt_tokens is not None
        assert row["instruction"].strip() in renderer.decode(done.prompt_tokens)
    write(groups, tmp_path / "zh.jsonl", "messages")
    assert trained_runs(read(tmp_path / "zh.jsonl").groups, renderer) == runs


# What `posttrain check` says of every file that the trainer can use

CHECKED: dict[str, tuple[str, tuple[str, ...]]] = {
    real.GSM8K: ("sft", ()),
    real.HH: ("dpo", ("D5",)),  # empty answers
    real.ALPACA: ("sft", ()),
    f"{LLAMA}/alpaca_zh_demo.jsonl": ("sft", ()),
    f"{LLAMA}/dpo_en_demo.jsonl": ("dpo", ("D1",)),  # long answers
    f"{LLAMA}/dpo_zh_demo.jsonl": ("dpo", ("D1", "D5")),
    f"{LLAMA}/glaive_toolcall_en_demo.jsonl": ("sft", ("D1", "D5")),  # one row in eight is a repeat
    f"{LLAMA}/kto_en_demo.jsonl": ("kto", ("D1",)),
    f"{LLAMA}/v1_dpo_demo.jsonl": ("dpo", ()),
    f"{LLAMA}/v1_sft_demo.jsonl": ("sft", ()),
    f"{LLAMA}/wiki_demo.jsonl": ("lm", ("D1",)),  # whole articles, cut
    "rm-bench/chat_filtered.jsonl": ("reward", ("D1",)),
    "rm-bench/code_filtered.jsonl": ("reward", ("D1",)),
    "rm-bench/safety-refuse_filtered.jsonl": ("reward", ()),
    "rm-bench/safety-response_filtered.jsonl": ("reward", ()),
    "stanford-alpaca/seed_tasks.jsonl": ("sft", ("D1",)),
    "xstest/model_completions/xstest_v2_completions_mistralinstruct.jsonl": ("sft", ()),
}
"""File: method, and the warnings that are right about it. A count in a finding is compared with the file's own lines."""
REFUSED = {
    "mt-bench/question.jsonl": "no response",
    "mt-bench/reference_answer/gpt-4.jsonl": "columns not recognised",
    "refusal-direction/advbench.jsonl": "no response",
    "xstest/xstest_prompts.jsonl": "no response",
}
"""Files with nothing to imitate, and what the refusal says."""


def recipe(root: Path, start: str, jobs: dict[str, tuple[str, tuple[str, ...]]]) -> Path:
    """One recipe with a Train job per file."""
    body = {
        "version": 1,
        "out": str(root / "check"),
        "jobs": {
            job_name(file): {
                "method": method,
                "model": start,
                "data": str(real.DATA / file),
                "batch": 4,
                "max_tokens": LIMIT,
                "overlong": "truncate" if method == "lm" else "drop",
                "accept": list(accepted),
            }
            for file, (method, accepted) in jobs.items()
        },
    }
    path = root / f"check-{len(jobs)}.yaml"
    path.write_text(yaml.safe_dump(body), encoding="utf-8")
    return path


def job_name(file: str) -> str:
    return file.split("/")[-1].split(".")[0].replace("-", "_").lower()


@pytest.fixture(scope="module")
def verdict(root: Path, start: str) -> Verdict:
    return Check(recipe=str(recipe(root, start, CHECKED))).run(real.quiet())


def test_check_passes_every_file_with_what_it_rightly_says_accepted_by_name(verdict: Verdict) -> None:
    assert verdict.refused == {} and verdict.exit_code == 0
    for file, (_, accepted) in CHECKED.items():
        found = verdict.findings[job_name(file)]
        told = [f"{f.id} {f.severity}: {f.message}" for f in found if f.id not in ("S4", "S6")]
        print(f"\n{file}: {' | '.join(told) or 'nothing'}", end="")
        assert {f.id for f in found if f.severity == "warning"} <= set(accepted)
        assert {f.id for f in found} <= {*accepted, "D1", "D5", "S4", "S6"}


def numbers(verdict: Verdict, file: str, words: str) -> int:
    """The number that a finding of a file begins with, 0 where there is no such finding."""
    said = [f.message for f in verdict.findings[job_name(file)] if words in f.message]
    return int(said[0].split(": ", 1)[1].split()[0]) if said else 0


def test_duplicates_and_empty_answers_are_those_of_the_file(verdict: Verdict) -> None:
    whole = [f for f in CHECKED if f.endswith(".jsonl") and not numbers(verdict, f, "are left out") and "wiki" not in f]
    assert len(whole) >= 6
    for file in whole:
        lines = [json.dumps(r, sort_keys=True) for r in rows_of(file)]
        assert numbers(verdict, file, "exact duplicates") == len(lines) - len(set(lines)), file
    sides = [
        [str(r[side]).rpartition("Assistant:")[2].strip() for side in ("chosen", "rejected")] for r in rows_of(real.HH)
    ]
    assert numbers(verdict, real.HH, "empty answer") == sum("" in pair for pair in sides)


def test_rows_that_are_left_out_are_those_that_are_too_long(verdict: Verdict, start: str) -> None:
    file = f"{LLAMA}/dpo_en_demo.jsonl"
    unlimited = Renderer.of(load(f"{start}/model"))
    made = [g for g in unlimited.render_many(real.groups_of(file)) if g is not None]
    sizes = [max(len(g.prompt_tokens) + len(r.tokens) for r in g.responses) for g in made]  # type: ignore[arg-type]
    assert numbers(verdict, file, "are left out") == sum(n > LIMIT for n in sizes)


def test_check_refuses_files_without_answers_in_one_line(root: Path, start: str) -> None:
    found = Check(recipe=str(recipe(root, start, dict.fromkeys(REFUSED, ("sft", ()))))).run(real.quiet())
    assert found.exit_code == 1
    for file, words in REFUSED.items():
        assert words in found.refused[job_name(file)] and "\n" not in found.refused[job_name(file)]


def test_the_command_refuses_what_nobody_accepted(root: Path, start: str) -> None:
    path = recipe(root, start, {real.HH: ("reward", ())})
    command = [sys.executable, "-m", "posttrain.cli", "check", str(path)]
    env = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1]), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=1800)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "D5" in said and "empty answer" in said, said
