"""Study *forgetting*: SFT on one task alone loses the others, a mixture does not. `make study NAME=forgetting`.

From one SFT model (all tasks), two runs of equal length go on: on `catalogue` demonstrations alone, and on the same number of rows of
which three quarters are of the other tasks. Gold per task on held-out prompts before and after; one raw row per (seed, stage, prompt).
`--check` recomputes every interval from the committed rows; `--cell` runs one seed small. The reading room is a simulation.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from posttrain.core.files import read_lines, write_json, write_text
from posttrain.stats import cluster_bootstrap

HERE = Path(__file__).parent / "forgetting"
COMMAND = "make study NAME=forgetting"
ONE = "catalogue"
STAGES = ("before", "alone", "mixed")


def rows_of(path: Path, n: int, seed: int, share: float, start: int) -> str:
    """A file of demonstrations: `share` of them of the one task, the rest of all tasks."""
    from posttrain.readingroom.room import ReadingRoom

    room = ReadingRoom(0)
    own = room.demonstrations(round(n * share), seed, 1.0, tasks=[ONE], start=start)
    rest = room.demonstrations(n - len(own), seed, 1.0, start=start + n)
    write_text(path, "".join(json.dumps(g.to_json(), ensure_ascii=False) + "\n" for g in [*own, *rest]))
    return str(path)


def run(seeds: tuple[int, ...], rows: int, prompts: int, first: int) -> list[dict[str, Any]]:
    """Train and measure per seed; returns the raw rows."""
    from posttrain.jobs.catalogue import Evaluate, Train
    from posttrain.jobs.job import Context
    from posttrain.readingroom.room import ReadingRoom

    quiet, out = Context(bars=False), []
    for seed in seeds:
        place = Path("runs") / "study-forgetting" / f"seed-{seed}-{rows}"
        asked = place / "asked.jsonl"
        held = ReadingRoom(0).prompts("held-out", prompts)
        write_text(asked, "".join(json.dumps(g.to_json(), ensure_ascii=False) + "\n" for g in held))
        optimizer = {"lr": 0.001, "schedule": "cosine", "warmup": 0.05}
        shared = {"method": "sft", "epochs": 1, "batch": 32, "optimizer": optimizer, "seed": seed, "log_to": ()}
        data = rows_of(place / "all.jsonl", first, seed, 0.0, 40_000)
        before = Train(model="base", data=data, out=str(place / "before"), **shared).run(quiet)
        models = {"before": str(before.path)}
        for name, share in (("alone", 1.0), ("mixed", 0.25)):
            data = rows_of(place / f"{name}.jsonl", rows, seed, share, 60_000)
            made = Train(model=models["before"], data=data, out=str(place / name), **shared).run(quiet)
            models[name] = str(made.path)
        for stage, model in models.items():
            job = Evaluate(model=model, data=str(asked), out=str(place / f"eval-{stage}"), max_tokens=160, logp=False)
            for row in job.run(quiet).rows:
                kept = {"seed": seed, "stage": stage, "id": row["id"], "task": row["facts"]["task"]}
                out.append(kept | {"gold": row["figures"]["gold"][0]})
    return out


def told(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Change of gold against `before`, on the one task and on the others, per stage: mean over seeds, interval over prompts."""
    gold = {(r["seed"], r["stage"], r["id"]): r["gold"] for r in rows}
    task = {r["id"]: r["task"] for r in rows}
    seeds = sorted({r["seed"] for r in rows})
    out: dict[str, Any] = {"seeds": seeds, "prompts": len(task)}
    for stage in STAGES[1:]:
        for where in (ONE, "others"):
            ids = sorted(i for i, t in task.items() if (t == ONE) == (where == ONE))
            change = np.asarray([[gold[s, stage, i] - gold[s, "before", i] for i in ids] for s in seeds])
            made = cluster_bootstrap(change.mean(0))
            out[f"{stage}/{where}"] = {
                "estimate": made.estimate, "low": made.low, "high": made.high, "n": made.n,
                "by_seed": dict(zip(map(str, seeds), change.mean(1).tolist())),
            }  # fmt: skip
    return out


def check() -> bool:
    """Do the committed rows give the committed figures?"""
    return told(read_lines(HERE / "rows.jsonl")) == json.loads((HERE / "result.json").read_text(encoding="utf-8"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument(
        "--cell", action="store_true", help="one seed, few rows; prints and writes nothing under studies/"
    )
    asked = parser.parse_args()
    if asked.check:
        return 0 if check() else 1
    if asked.cell:
        print(json.dumps(told(run((0,), rows=64, prompts=40, first=64)), indent=1))
        return 0
    rows = run((0, 1, 2), rows=1200, prompts=400, first=2000)
    write_text(HERE / "rows.jsonl", "".join(json.dumps(r) + "\n" for r in rows))
    write_json(HERE / "result.json", told(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
