"""Study *unimarc*: does a rule reward make a cataloguing model truer? `make study NAME=unimarc`.

Three seeds of the reading room. The shipped base is fine-tuned on demonstrations of the cataloguing task (six in ten of them right), then
GRPO draws five notices per description, as in the lesson, and learns from `rewards.unimarc` alone. Measured on held-out descriptions:
is a notice valid and faithful (no error at L0 to L2, nothing invented, F at least .9)? The claim is about answers at temperature 0.7, as
the demo gives them and as GRPO draws them; greedy ones are kept beside them. Boilerplate notices are scored on the same prompts. The number
of demonstrations, the rate, the steps and the temperature of the draws were chosen on seed 100; seed 0 had been seen before (docs/lab.md).
`python -m studies.unimarc --check` recomputes every interval from the committed rows. The reading room is a simulation.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posttrain.core.files import read_lines, write_json, write_text
from posttrain.core.group import Group, Score
from posttrain.stats import better, cluster_bootstrap
from studies.demo import commit

HERE = Path(__file__).parent / "unimarc"
SEEDS = (0, 1, 2)
COMMAND = "make study NAME=unimarc"
DECODING = {"usual": 0.7, "greedy": 0.0}
"""Temperatures. The claim is about `usual`, at which the demo answers too."""
STAGES = ("sft", "grpo")
LONGEST = 160
SFT: dict[str, Any] = {"demonstrations": 500, "lr": 0.002}
GRPO: dict[str, Any] = {"lr": 2e-4, "beta": 0.02, "temperature": 0.7, "batch": 16, "n": 5}
BOILERPLATE = """LDR #####nam##22########45##
001 1000
100 ##$a20260105d1802####k##y0frey50######ba
101 0#$afre
102 ##$aFR
200 1#$aTitre du livre$fAuteur
210 ##$aParis$cÉditeur$d1802
215 ##$a8 p.$d9 cm
700 #1$aAuteur$bPrénom$4070
801 #0$aFR$bRR"""
"""A notice that says nothing true of any book here but its language and that it has an author, and breaks no rule of form."""


def catalogued(groups: Sequence[Group]) -> list[Group]:
    """The groups with the fact that the reward reads: the gold notice."""
    from dataclasses import replace

    return [replace(g, facts={**g.facts, "unimarc_gold": g.facts["gold"]["answer"]}) for g in groups]


def written(path: Path, groups: Sequence[Group]) -> str:
    write_text(path, "".join(json.dumps(g.to_json(), ensure_ascii=False) + "\n" for g in catalogued(groups)))
    return str(path)


def asked(seed: int, prompts: int) -> list[Group]:
    """Held-out descriptions of a seed."""
    from posttrain.readingroom import ReadingRoom

    return catalogued(ReadingRoom(seed).prompts("held-out", prompts, ["catalogue"]))


def train(seed: int, out: Path, steps: int, demonstrations: int) -> dict[str, Path]:
    """The two runs of a seed; finished ones are reused."""
    from posttrain.jobs.catalogue import build_job
    from posttrain.jobs.job import Context
    from posttrain.readingroom import ReadingRoom

    room, task = ReadingRoom(seed), ["catalogue"]
    demos = written(out / "demos.jsonl", room.demonstrations(demonstrations, seed, 0.6, tasks=task))
    prompts = written(out / "asked.jsonl", room.prompts("train", 16 * max(steps, 1), task, start=20_000))
    plain = {"seed": seed, "log_to": [], "samples": 0}
    sft = {
        **plain,
        "method": "sft",
        "model": "base",
        "data": demos,
        "batch": 32,
        "optimizer": {"lr": SFT["lr"], "schedule": "cosine", "warmup": 0.05},
        "out": str(out / "sft"),
    }
    grpo = {
        **plain,
        "method": {"name": "grpo", "beta": GRPO["beta"], "temperature": GRPO["temperature"]},
        "model": str(out / "sft"),
        "data": prompts,
        "reward": "unimarc",
        "rollout": {"n": GRPO["n"], "max_new_tokens": LONGEST},
        "batch": GRPO["batch"],
        "steps": steps,
        "optimizer": {"lr": GRPO["lr"], "schedule": "linear"},
        "out": str(out / "grpo"),
    }
    for fields in (sft, grpo):
        build_job(fields).run(Context(bars=False))
    return {"sft": out / "sft", "grpo": out / "grpo"}


