"""Study *online*: do PPO, GRPO, RLOO, rejection sampling and online DPO beat SFT on held-out gold? `make study NAME=online`.

Three seeds of the reading room. Every method starts from the demo's SFT model and learns from the scores of its reward model on prompts of
the training split; gold is read at the end, on held-out prompts, to measure alone. Two more runs per seed hold adaptive KL to a target from
ten times and a tenth of the right coefficient. Raw rows per (seed, method, prompt) are kept; `python -m studies.online --check` recomputes
every verdict from them. The reading room is a simulation.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from posttrain.core.files import read_lines, write_json, write_text
from posttrain.stats import better
from studies.demo import commit

HERE = Path(__file__).parent / "online"
SEEDS = (0, 1, 2)
COMMAND = "make study NAME=online"
TARGET = 2.0
ROLLOUT = {"n": 8, "max_new_tokens": 160}
METHODS: dict[str, dict[str, Any]] = {
    "grpo": {"method": {"name": "grpo", "beta": 0.02}, "optimizer": {"lr": 5e-4}},
    "rloo": {"method": {"name": "rloo", "beta": 0.02}, "optimizer": {"lr": 5e-4}},
    "ppo": {"method": {"name": "ppo", "beta": 0.05, "passes": 2}, "optimizer": {"lr": 2e-4}, "rollout": {"n": 4}},
    "rejection": {"method": "sft", "optimizer": {"lr": 5e-4}, "rollout": {"select": "best"}},
    "online_dpo": {"method": {"name": "dpo", "beta": 0.1}, "optimizer": {"lr": 2e-4}, "rollout": {"select": "pairs"}},
}
KL_CELLS = {"kl_high": 0.5, "kl_low": 0.005}
"""Starts of the coefficient at ten times and a tenth of about the right one."""


def train(seed: int, name: str, node: dict[str, Any], steps: int, demo: Path, out: Path) -> Path:
    """One run of at most `steps` steps from the demo of a seed; its directory."""
    from posttrain.jobs.catalogue import build_job
    from posttrain.jobs.job import Context

    fields = {
        "model": str(demo / "sft"),
        "data": str(demo / "asked.jsonl"),
        "reward": {"name": "model", "path": str(demo / "reward")},
        "batch": 16,
        "steps": steps,
        "seed": seed,
        "log_to": [],
        "samples": 0,
        "accept": ["R5"],
        **node,
        "rollout": {**ROLLOUT, **node.get("rollout", {})},
        "out": str(out / name),
    }
    build_job(fields).run(Context(bars=False))
    return out / name


def gold_rows(seed: int, name: str, model: Path, demo: Path, prompts: int) -> list[dict[str, Any]]:
    """Greedy answers to held-out prompts, and what the gold reward says of them."""
    from posttrain.core.group import Group
    from posttrain.core.protocols import Request, Sampling
    from posttrain.readingroom.gold import GoldReward
    from posttrain.rollout.policy import Policy

    asked = [Group.from_json(r) for r in read_lines(demo / "held_out.jsonl")][:prompts]
    plain = Sampling(temperature=0.0, max_tokens=160)
    made = Policy.open(model).generate([Request(g.prompt, plain, id=g.id, facts=g.facts) for g in asked])
    scores = GoldReward()(made)
    return [
        {
            "seed": seed,
            "method": name,
            "place": i,
            "id": g.id,
            "gold": s[0].value,
            "length": len(g.responses[0].text),
            "answer": g.responses[0].text,
        }
        for i, (g, s) in enumerate(zip(made, scores, strict=True))
    ]


def run(seeds: tuple[int, ...], steps: int, kl_steps: int, prompts: int) -> None:
    """Every cell of every seed; rows, curves and verdicts are written as they come."""
    from posttrain.jobs.demo import Demo
    from posttrain.jobs.job import Context

    rows: list[dict[str, Any]] = []
    told: dict[str, Any] = {"command": COMMAND, "commit": commit(), "seeds": list(seeds), "steps": steps, "runs": {}}
    for seed in seeds:
        demo = Path("runs") / "study-demo" / f"seed-{seed}"
        if not (demo / "reward" / "manifest.json").is_file():
            Demo(out=str(demo), seed=seed).run(Context(bars=False))
        out = Path("runs") / "study-online" / f"seed-{seed}"
        rows += gold_rows(seed, "sft", demo / "sft", demo, prompts)
        for name, node in METHODS.items():
            began = time.time()
            made = train(seed, name, node, steps, demo, out)
            rows += gold_rows(seed, name, made, demo, prompts)
            told["runs"][f"{seed}/{name}"] = curve(made, time.time() - began)
        for name, beta in KL_CELLS.items():
            ppo = {"name": "ppo", "beta": beta, "passes": 2, "control": {"name": "adaptive", "target": TARGET}}
            node = {"method": ppo, "optimizer": {"lr": 2e-4}, "rollout": {"n": 2, "max_new_tokens": 64}}
            began = time.time()
            made = train(seed, name, node, kl_steps, demo, out)
            told["runs"][f"{seed}/{name}"] = curve(made, time.time() - began)
        write_text(HERE / "rows.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
        write_json(HERE / "run.json", told)
    write_json(HERE / "result.json", result(rows, told))


def curve(run_dir: Path, seconds: float) -> dict[str, Any]:
    """What a run's log says, step by step."""
    names = ("reward", "kl_sequence", "length", "entropy", "beta", "explained_variance")
    rows = read_lines(run_dir / "metrics.jsonl")
    return {"seconds": round(seconds)} | {n: [round(r[n], 5) for r in rows if n in r] for n in names}


