"""Our half of a speed comparison: the engine and the loop of `posttrain`, one optimizer step for each line read.

    python our_side.py METHOD MODEL_DIR ROWS_FILE STEPS

The same protocol as `trl_side.py`. The time of a step is that of the whole loop body: layout, reference pass, forward, backward,
clipping, optimizer. The reference is scored live in every step (nothing is computed beforehand), prompts are shared.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM
from workload import SCORE_HEAD, SHAPES, read_rows

import posttrain.methods  # noqa: F401  (fills the registry)
from posttrain.core.group import Group, Preference, Response
from posttrain.core.method import Method
from posttrain.engine.local import LocalEngine
from posttrain.engine.optimizer import Optimizer
from posttrain.train.loop import train

LEARNING_RATE = 1e-5
METHODS = {"sft": "sft", "dpo": "dpo", "reward": "reward", "kto": "kto"}


class Rows:
    """A source that gives the rows in the file's order, a step's groups at a time."""

    def __init__(self, groups: list[Group], per_step: int) -> None:
        self.groups, self.per_step = groups, per_step

    def stream(self, policy: Any) -> Iterator[list[Group]]:
        for at in range(0, len(self.groups), self.per_step):
            yield self.groups[at : at + self.per_step]

    def publish(self, engine: Any, version: int) -> None:
        return None

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: Any) -> None:
        return None


def as_groups(rows: list[dict[str, Any]], method: str) -> list[Group]:
    """Rendered groups: every token of an answer is trained, the first of two answers is preferred."""
    made = []
    for row in rows:
        answers = [Response(tokens=np.asarray(a), trained=np.ones(len(a), dtype=bool)) for a in row["answers"]]
        if method == "kto":
            answers = [Response(tokens=a.tokens, trained=a.trained, label=row["label"]) for a in answers]
        pairs = (Preference(0, 1),) if len(answers) == 2 else ()
        made.append(Group((), tuple(answers), preferences=pairs, prompt_tokens=np.asarray(row["prompt"])))
    return made


def peak() -> int:
    """Largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def dense_tokens(groups: list[Group]) -> int:
    """Tokens as a dense trainer counts them: a prompt once per answer."""
    return sum(len(g.prompt_tokens) + len(r.tokens) for g in groups for r in g.responses)  # type: ignore[arg-type]


def main(method_name: str, folder: str, rows_file: str, steps: int) -> None:
    method = Method.of(METHODS[method_name])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    needs, width = method.needs(), model.config.hidden_size
    heads: dict[str, nn.Module] = {"score": nn.Linear(width, needs.score, bias=False)} if needs.score else {}
    if needs.score:
        heads["score"].load_state_dict(load_file(Path(folder) / SCORE_HEAD))
    start = time.perf_counter()
    engine = LocalEngine(model, heads, needs=needs)
    engine.optimize(Optimizer(lr=LEARNING_RATE, schedule="constant", warmup=0.0), LEARNING_RATE, steps)
    groups = as_groups(read_rows(Path(rows_file)), method_name)
    source = Rows(groups, SHAPES[method_name].groups)
    ready = {
        "side": "posttrain",
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "dtype": "torch.float32",
        "threads": torch.get_num_threads(),
        "spin": os.environ.get("GOMP_SPINCOUNT"),
        "preparation_seconds": time.perf_counter() - start,
        "idle": peak(),
    }
    print(json.dumps(ready), flush=True)
    loop = train(engine, method, source, steps)
    for number in range(steps):
        if not sys.stdin.readline():
            return
        began = time.perf_counter()
        step = next(loop)
        answer = {
            "step": step.number,
            "seconds": time.perf_counter() - began,
            "tokens": dense_tokens(groups[number * source.per_step : (number + 1) * source.per_step]),
            "stream_tokens": step.stream_tokens,
            "loss": step.metrics["loss"],
            "peak": peak(),
            "path": engine.path,
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