def measured(seed: int, stage: str, model: Path, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Both kinds of answers of a stage to held-out descriptions, with what rules say of them."""
    from posttrain.core.protocols import Request, Sampling
    from posttrain.rewards.unimarc import UnimarcReward, measure
    from posttrain.rollout.policy import Policy

    policy, reward, rows = Policy.open(model), UnimarcReward(), []
    for decoding, temperature in DECODING.items():
        drawn = Sampling(temperature=temperature, max_tokens=LONGEST)
        made = policy.generate([Request(g.prompt, drawn, seed=7, id=g.id, facts=g.facts) for g in groups])
        for place, (g, m) in enumerate(zip(groups, made, strict=True)):
            text = m.responses[0].text
            told = measure(text, g.facts["unimarc_gold"], g.facts["source"], reward)
            kept = {k: round(told[k], 6) for k in ("faithful", "valid", "invented", "f1", "reward", "exact_record")}
            row = {"seed": seed, "stage": stage, "decoding": decoding, "place": place, "id": g.id, **kept}
            rows.append(row | {"length": len(text)} | ({"answer": text} if decoding == "usual" else {}))
    return rows


def paid(text: str, group: Group) -> Score:
    """The reward of a notice under a description."""
    from posttrain.rewards.unimarc import UnimarcReward

    return UnimarcReward().of(text, group.facts["unimarc_gold"], group.facts["source"])


def boilerplate(groups: Sequence[Group]) -> list[float]:
    """What the reward gives to one and the same empty notice under each description."""
    return [round(float(paid(BOILERPLATE, g).value or 0.0), 6) for g in groups]


def run(seeds: Sequence[int], steps: int, prompts: int, demonstrations: int, here: Path) -> None:
    """Every seed; rows are written as they come."""
    rows: list[dict[str, Any]] = []
    told: dict[str, Any] = {"command": COMMAND, "commit": commit(), "seeds": list(seeds), "steps": steps, "runs": {}}
    told |= {"sft": SFT | {"demonstrations": demonstrations}, "grpo": GRPO, "boilerplate": {}}
    for seed in seeds:
        out, groups = Path("runs") / "study-unimarc" / f"seed-{seed}", asked(seed, prompts)
        began = time.time()
        for stage, model in train(seed, out, steps, demonstrations).items():
            rows += measured(seed, stage, model, groups)
            told["runs"][f"{seed}/{stage}"] = curve(model)
            last = [r for r in rows if (r["seed"], r["stage"]) == (seed, stage)]
            for decoding in DECODING:
                rate = np.mean([r["faithful"] for r in last if r["decoding"] == decoding])
                print(f"seed {seed} {stage} {decoding}: valid and faithful {rate:.3f}", flush=True)
        told["boilerplate"][str(seed)] = boilerplate(groups)
        told["runs"][f"{seed}/sft"]["study_seconds"] = round(time.time() - began)
        write_text(here / "rows.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
        write_json(here / "run.json", told)
    if len(seeds) >= 3 and prompts >= 300:
        write_json(here / "result.json", result(rows, told))


def curve(run_dir: Path) -> dict[str, Any]:
    """What a run's log says, step by step, and its seconds."""
    names = ("reward", "kl_sequence", "length", "entropy", "loss", "flat_groups")
    rows = read_lines(run_dir / "metrics.jsonl")
    seconds = json.loads((run_dir / "manifest.json").read_text(encoding="utf-8")).get("seconds")
    return {"seconds": seconds} | {n: [round(r[n], 5) for r in rows if n in r] for n in names}


def result(rows: Sequence[dict[str, Any]], told: dict[str, Any]) -> dict[str, Any]:
    """Per decoding: rates with intervals, the paired gain over three seeds; and what boilerplate earns."""
    seeds = sorted({r["seed"] for r in rows})

    def figure(seed: int, stage: str, decoding: str, name: str) -> np.ndarray:
        mine = [r for r in rows if (r["seed"], r["stage"], r["decoding"]) == (seed, stage, decoding)]
        return np.asarray([r[name] for r in sorted(mine, key=lambda r: r["place"])], dtype=float)

    out: dict[str, Any] = {}
    for decoding in DECODING:
        table = {}
        for stage in STAGES:
            rate = cluster_bootstrap(np.mean([figure(s, stage, decoding, "faithful") for s in seeds], axis=0))
            table[stage] = {
                "faithful": [round(x, 6) for x in (rate.estimate, rate.low, rate.high)],
                "by_seed": {str(s): round(float(figure(s, stage, decoding, "faithful").mean()), 6) for s in seeds},
                **{
                    n: round(float(np.mean([figure(s, stage, decoding, n).mean() for s in seeds])), 6)
                    for n in ("valid", "invented", "f1", "reward", "exact_record", "length")
                },
            }
        gain = better(
            {s: figure(s, "grpo", decoding, "faithful") - figure(s, "sft", decoding, "faithful") for s in seeds}
        )
        out[decoding] = {
            "stages": table,
            "gain": round(gain.interval.estimate, 6),
            "interval": [round(gain.interval.low, 6), round(gain.interval.high, 6)],
            "separated": gain.separated,
            "text": str(gain),
        }
    guessed = [v for values in told["boilerplate"].values() for v in values]
    out["boilerplate"] = {"mean": round(float(np.mean(guessed)), 6), "highest": max(guessed), "n": len(guessed)}
    return out


def check() -> None:
    """Recompute from the committed rows. Raises SystemExit when a figure differs."""
    told = json.loads((HERE / "run.json").read_text(encoding="utf-8"))
    again = result(read_lines(HERE / "rows.jsonl"), told)
    if again != json.loads((HERE / "result.json").read_text(encoding="utf-8")):
        raise SystemExit("studies/unimarc: the committed result differs from what the committed rows give")
    for decoding in DECODING:
        found = again[decoding]
        rates = {k: v["faithful"][0] for k, v in found["stages"].items()}
        print(f"{decoding}: valid and faithful {rates['sft']:.3f} -> {rates['grpo']:.3f}; {found['text']}")
    print(
        f"boilerplate notices: mean {again['boilerplate']['mean']:.3f}, highest {again['boilerplate']['highest']:.3f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--demonstrations", type=int, default=SFT["demonstrations"])
    parser.add_argument("--here", type=Path, default=HERE, help="where rows go; tuning writes elsewhere")
    given = parser.parse_args()
    if not given.check:
        run(given.seeds, given.steps, given.prompts, given.demonstrations, given.here)
    if given.check or given.here == HERE:
        check()
