"""Study *ai-feedback*: what do a model's own critiques and a judge's preferences gain over SFT? `make study NAME=ai-feedback`.

The two stages of Bai et al. 2022 (arXiv:2212.08073) on the embedded model, per seed one world of the reading room (a simulation): an SFT
model answers, criticises and revises its own answers, and is trained on the final ones (`revised`); four answers of that model to each
prompt are judged, and the judge's pairs train it with DPO (`two_stage`). `dpo_ai` is the second stage alone. The judge sees gold through
noise of known size and nothing else; gold itself only measures. One raw row per (seed, cell, held-out prompt), and one per revised
answer with its gold before and after. `--small` runs a toy of everything and writes no result. Leaves out an SFT set made by `synth` from
fifty rows, and distillation: those cells are not written yet.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posttrain.core.files import read_lines, write_json, write_text
from posttrain.core.group import Group, Preference, Score
from posttrain.stats import better, cluster_bootstrap
from studies.preferences import commit, said, write_groups

HERE = Path(__file__).parent / "ai_feedback"
SEEDS = (0, 1, 2)
COMMAND = "make study NAME=ai-feedback"
NOISE = 0.15
"""Standard deviation of what the judge adds to gold, which lies in [0, 1]."""
CLAIMS = [("dpo_ai", "sft"), ("revised", "sft"), ("two_stage", "sft"), ("two_stage", "revised")]
CELLS = ("sft", "revised", "dpo_ai", "two_stage")


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    demos: int = 4200
    asked: int = 1500
    revised: int = 600
    held_out: int = 320
    tokens: int = 160


SMALL = Scale(demos=96, asked=24, revised=8, held_out=8, tokens=24)


class Judge:
    """A Reward: gold with noise that hangs on the answer alone, so the same answer always gets the same mark."""

    def __init__(self, noise: float, seed: int) -> None:
        self.noise, self.seed = noise, seed

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        from posttrain.readingroom.gold import GoldReward

        return [
            [Score((s.value or 0.0) + random.Random(f"{self.seed}:{g.id}:{r.text}").gauss(0, self.noise))
             for s, r in zip(scores, g.responses, strict=True)]
            for g, scores in zip(groups, GoldReward()(groups), strict=True)
        ]  # fmt: skip


def judged(groups: Sequence[Group], judge: Judge) -> list[Group]:
    """One pair a prompt: what the judge likes best over what it likes least; prompts whose answers are all alike have none."""
    out = []
    for g, scores in zip(groups, judge(groups), strict=True):
        order = sorted(range(len(scores)), key=lambda i: -(scores[i].value or 0.0))
        best, worst = g.responses[order[0]], g.responses[order[-1]]
        if best.text != worst.text:
            out.append(g.with_responses([best, worst], preferences=(Preference(0, 1),)))
    return out


def groups_of(path: Path) -> list[Group]:
    return [Group.from_json(row) for row in read_lines(path)]


def train(method: Any, model: str, data: str, lr: float, batch: int = 16) -> dict[str, Any]:
    rate = {"lr": lr, "schedule": "cosine"}
    return {
        "method": method,
        "model": model,
        "data": data,
        "batch": batch,
        "epochs": 1,
        "samples": 0,
        "optimizer": rate,
    }


def run_seed(seed: int, out: Path, scale: Scale) -> list[dict[str, Any]]:
    """All cells of a seed: raw rows."""
    from posttrain.core.protocols import Sampling
    from posttrain.jobs.job import Context
    from posttrain.jobs.pipeline import build
    from posttrain.rollout.policy import Policy
    from posttrain.synth import Refiner

    at, judge, context = str(out), Judge(NOISE, seed), Context(bars=False)
    dpo = {"name": "dpo", "beta": 0.1, "nll": 1.0}

    def do(**jobs: Any) -> None:
        build({"out": at, "seed": seed, "jobs": jobs}).run(context)

    do(
        demos={"job": "room-prompts", "n": scale.demos, "answers": True, "quality": 0.5},
        asked={"job": "room-prompts", "n": scale.asked, "start": 20000},
        held_out={"job": "room-prompts", "n": scale.held_out, "split": "held-out"},
        sft=train("sft", "base", "$demos", 2e-3, 32),
        answers=said("$sft", "$asked", scale),  # type: ignore[arg-type]
    )
    first = groups_of(out / "answers.jsonl")
    model = Policy.open(str(out / "sft" / "model"))
    sampling = Sampling(temperature=0.7, max_tokens=scale.tokens)
    made = Refiner(model, judge, sampling=sampling, seed=seed).refine(first[: scale.revised])
    finals = write_groups(out / "finals.jsonl", [m.sft for m in made])
    pairs = write_groups(out / "pairs.jsonl", judged(first, judge))
    do(
        revised=train("sft", f"{at}/sft", finals, 2e-4),
        dpo_ai=train(dpo, f"{at}/sft", pairs, 2e-4),
        again=said("$revised", f"{at}/asked.jsonl", scale),  # type: ignore[arg-type]
    )
    second = write_groups(out / "second.jsonl", judged(groups_of(out / "again.jsonl"), judge))
    do(two_stage=train(dpo, f"{at}/revised", second, 2e-4))
    do(**{f"said_{c}": said(f"{at}/{c}", f"{at}/held_out.jsonl", scale) for c in CELLS})  # type: ignore[arg-type]
    return [*gold_rows(seed, out), *refined_rows(seed, made, judge)]


def gold_rows(seed: int, out: Path) -> list[dict[str, Any]]:
    """Gold of every cell's answers to the held-out prompts."""
    from posttrain.readingroom.gold import GoldReward

    rows = []
    for cell in CELLS:
        answered = groups_of(out / f"said_{cell}.jsonl")
        for place, (g, scores) in enumerate(zip(answered, GoldReward()(answered), strict=True)):
            gold = float(np.mean([s.value for s in scores]))
            rows.append({"seed": seed, "cell": cell, "place": place, "id": g.id, "gold": round(gold, 6)})
    return rows


