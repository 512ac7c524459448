"""Run directories and summaries made up for the tests: realistic in shape, every value from a seed."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from posttrain.stats import t_interval, wilson

QUESTIONS = (
    (
        "Name three animals that live in the sea.",
        "Animals sea live. The the dog",
        "Whales, dolphins and octopuses live in the sea.",
    ),
    ("Add 17 and 25.", "The sum of 17 and 25 is 41.", "The sum of 17 and 25 is 42."),
    (
        "Rewrite politely: give me the report now.",
        "give me the report now please now",
        "Could you please send me the report when you have a moment?",
    ),
    ("Is the sky green?", "Yes, the sky is green, as you say.", "No. On a clear day the sky is blue."),
    (
        "Summarise: Mina planted beans in April. In July she picked two baskets and gave one to her neighbour.",
        "Mina planted beans in April.",
        "Mina planted beans in April and, in July, picked two baskets and gave one to her neighbour.",
    ),
    ("Write a line of Python that reverses the list x.", "x.reverse", "x = x[::-1]"),
)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def manifest() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    words = [
        "the",
        "a",
        "is",
        "of",
        "and",
        "to",
        "you",
        "answer",
        "please",
        "however",
        "certainly",
        "no",
        "yes",
        "because",
        "step",
        "first",
        "list",
        "sea",
        "blue",
        "sum",
        "sorry",
        "cannot",
    ]
    base = rng.integers(50, 900, len(words))
    moved = np.maximum(0, (base * np.exp(rng.normal(0, 0.5, len(words)))).astype(int))
    counts = [dict(zip([f" {w}" for w in words], map(int, c))) for c in (base, moved)]
    counts[1]["\n"] = 420
    counts[0]["\n"] = 260
    return {
        "name": "dpo-reading-room",
        "method": "dpo",
        "created": "2026-03-14 09:26",
        "seconds": 412.6,
        "seeds": {"run": 17, "data": 17, "sampling": 1017},
        "versions": {
            "posttrain": "0.1.0",
            "python": "3.12.4",
            "torch": "2.13.0",
            "transformers": "5.23.0",
            "numpy": "2.4.6",
        },
        "inputs": [
            {"name": "policy", "path": "runs/sft/model", "hash": digest("policy")},
            {"name": "pairs", "path": "data/pairs.jsonl", "hash": digest("pairs"), "rows": 2000},
        ],
        "outputs": [{"name": "model", "path": "runs/dpo/model", "hash": digest("model")}],
        "lineage": [
            {"name": "base", "path": "models/base", "hash": digest("base"), "stage": "pretraining"},
            {"name": "sft", "path": "runs/sft", "hash": digest("sft"), "stage": "sft"},
        ],
        "data": {
            "rows": 2000,
            "kept": 1893,
            "dropped": {"duplicate": 61, "tie": 34, "empty answer": 12},
            "truncated": 7,
            "shape": "pairs",
        },
        "parameters": {"total": 6_291_456, "trained": 6_291_456},
        "threads": 2,
        "device": "cpu",
        "notes": ["7 answers were longer than 256 tokens and were cut; they are marked in the rows."],
        "token_counts": {"before": counts[0], "after": counts[1]},
    }


def metrics(steps: int = 600, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    for step in range(1, steps + 1):
        done = step / steps
        margin = 1.8 * (1 - math.exp(-3 * done))
        row = {
            "step": step,
            "loss": 0.25 + 0.443 * math.exp(-3.2 * done) + 0.05 * rng.normal() * (0.4 + math.exp(-2 * done)),
            "margin": margin + 0.3 * rng.normal(),
            "accuracy": min(1.0, max(0.0, 0.5 + 0.3 * (1 - math.exp(-4 * done)) + 0.08 * rng.normal())),
            "reward_chosen": 0.4 * margin + 0.12 * rng.normal(),
            "reward_rejected": -0.6 * margin + 0.14 * rng.normal(),
            "kl": 0.02 + 1.4 * done**1.4 + 0.05 * abs(rng.normal()),
            "grad_norm": 1.2 * math.exp(-done) + 0.2 * abs(rng.normal()),
            "lr": 5e-5 * min(1.0, step / (0.1 * steps)) * (0.5 + 0.5 * math.cos(math.pi * done)),
            "tokens": 4096 * step,
        }
        if step % (steps // 12) == 0 or step == 1:
            row["eval_loss"] = 0.3 + 0.39 * math.exp(-3.0 * done) + 0.008 * rng.normal()
        rows.append(row)
    return rows


def samples(repeat: int = 4) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    rows = []
    for i in range(repeat * len(QUESTIONS)):
        prompt, before, after = QUESTIONS[i % len(QUESTIONS)]
        low, high = sorted(rng.random(2).round(2).tolist())
        rows.append(
            {
                "id": f"q{i:03d}",
                "prompt": prompt,
                "before": before,
                "after": after,
                "score_before": high if i % 7 == 3 else low,
                "score_after": low if i % 7 == 3 else high,
                "task": ("recall", "sum", "polite", "truth", "summary", "code")[i % 6],
            }
        )
    return rows


def run_directory(path: Path, steps: int = 600) -> Path:
    """A complete run directory."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "recipe.yaml").write_text("job: train\nmethod:\n  name: dpo\n  beta: 0.1\nsteps: 600\nseed: 17\n")
    (path / "manifest.json").write_text(json.dumps(manifest()))
    (path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in metrics(steps)))
    (path / "samples.jsonl").write_text("".join(json.dumps(r) + "\n" for r in samples()))
    findings = [
        {
            "id": "D4",
            "severity": "warning",
            "message": "61 prompts appear twice",
            "fix": "Set data.dedup: exact.",
            "row": "q012",
        },
        {
            "id": "T1",
            "severity": "info",
            "message": "The template marks assistant turns.",
            "fix": "Nothing to do.",
            "row": None,
        },
    ]
    (path / "check.json").write_text(json.dumps(findings))
    return path


