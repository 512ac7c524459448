"""Study *demo*: is gold base < SFT < DPO over three seeds? `make study NAME=demo`.

Runs the demo recipe once per seed, keeps one raw row per (seed, stage, prompt), and writes the verdicts by the project's one definition of
*better* (`stats.better`). `python -m studies.demo --check` recomputes every interval from the committed rows and fails if any differs.
The reading room is a simulation.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from posttrain.core.files import read_lines, write_json, write_text
from posttrain.stats import better, cluster_bootstrap

HERE = Path(__file__).parent / "demo"
SEEDS = (0, 1, 2)
CLAIMS = (("sft", "base"), ("dpo", "sft"), ("dpo", "base"), ("best-of-8", "sft"))
COMMAND = "make study NAME=demo"


def run(seeds: tuple[int, ...]) -> None:
    """Run the demo per seed and keep the rows."""
    from posttrain.jobs.demo import Demo
    from posttrain.jobs.job import Context

    rows: list[dict[str, Any]] = []
    told: dict[str, Any] = {"command": COMMAND, "commit": commit(), "seeds": list(seeds), "runs": {}}
    for seed in seeds:
        began = time.time()
        out = Path("runs") / "study-demo" / f"seed-{seed}"
        Demo(out=str(out), seed=seed).run(Context(bars=False))
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        told["runs"][str(seed)] = {
            "seconds": round(time.time() - began),
            "reward_model": summary["reward_model"]["accuracy"],
            "kl": {s["name"]: s["kl"] for s in summary["stages"]},
        }
        told["world"], told["versions"] = summary["world"], summary["versions"]
        for stage in summary["stages"]:
            for place, row in enumerate(read_lines(stage["samples"])):
                golds = [answer["score"]["value"] for answer in row["responses"]]
                rows.append(
                    {
                        "seed": seed,
                        "stage": stage["name"],
                        "place": place,
                        "id": row["facts"]["id"],
                        "task": row["facts"]["task"],
                        "gold": round(float(np.mean(golds)), 6),
                        "golds": [round(g, 6) for g in golds],
                        "answer": row["responses"][0]["turns"][0]["content"],
                    }
                )
    write_text(HERE / "rows.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    write_json(HERE / "run.json", told)
    write_json(HERE / "result.json", result(rows))


def result(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Gold per stage and seed, and every claim. Prompts of different seeds are different worlds: paired inside a seed by place."""
    table: dict[tuple[int, str], np.ndarray] = {}
    for seed in sorted({r["seed"] for r in rows}):
        for stage in dict.fromkeys(r["stage"] for r in rows):
            mine = sorted((r for r in rows if r["seed"] == seed and r["stage"] == stage), key=lambda r: r["place"])
            table[seed, stage] = np.asarray([r["gold"] for r in mine])
    seeds = sorted({seed for seed, _ in table})
    gold = {
        stage: {
            "by_seed": {str(s): round(float(table[s, stage].mean()), 6) for s in seeds},
            "interval": list(_ends(np.mean([table[s, stage] for s in seeds], axis=0))),
        }
        for stage in dict.fromkeys(stage for _, stage in table)
    }
    claims = {}
    for a, b in CLAIMS:
        found = better({s: table[s, a] - table[s, b] for s in seeds})
        claims[f"{a} > {b}"] = {
            "separated": found.separated,
            "difference": round(found.interval.estimate, 6),
            "interval": [round(found.interval.low, 6), round(found.interval.high, 6)],
            "bound": round(found.bound, 6),
            "by_seed": {k: round(v, 6) for k, v in found.by_seed.items()},
            "prompts": found.prompts,
            "text": str(found),
        }
    return {"gold": gold, "claims": claims}


def _ends(values: np.ndarray) -> tuple[float, float]:
    found = cluster_bootstrap(values)
    return round(found.low, 6), round(found.high, 6)


def check() -> None:
    """Recompute from the committed rows. Raises SystemExit when a figure differs or a claim does not hold."""
    again = result(read_lines(HERE / "rows.jsonl"))
    told = json.loads((HERE / "result.json").read_text(encoding="utf-8"))
    if again != json.loads(json.dumps(told)):
        raise SystemExit("studies/demo: the committed result differs from what the committed rows give")
    for name, claim in again["claims"].items():
        print(f"{name}: {claim['text']}")


def commit() -> str:
    made = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return made.stdout.strip() or "unknown"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    given = parser.parse_args()
    if not given.check:
        run(tuple(given.seeds))
    check()