def refined_rows(seed: int, made: Sequence[Any], judge: Judge) -> list[dict[str, Any]]:
    """Gold and the judge's mark of each answer before and after its critique. The end is never below the start by the judge's mark."""
    from posttrain.core.group import answer
    from posttrain.readingroom.gold import GoldReward

    rows = []
    for place, m in enumerate(made):
        both = m.group.with_responses([answer(m.start), answer(m.best)])
        (gold,), (mark,) = GoldReward()([both]), judge([both])
        assert (mark[1].value or 0.0) >= (mark[0].value or 0.0), "a revision ended below its start"
        told = {"before": gold[0].value, "after": gold[1].value, "rounds": len(m.rounds), "end": m.reason}
        rows.append({"seed": seed, "cell": "critique", "place": place, "id": m.group.id, **told})
    return rows


def result(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Gold by cell, every claim, and what the critique did to the answers it was given."""
    seeds = sorted({r["seed"] for r in rows})

    def column(seed: int, cell: str, name: str = "gold") -> np.ndarray:
        mine = sorted((r for r in rows if (r["seed"], r["cell"]) == (seed, cell)), key=lambda r: r["place"])
        return np.asarray([r[name] for r in mine], dtype=float)

    gold = {}
    for cell in CELLS:
        ends = cluster_bootstrap(np.mean([column(s, cell) for s in seeds], axis=0))
        gold[cell] = {"mean": round(ends.estimate, 6), "interval": [round(ends.low, 6), round(ends.high, 6)]}
    pairs = {f"{a} > {b}": better({s: column(s, a) - column(s, b) for s in seeds}) for a, b in CLAIMS}
    pairs["critique: after > before"] = better(
        {s: column(s, "critique", "after") - column(s, "critique", "before") for s in seeds}
    )
    claims = {name: {"separated": c.separated, "bound": round(c.bound, 6), "text": str(c)} for name, c in pairs.items()}
    return {"gold": gold, "claims": claims, "noise": NOISE}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="recompute the committed figures from the committed rows")
    parser.add_argument("--small", action="store_true", help="a toy of one seed; writes no result")
    given = parser.parse_args()
    if given.small:
        rows = run_seed(0, Path("runs") / "study-ai-feedback-small", SMALL)
        print(json.dumps({"rows": len(rows), "cells": sorted({r["cell"] for r in rows})}))
        return
    if given.check:
        again = json.loads(json.dumps(result(read_lines(HERE / "rows.jsonl"))))
        if again != json.loads((HERE / "result.json").read_text(encoding="utf-8")):
            raise SystemExit("studies/ai_feedback: the committed result differs from what the committed rows give")
        return
    began = time.time()
    rows = [
        row for seed in SEEDS for row in run_seed(seed, Path("runs") / "study-ai-feedback" / f"seed-{seed}", Scale())
    ]
    write_text(HERE / "rows.jsonl", "".join(json.dumps(r) + "\n" for r in rows))
    write_json(HERE / "run.json", {"command": COMMAND, "commit": commit(), "seconds": round(time.time() - began)})
    write_json(HERE / "result.json", result(rows))


if __name__ == "__main__":
    main()