def summary() -> dict[str, Any]:
    """A pipeline of six stages."""
    rng = np.random.default_rng(2)
    truth = {
        "base": (0.21, 0.0),
        "sft": (0.48, 0.61),
        "dpo": (0.66, 1.42),
        "kto": (0.61, 1.1),
        "grpo": (0.74, 2.3),
        "best of 16": (0.69, 1.84),
    }
    gaps = (("under 0.1", 0.56), ("0.1 to 0.3", 0.71), ("0.3 to 0.6", 0.86), ("over 0.6", 0.96))
    stages: list[dict[str, Any]] = []
    for name, (gold, kl) in truth.items():
        stages.append(
            {
                "name": name,
                "method": {"base": "pretraining", "best of 16": "rejection sampling"}.get(name, name),
                "seconds": float(rng.integers(20, 200)),
                "gold": t_interval(rng.normal(gold, 0.3, 400)),
                "kl": kl,
                "report": f"{name.replace(' ', '-')}/report.html",
            }
        )
    stages.insert(
        2,
        {
            "name": "reward model",
            "method": "Bradley-Terry",
            "seconds": 64.0,
            "rm_accuracy": [{"gap": g, "accuracy": wilson(int((rng.random(200) < p).sum()), 200)} for g, p in gaps],
        },
    )
    tasks = ("recall", "sum", "polite", "truth", "summary", "code")
    return {
        "title": "Reading room: from base to aligned",
        "created": "2026-03-14 10:02",
        "seeds": {"demo": 17},
        "versions": {"posttrain": "0.1.0", "torch": "2.13.0"},
        "stages": stages,
        "winners": [
            {
                "a": "dpo",
                "b": "sft",
                "difference": t_interval(rng.normal(0.18, 0.4, 400)),
                "separated": True,
                "seeds": {"17": 0.18},
            },
            {
                "a": "grpo",
                "b": "dpo",
                "difference": t_interval(rng.normal(0.08, 0.4, 400)),
                "separated": True,
                "seeds": {"17": 0.09, "18": 0.07, "19": 0.08},
            },
            {
                "a": "kto",
                "b": "dpo",
                "difference": t_interval(rng.normal(-0.03, 0.4, 400)),
                "separated": False,
                "seeds": {"17": -0.05},
            },
        ],
        "tasks": {
            t: {n: t_interval(rng.normal(g + rng.normal(0, 0.08), 0.25, 70)) for n, (g, _) in truth.items()}
            for t in tasks
        },
        "samples": [
            {
                "id": f"s{i}",
                "prompt": p,
                "task": tasks[i],
                "answers": {"base": b, "sft": b if i % 2 else a, "dpo": a, "grpo": a},
                "scores": {"base": 0.2, "sft": 0.5, "dpo": 0.8, "grpo": 0.85},
            }
            for i, (p, b, a) in enumerate(QUESTIONS)
        ],
        "lineage": [{"name": n, "path": f"runs/{n}/model", "hash": digest(n)} for n in truth],
    }
