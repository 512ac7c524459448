"""`posttrain estimate` against the run that follows: within 30% on time and 15% on memory, each in a process of its own.

Time is compared in processor seconds of one thread, which other programs on the machine change little.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.jobs.tiny_run import rows_file

pytestmark = pytest.mark.slow

ESTIMATE = """
import json, sys
from posttrain.jobs.estimate import Estimate
found = Estimate(recipe=sys.argv[1]).run()["train"]
print(json.dumps({"busy": found.busy, "memory": found.memory, "trained": found.trained_tokens, "stream": found.stream_tokens}))
"""
RUN = """
import json, sys, time
from posttrain.engine.work import memory
from posttrain.jobs.pipeline import load
from posttrain.report import write_report
import torch
began = time.process_time()
run = load(sys.argv[1]).run()["train"]
print(json.dumps({"busy": time.process_time() - began, "memory": memory(torch.device("cpu")), "run": str(run.path)}))
"""


def told(code: str, recipe: Path) -> dict[str, Any]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    made = subprocess.run(
        [sys.executable, "-c", code, str(recipe)], env=env, capture_output=True, text=True, timeout=600
    )
    assert made.returncode == 0, made.stderr[-2000:]
    return json.loads(made.stdout.splitlines()[-1])


def rows(path: Path, pairs: bool) -> str:
    made: list[dict[str, object]] = []
    for i in range(96):
        prompt = f"Question {i}: " + "which book is it? " * (1 + i % 7)
        answers = ["It is the " + "red one, " * (1 + i % 11), "No " * (1 + i % 5)]
        made.append(
            {"prompt": prompt, "chosen": answers[0], "rejected": answers[1]}
            if pairs
            else {"prompt": prompt, "completion": answers[0]}
        )
    return rows_file(path, made)


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_time_within_30_percent_and_memory_within_15(method: str, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    body = {
        "job": "train",
        "method": method,
        "model": "base",
        "data": rows(tmp_path / "rows.jsonl", method == "dpo"),
        "out": str(tmp_path / "run"),
        "epochs": 5,
        "batch": 8,
        "validation": 8,
        "samples": 2,
        "sample_tokens": 24,
    }
    recipe.write_text(yaml.safe_dump(body))
    guess, real = told(ESTIMATE, recipe), told(RUN, recipe)
    assert not list((tmp_path / "run").glob("*.part"))
    assert abs(guess["busy"] / real["busy"] - 1) < 0.30, (guess, real)
    assert abs(guess["memory"] / real["memory"] - 1) < 0.15, (guess, real)
    lines = [json.loads(line) for line in (Path(real["run"]) / "metrics.jsonl").read_text().splitlines()]
    assert guess["trained"] == sum(line["trained_tokens"] for line in lines)
    assert guess["stream"] == sum(line["stream_tokens"] for line in lines)