def result(rows: list[dict[str, Any]], told: dict[str, Any]) -> dict[str, Any]:
    """Gold per method and seed, each method against SFT, and how near adaptive KL came to its target."""
    seeds, methods = sorted({r["seed"] for r in rows}), list(dict.fromkeys(r["method"] for r in rows))

    def gold(seed: int, method: str) -> np.ndarray:
        mine = [r for r in rows if (r["seed"], r["method"]) == (seed, method)]
        return np.asarray([r["gold"] for r in sorted(mine, key=lambda r: r["place"])])

    claims = {}
    for method in methods[1:]:
        found = better({s: gold(s, method) - gold(s, "sft") for s in seeds})
        claims[f"{method} > sft"] = {
            "separated": found.separated,
            "difference": round(found.interval.estimate, 6),
            "by_seed": {k: round(v, 6) for k, v in found.by_seed.items()},
            "text": str(found),
        }
    second = {
        name: {
            "second_half": round(float(np.mean(r["kl_sequence"][len(r["kl_sequence"]) // 2 :])), 4),
            "target": TARGET,
        }
        for name, r in told["runs"].items()
        if name.partition("/")[2] in KL_CELLS
    }
    table = {m: {str(s): round(float(gold(s, m).mean()), 6) for s in seeds} for m in methods}
    return {"gold": table, "claims": claims, "adaptive_kl": second}


def check() -> None:
    """Recompute from the committed rows. Raises SystemExit when a figure differs."""
    told = json.loads((HERE / "run.json").read_text(encoding="utf-8"))
    again = result(read_lines(HERE / "rows.jsonl"), told)
    if again != json.loads((HERE / "result.json").read_text(encoding="utf-8")):
        raise SystemExit("studies/online: the committed result differs from what the committed rows give")
    for name, claim in again["claims"].items():
        print(f"{name}: {claim['text']}")
    for name, kl in again["adaptive_kl"].items():
        print(f"{name}: KL {kl['second_half']:.2f} nats an answer in the second half, target {kl['target']:g}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--kl-steps", type=int, default=160)
    parser.add_argument("--prompts", type=int, default=300)
    given = parser.parse_args()
    if not given.check:
        run(tuple(given.seeds), given.steps, given.kl_steps, given.prompts)
    check()
