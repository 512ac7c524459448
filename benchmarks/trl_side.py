"""The TRL half of a speed comparison: a live trainer that performs one optimizer step for each line it reads.

Run by the bench environment's interpreter (`requirements-bench.txt`); imports TRL, never posttrain.

    python trl_side.py METHOD MODE MODEL_DIR ROWS_FILE STEPS     METHOD: sft reward dpo kto grpo rloo; MODE: default tuned

It is TRL's own `trainer.train()`: data loading, collation, forward, backward, clipping, optimizer and logging are in the time of
a step; only the waiting between steps is not. First line on stdout: what runs (versions, options, idle memory). Then for each
line on stdin one JSON line: seconds, tokens (real ones, dense-equivalent: a prompt counts once per answer), loss, peak (bytes of
the process), and after STEPS of them, or at the end of stdin, the process ends.

Both in fp32 without checkpointing (TRL's own default, bf16 with checkpointing, is slower on a CPU without bf16 instructions).
`default`: TRL's own collation; the rows come in the file's order, so that losses can be compared step by step. `tuned`: what
makes TRL faster here: batches of like length, and reference log-probs computed beforehand (their time is reported apart). The
batches are cut from the rows sorted by length, and come in random order; TRL's own length-grouped sampler would sort only within
a few batches of a data set as small as this one, and KTO refuses it.
`--packing` runs SFT packed, which is slower on the CPU: without flash attention it attends densely over the packed row.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
import trl
from datasets import Dataset, disable_progress_bars
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from workload import SCORE_HEAD, SHAPES, read_rows, words

LEARNING_RATE = 1e-5
ANSWER_TOKENS = 64
REFERENCE_BETA = {"dpo": 0.1, "kto": 0.1, "grpo": 0.04, "rloo": 0.05}


def peak() -> int:
    """Largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def arguments(method: str, tuned: bool, steps: int) -> dict[str, Any]:
    shape = SHAPES[method]
    online = method in ("grpo", "rloo")
    made: dict[str, Any] = {
        "output_dir": tempfile.mkdtemp(prefix="trl-side-"),
        "per_device_train_batch_size": shape.groups * shape.answers if online else shape.groups,
        "gradient_accumulation_steps": 1,
        "max_steps": steps,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": [],
        "save_strategy": "no",
        "logging_steps": 1_000_000,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "seed": 0,
    }
    if method in REFERENCE_BETA:
        made["beta"] = REFERENCE_BETA[method]
    if tuned and method in ("dpo", "kto"):
        made["precompute_ref_log_probs"] = True
    if not online:
        made |= {"max_length": None, "train_sampling_strategy": "sequential"}
    return made


def like_lengths(rows: list[Any], batch: int) -> list[Any]:
    """The rows in batches of like length, the batches in random order."""
    rows = sorted(rows, key=lambda r: len(r["prompt"]) + max(len(a) for a in r["answers"]))
    batches = [rows[i : i + batch] for i in range(0, len(rows), batch)]
    random.Random(0).shuffle(batches)
    return [row for one in batches for row in one]


def sft(model: Any, rows: list[Any], settings: dict[str, Any], token: Any) -> Any:
    data = [
        {"input_ids": r["prompt"] + r["answers"][0], "labels": [-100] * len(r["prompt"]) + r["answers"][0]}
        for r in rows
    ]
    return trl.SFTTrainer(
        model=model, args=trl.SFTConfig(**settings), train_dataset=Dataset.from_list(data), processing_class=token
    )


def reward(model: Any, rows: list[Any], settings: dict[str, Any], token: Any) -> Any:
    data = [
        {
            "chosen_ids": r["prompt"] + r["answers"][0],
            "rejected_ids": r["prompt"] + r["answers"][1],
        }
        for r in rows
    ]
    return trl.RewardTrainer(
        model=model, args=trl.RewardConfig(**settings), train_dataset=Dataset.from_list(data), processing_class=token
    )


def dpo(model: Any, rows: list[Any], settings: dict[str, Any], token: Any) -> Any:
    data = [
        {
            "prompt": words(r["prompt"]),
            **{side: " " + words(a[:-1]) for side, a in zip(("chosen", "rejected"), r["answers"], strict=True)},
        }
        for r in rows
    ]
    trainer = trl.DPOTrainer(
        model=model, args=trl.DPOConfig(**settings), train_dataset=Dataset.from_list(data), processing_class=token
    )
    first = trainer.train_dataset[0]
    assert [first["prompt_ids"], first["chosen_ids"]] == [rows[0]["prompt"], rows[0]["answers"][0]], (
        "ids differ from text"
    )
    return trainer


