"""What the tests on real rows share: the rows, a small start model that never saw them, folds by prompt, and figures with intervals.

The rows lie where POSTTRAIN_DATA says and stay there. Everything goes through the jobs that people use: New, Train, Check.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from posttrain.core.group import Group
from posttrain.data.read import read
from posttrain.data.split import prompt_key
from posttrain.jobs.catalogue import Train
from posttrain.jobs.job import Context
from posttrain.jobs.new_model import New
from posttrain.readingroom import tokenizer
from posttrain.rollout.policy import Policy
from posttrain.stats import Interval, cluster_bootstrap

DATA = Path(os.environ.get("POSTTRAIN_DATA") or "/nowhere")
HH = "hh-rlhf/harmless-base.test.jsonl"
ALPACA = "llamafactory-demo/alpaca_en_demo.jsonl"
GSM8K = "gsm8k/train.jsonl.gz"
SPELLED = (ALPACA, "llamafactory-demo/alpaca_zh_demo.jsonl", "llamafactory-demo/glaive_toolcall_en_demo.jsonl", GSM8K)
"""Files that the tokenizer learns from; none of the pairs is among them."""
FOLDS = 5
CONTEXT = 4096
"""Tokens; the longest dialogues of the pairs need about half of it."""


def quiet() -> Context:
    """A job that prints nothing to the screen."""
    return Context(Console(file=io.StringIO()), bars=False)


def groups_of(name: str, limit: int | None = None) -> list[Group]:
    """Groups of a file of the data directory."""
    return read(DATA / name, limit=limit).groups


@cache
def start_model(root: Path) -> str:
    """A random Llama of 2 layers and width 32 around a byte-level BPE of the rows at hand: the run's directory."""
    texts = [
        text
        for name in SPELLED
        for g in groups_of(name, 600)
        for text in (g.prompt_text, *(r.text for r in g.responses))
    ]
    made = tokenizer.train(texts, 2560)
    made.model_max_length = CONTEXT
    made.save_pretrained(root / "tokenizer")
    shape = {"hidden": 32, "layers": 2, "heads": 2, "kv_heads": 2, "ffn": 96, "context": CONTEXT}
    return str(New(tokenizer=str(root / "tokenizer"), out=str(root / "start"), **shape).run(quiet()).path)


def train(out: Path, **fields: Any) -> Policy:
    """Train through the job, and open what it wrote."""
    silent = {"samples": 0, "log_to": (), "threads": 1, "evaluate_every": 100_000}
    return Policy.open(Train(out=str(out), **{**silent, **fields}).run(quiet()).path)


@dataclass(frozen=True)
class Fold:
    """A file to train on and the pairs that are kept from it; no prompt is in both."""

    number: int
    data: str
    held_out: list[Group]


def folds(name: str, root: Path) -> list[Fold]:
    """The lines of a file in FOLDS parts by a hash of the prompt, each part once held out; written as they stand."""
    groups = groups_of(name)
    lines = (DATA / name).read_bytes().removesuffix(b"\n").split(b"\n")
    assert len(lines) == len(groups)
    at = [int(hashlib.sha256(f"fold:{prompt_key(g)}".encode()).hexdigest(), 16) % FOLDS for g in groups]
    out = []
    for k in range(FOLDS):
        file = root / f"without-{k}.jsonl"
        file.write_bytes(b"".join(line + b"\n" for line, part in zip(lines, at, strict=True) if part != k))
        out.append(Fold(k, str(file), [g for g, part in zip(groups, at, strict=True) if part == k]))
    return out


def share(right: Sequence[float], groups: Sequence[Group]) -> Interval:
    """Mean of one figure per group with a 95% interval over prompts."""
    return cluster_bootstrap(np.asarray(right, float), [prompt_key(g) for g in groups], reps=4000)


def half(gap: float) -> float:
    """1 when the preferred side leads, 0 when it trails, 0.5 for a tie."""
    return 0.5 + 0.5 * float(np.sign(gap))


def by_length(groups: Sequence[Group]) -> dict[str, Interval]:
    """How often the preferred answer is the longer one, and the shorter one, in characters."""
    gaps = [len(g.responses[p.i].text) - len(g.responses[p.j].text) for g in groups for p in g.preferences]
    return {
        "longer wins": share([half(gap) for gap in gaps], groups),
        "shorter wins": share([half(-gap) for gap in gaps], groups),
    }


def told(what: str, found: Interval) -> str:
    return f"{what:<24} {found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}] n={found.n}"
