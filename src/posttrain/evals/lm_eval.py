"""`lm-eval` tasks on a saved model directory, in its own environment: run it, read its results file.

The harness (EleutherAI) brings many dependencies, so it is looked for as a program: the environment variable POSTTRAIN_LM_EVAL, else
``.venv-lm-eval/bin/lm_eval`` beside the working directory, else ``lm_eval`` on the path. Its standard errors become normal intervals.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from posttrain.stats import Interval

Z = 1.959963984540054


def program() -> str | None:
    """The path of lm_eval, or None."""
    named = os.environ.get("POSTTRAIN_LM_EVAL")
    beside = Path(".venv-lm-eval/bin/lm_eval")
    return named or (str(beside.resolve()) if beside.is_file() else shutil.which("lm_eval"))


def lm_eval(
    model: str | Path, tasks: Sequence[str], include: str | None = None, limit: int | None = None, chat: bool = False
) -> dict[str, Interval]:
    """Figures by ``task/metric``. model: a directory. include: folder of further task files. Raises ValueError in one line."""
    found = program()
    if found is None:
        raise ValueError("lm_eval is not installed: run `make lm-eval`, or set POSTTRAIN_LM_EVAL to the program")
    with tempfile.TemporaryDirectory() as place:
        command = [
            found,
            "--model",
            "hf",
            "--model_args",
            f"pretrained={model},dtype=float32",
            "--tasks",
            ",".join(tasks),
        ]
        command += ["--device", "cpu", "--batch_size", "8", "--output_path", place]
        command += ["--include_path", include] if include else []
        command += ["--limit", str(limit)] if limit else []
        command += ["--apply_chat_template"] if chat else []
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        results = sorted(Path(place).rglob("results*.json"))
        if made.returncode != 0 or not results:
            said = [line for line in made.stderr.splitlines() if line.strip()]
            raise ValueError(f"lm_eval failed on {model}: {said[-1] if said else 'no output'}")
        return read_results(json.loads(results[-1].read_text(encoding="utf-8")))


def read_results(body: dict) -> dict[str, Interval]:
    """Intervals of a results file of the harness; a figure without a standard error has no interval."""
    out = {}
    for task, figures in body["results"].items():
        n = int((body.get("n-samples", {}).get(task) or {}).get("effective", 0))
        for name, value in figures.items():
            metric, _, rule = name.partition(",")
            if metric.endswith("_stderr") or metric == "sample_len" or not isinstance(value, int | float):
                continue
            se = figures.get(f"{metric}_stderr,{rule}")
            half = Z * se if isinstance(se, int | float) and se > 0 else float("nan")  # an error of 0 tells nothing
            out[f"{task}/{metric}"] = Interval(value, value - half, value + half, n, "normal, lm-eval's error", 0.95)
    return out