def kto(model: Any, rows: list[Any], settings: dict[str, Any], token: Any) -> Any:
    data = [
        {"prompt": words(r["prompt"]), "completion": " " + words(r["answers"][0][:-1]), "label": r["label"]}
        for r in rows
    ]
    return trl.KTOTrainer(
        model=model, args=trl.KTOConfig(**settings), train_dataset=Dataset.from_list(data), processing_class=token
    )


def online(trainer_class: Any, config_class: Any) -> Any:
    def build(model: Any, rows: list[Any], settings: dict[str, Any], token: Any) -> Any:
        def even(completion_ids: list[list[int]], **_: Any) -> list[float]:
            return [sum(i % 2 == 0 for i in ids) / len(ids) for ids in completion_ids]

        return trainer_class(
            model=model,
            reward_funcs=even,
            args=config_class(num_generations=8, max_completion_length=ANSWER_TOKENS, **settings),
            train_dataset=Dataset.from_list([{"prompt": words(r["prompt"])} for r in rows]),
            processing_class=token,
        )

    return build


BUILD = {
    "sft": sft,
    "reward": reward,
    "dpo": dpo,
    "kto": kto,
    "grpo": online(trl.GRPOTrainer, trl.GRPOConfig),
    "rloo": online(trl.RLOOTrainer, trl.RLOOConfig),
}


class OneStepPerLine(TrainerCallback):
    """Holds the training loop between steps until a line arrives; reports each step when it ends."""

    def __init__(self, answers: Any) -> None:
        self.answers, self.tokens, self.loss, self.started = answers, 0, 0.0, 0.0

    def watch(self, trainer: Any) -> None:
        """Count the tokens and keep the loss of whatever batch reaches the trainer's own loss."""
        own = trainer.compute_loss

        def counted(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if "attention_mask" in inputs:
                self.tokens += int(inputs["attention_mask"].sum())
            elif "position_ids" in inputs:
                self.tokens += inputs["position_ids"].numel()
            else:
                self.tokens += int(inputs["prompt_mask"].sum() + inputs["completion_mask"].sum())
            value = own(model, inputs, *args, **kwargs)
            self.loss = float(value.detach())
            return value

        trainer.compute_loss = counted

    def wait(self, control: Any) -> None:
        self.tokens = 0
        if not sys.stdin.readline():
            control.should_training_stop = True
        self.started = time.perf_counter()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.wait(control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        seconds = time.perf_counter() - self.started
        answer = {
            "step": state.global_step,
            "seconds": seconds,
            "tokens": self.tokens,
            "loss": self.loss,
            "peak": peak(),
        }
        self.answers.write(json.dumps(answer) + "\n")
        self.answers.flush()
        if state.global_step < state.max_steps:
            self.wait(control)


def main(method: str, mode: str, folder: str, rows_file: str, steps: int, packing: bool) -> None:
    answers = os.fdopen(os.dup(1), "w")  # libraries print to stderr; stdout carries the protocol alone
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    disable_progress_bars()
    load = AutoModelForSequenceClassification if method == "reward" else AutoModelForCausalLM
    model = load.from_pretrained(folder, dtype=torch.float32, **({"num_labels": 1} if method == "reward" else {}))
    if method == "reward":
        model.score.load_state_dict(load_file(Path(folder) / SCORE_HEAD))
    settings = arguments(method, mode == "tuned", steps)
    if packing:
        settings |= {"packing": True, "max_length": 512, "per_device_train_batch_size": 3}
    rows = read_rows(Path(rows_file))
    if mode == "tuned" and method in ("sft", "reward", "dpo", "kto"):
        rows = like_lengths(rows, SHAPES[method].groups)
    start = time.perf_counter()
    trainer = BUILD[method](model, rows, settings, AutoTokenizer.from_pretrained(folder))
    hold = OneStepPerLine(answers)
    hold.watch(trainer)
    trainer.add_callback(hold)
    ready = {
        "side": f"trl-{mode}",
        "trl": trl.__version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "dtype": str(next(model.parameters()).dtype),
        "attention": model.config._attn_implementation,
        "threads": torch.get_num_threads(),
        "spin": os.environ.get("GOMP_SPINCOUNT"),
        "options": {k: v for k, v in settings.items() if k != "output_dir"},
        "preparation_seconds": time.perf_counter() - start,
        "idle": peak(),
    }
    answers.write(json.dumps(ready) + "\n")
    answers.flush()
    trainer.train()


if __name__ == "__main__":
    flags = [a for a in sys.argv[1:] if a.startswith("--")]
    plain = [a for a in sys.argv[1:] if not a.startswith("--")]
    main(*plain[:4], steps=int(plain[4]), packing="--packing" in flags)  # type: ignore[misc]
