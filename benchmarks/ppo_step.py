"""What a PPO step costs beside a GRPO step on the same samples: linear value head, one pass, the same reward and reference.

    python -m benchmarks.ppo_step [--size 6m] [--rounds 8] [--threads 1]

Both sides learn from the same 4 prompts x 8 answers x 64 tokens, in turn, so that foreign load falls on both; sampling is not counted. The
last line is the ratio of the medians (at most 1.35 is wanted).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).parent))
import workload

from posttrain.core.group import Group, Response, Score
from posttrain.core.method import Method
from posttrain.engine.local import LocalEngine
from posttrain.engine.optimizer import Optimizer
from posttrain.methods import GRPO, PPO
from posttrain.models.heads import value_head
from posttrain.train.loop import learn


def samples(seed: int, vocab: int) -> list[Group]:
    """A step's answers with the log-probs of a sampler that knows the policy well."""
    draw, shape = np.random.default_rng(seed), workload.SHAPES["grpo"]
    return [
        Group(
            (),
            tuple(
                Response(
                    tokens=draw.integers(4, vocab, shape.answer),
                    trained=np.ones(shape.answer, dtype=bool),
                    logps=np.full(shape.answer, -8.3, dtype=np.float32),
                    score=Score(float(draw.normal())),
                    stop="stop",
                )
                for _ in range(shape.answers)
            ),
            prompt_tokens=draw.integers(4, vocab, shape.prompt),
        )
        for _ in range(shape.groups)
    ]


def engine_of(method: Method, folder: Path, steps: int) -> LocalEngine:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    heads = {"value": value_head(model.config.hidden_size)} if method.needs().value else {}
    made = LocalEngine(model, heads, needs=method.needs())
    made.optimize(Optimizer(schedule="constant", warmup=0.0), 1e-6, steps)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", choices=sorted(workload.SIZES), default="6m")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    methods: dict[str, Method] = {"ppo": PPO(passes=1), "grpo": GRPO(beta=0.04)}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    with tempfile.TemporaryDirectory(prefix="ppo-step-") as name:
        workload.write_model(Path(name) / "model", given.size)
        engines = {n: engine_of(m, Path(name) / "model", given.rounds) for n, m in methods.items()}
        for number in range(given.rounds):
            groups = samples(number, workload.SIZES[given.size].vocab)
            for kind, method in methods.items():
                began = time.thread_time() if given.threads == 1 else time.perf_counter()
                learn(engines[kind], method, groups, number + 1)
                ended = time.thread_time() if given.threads == 1 else time.perf_counter()
                seconds[kind].append(ended - began)
    medians = {kind: statistics.median(values[1:]) for kind, values in seconds.items()}
    print(f"load {os.getloadavg()[0]:.1f}; " + ", ".join(f"{k} {v:.3f} s" for k, v in medians.items()))
    print(f"ppo/grpo {given.size} ratio={medians['ppo'] / medians['grpo']:.2f}")


if __name__ == "__main__":
    main()
