"""Our half of a speed comparison: the engine and the loop of `posttrain`, one optimizer step for each line read.

    python our_side.py METHOD MODEL_DIR ROWS_FILE STEPS [SCORES_DIR]

The same protocol as `trl_side.py`. The time of a step is that of the whole loop body: layout, reference pass, forward, backward,
clipping, optimizer. Prompts are shared. Without SCORES_DIR the reference is scored live in every step; with it its log-probs are
computed beforehand into a score cache there, and read from it in the steps.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from workload import END_ID, SCORE_HEAD, SHAPES, read_rows, words

import posttrain.methods  # noqa: F401  (fills the registry)
from posttrain.core.chat import as_chat
from posttrain.core.group import Group, Preference, Response, Score
from posttrain.core.method import Method
from posttrain.core.protocols import Sampling
from posttrain.engine.kept import Kept
from posttrain.engine.local import LocalEngine
from posttrain.engine.optimizer import Optimizer
from posttrain.jobs.threads import choose_threads
from posttrain.rollout.rollouts import Rollouts
from posttrain.rollout.sampler import Sampler
from posttrain.rollout.together import Together
from posttrain.rollout.workers import alike
from posttrain.train.loop import Step, train

LEARNING_RATE = 1e-5
METHODS: dict[str, Any] = {
    "sft": "sft",
    "dpo": "dpo",
    "reward": "reward",
    "kto": "kto",
    "grpo": {"name": "grpo", "beta": 0.04},
    "rloo": {"name": "rloo", "beta": 0.05},
    "ppo": {"name": "ppo", "passes": 1},
}
ONLINE = ("grpo", "rloo", "ppo")


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


def even(groups: list[Group]) -> list[list[Score]]:
    """TRL's side scores the same: the share of even ids."""
    return [[Score(float(np.mean(r.tokens % 2 == 0))) for r in g.responses] for g in groups]  # type: ignore[operator]


def rollouts(model: nn.Module, folder: str, groups: list[Group], method: str) -> Rollouts:
    """Prompts answered live: every step samples, scores and learns."""
    shape = SHAPES.get(method, SHAPES["grpo"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = [replace(g, prompt=as_chat(words(g.prompt_tokens.tolist()))) for g in groups]  # type: ignore[union-attr]
    known = {g.prompt: g.prompt_tokens for g in asked}
    one = Sampler(model, tokenizer, [END_ID], lambda chat, _: known[chat].tolist())  # type: ignore[union-attr]
    sampler: Any = Together(one, torch.get_num_threads()) if alike(one) and torch.get_num_threads() > 1 else one
    return Rollouts(Rows(asked, shape.groups), sampler, even, shape.answers, Sampling(max_tokens=shape.answer))


def peak() -> int:
    """Largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def dense_tokens(groups: list[Group]) -> int:
    """Tokens as a dense trainer counts them: a prompt once per answer."""
    return sum(len(g.prompt_tokens) + len(r.tokens) for g in groups for r in g.responses)  # type: ignore[arg-type]


def told(step: Step, groups: int) -> int:
    """Tokens of an online step as a dense trainer counts them; all prompts have the same length."""
    answered = int(step.counts["token"])
    return answered + (step.stream_tokens - answered) // groups * int(step.counts["row"])


def main(method_name: str, folder: str, rows_file: str, steps: int, scores: str | None = None) -> None:
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
    per_step = SHAPES[method_name].groups
    online = method_name in ONLINE
    source: Any = rollouts(model, folder, groups, method_name) if online else Rows(groups, per_step)
    threads = {"threads": torch.get_num_threads()}
    if torch.get_num_threads() > 1:  # measured on a few groups, as a run of the product begins
        some = source.prompts.groups if online else groups
        probe = source.sample(some[:per_step], 0) if online else some[: min(8, per_step)]
        with tempfile.TemporaryDirectory() as run:
            threads = choose_threads(engine, method, probe, None, Path(run))
    if scores is not None:
        engine.kept = Kept(scores)
        for at in range(0, len(groups), per_step):
            method.prepare(engine.layout(method.arrange(groups[at : at + per_step])), engine)
    ready = {
        "side": "posttrain",
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "dtype": "torch.float32",
        "threads": threads,
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
            "tokens": told(step, per_step)
            if online
            else dense_tokens(groups[number * per_step : (number + 1) * per_step]),
            "stream_tokens": step.stream_tokens,
            "loss": step.metrics["loss"],
            "peak": peak(),
            "path": engine.path,
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), *sys.argv[5:6])
