"""Study *forgetting*: SFT on one task alone loses the others, a mixture does not. `make study NAME=forgetting`.

An SFT model of all tasks but `catalogue` goes on to learn it, in two runs of equal length: from demonstrations of that task alone, and from
as many rows of which half are of the tasks learned before. Gold on held-out prompts before and after; one raw row per (seed, stage,
prompt), written a seed at a time, so that a cut study goes on. `--check` recomputes every figure from the committed rows; `--cell` runs
one small seed and writes nothing here. The reading room is a simulation.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posttrain.core.files import read_lines, write_json, write_text
from posttrain.core.group import Group
from posttrain.stats import Interval, better, cluster_bootstrap, non_inferior

HERE = Path(__file__).parent / "forgetting"
COMMAND = "make study NAME=forgetting"
ONE = "catalogue"
SEEDS = (0, 1, 2)
MARGIN = 0.03
"""Loss of gold that would still count as none."""
CLAIMS = (
    ("before", "alone", "others", "SFT on one task alone loses the others"),
    ("mixed", "alone", "others", "the mixture keeps more of the others"),
    ("alone", "before", ONE, "SFT on one task alone gains on it"),
    ("mixed", "before", ONE, "the mixture gains on it too"),
)


def written(path: Path, groups: Sequence[Group]) -> str:
    write_text(path, "".join(json.dumps(g.to_json(), ensure_ascii=False) + "\n" for g in groups))
    return str(path)


def demonstrations(n: int, seed: int, share: float, start: int) -> list[Group]:
    """n clean demonstrations: `share` of them of the one task, the rest of the others."""
    from posttrain.readingroom.room import ReadingRoom
    from posttrain.readingroom.tasks import TASKS

    room = ReadingRoom(0)
    own = room.demonstrations(round(n * share), seed, 1.0, tasks=[ONE], start=start)
    others = [t for t in TASKS if t != ONE]
    return [*own, *room.demonstrations(n - len(own), seed, 1.0, tasks=others, start=start + n)]


def run_seed(seed: int, first: int, rows: int, prompts: int, out: Path) -> list[dict[str, Any]]:
    """Train the three stages of a seed and measure each on the same prompts; returns its raw rows."""
    from posttrain.jobs.evaluate import Evaluate
    from posttrain.jobs.job import Context
    from posttrain.jobs.train import Train
    from posttrain.readingroom.room import ReadingRoom
    from posttrain.readingroom.tasks import TASKS

    quiet, room, place = Context(bars=False), ReadingRoom(0), out / f"seed-{seed}"
    asked = room.prompts("held-out", prompts // 4, tasks=[ONE])
    asked += room.prompts("held-out", prompts, tasks=[t for t in TASKS if t != ONE])
    data = written(place / "asked.jsonl", asked)
    optimizer = {"lr": 0.002, "schedule": "cosine", "warmup": 0.05}
    fields = {"method": "sft", "epochs": 1, "batch": 32, "seed": seed, "samples": 0, "log_to": ()}
    mixture = written(place / "all.jsonl", demonstrations(first, seed, 0.0, 40_000 + 20_000 * seed))
    made = Train(model="base", data=mixture, out=str(place / "before"), optimizer=optimizer, **fields).run(quiet)
    models = {"before": str(made.path)}
    for name, share in (("alone", 1.0), ("mixed", 0.5)):
        shown = written(place / f"{name}.jsonl", demonstrations(rows, seed, share, 200_000 + 20_000 * seed))
        run = Train(model=models["before"], data=shown, out=str(place / name), optimizer=optimizer, **fields).run(quiet)
        models[name] = str(run.path)
    kept = []
    for stage, model in models.items():
        job = Evaluate(model=model, data=data, out=str(place / f"eval-{stage}"), max_tokens=160, logp=False)
        for row in job.run(quiet).rows:
            told = {"seed": seed, "stage": stage, "id": row["id"], "task": row["facts"]["task"]}
            kept.append(told | {"gold": round(row["figures"]["gold"][0], 6), "answer": row["answers"][0]})
    return kept


def result(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Every figure of the study: gold by task and stage, the claims, and whether the mixture lost less than the margin."""
    gold = {(r["seed"], r["stage"], r["id"]): float(r["gold"]) for r in rows}
    task = {str(r["id"]): str(r["task"]) for r in rows}
    seeds, stages = sorted({r["seed"] for r in rows}), list(dict.fromkeys(r["stage"] for r in rows))
    parts = {ONE: [i for i in task if task[i] == ONE], "others": [i for i in task if task[i] != ONE]}

    def values(stage: str, ids: Sequence[str]) -> np.ndarray:
        return np.asarray([[gold[s, stage, i] for i in ids] for s in seeds])

    out: dict[str, Any] = {"seeds": seeds, "prompts": {k: len(v) for k, v in parts.items()}, "gold": {}, "claims": {}}
    for name in [*parts, *sorted(set(task.values()) - {ONE})]:
        ids = parts.get(name) or [i for i in task if task[i] == name]
        out["gold"][name] = {stage: _ends(values(stage, ids)) for stage in stages}
    for high, low, part, words in CLAIMS:
        change = values(high, parts[part]) - values(low, parts[part])
        out["claims"][words] = _claim(dict(zip(seeds, change)), part)
    kept = values("mixed", parts["others"]) - values("before", parts["others"])
    mean = kept.mean(0)
    p = non_inferior(float(mean.mean()), float(mean.std(ddof=1)) / math.sqrt(mean.size), mean.size - 1, MARGIN)
    out["mixture_keeps"] = {"margin": MARGIN, "p": round(p, 8), "kept": bool(p < 0.05), **_ends(kept)}
    return out


def _ends(values: np.ndarray) -> dict[str, Any]:
    """Mean over seeds, its interval over prompts, and each seed's mean. values: [seeds, prompts]."""
    made = cluster_bootstrap(values.mean(0))
    ends = [None if math.isnan(v) else round(v, 6) for v in (made.low, made.high)]
    by_seed = [round(float(v), 6) for v in values.mean(1)]
    return {"mean": round(made.estimate, 6), "interval": ends, "by_seed": by_seed, "n": made.n}


def _claim(change: Mapping[Any, np.ndarray], part: str) -> dict[str, Any]:
    """By the project's one definition of *better* where there are prompts and seeds enough; else the interval, each seed and its sign."""
    told = _ends(np.asarray(list(change.values())))
    if part == "others" and len(change) >= 3 and told["n"] >= 300:
        found = better(change)
        return {"on": part, "separated": found.separated, "bound": round(found.bound, 6), **told}
    low = told["interval"][0]
    return {"on": part, "separated": low is not None and low > 0 and min(told["by_seed"]) > 0, "bound": None, **told}


def write_page(found: Mapping[str, Any], about: str) -> None:
    """The page beside the rows: the plot of what each task had before and after, and every claim."""
    from posttrain.report.axes import node
    from posttrain.report.dots import dot_plot, dumbbell
    from posttrain.report.page import Section, card, figure, page, table

    def drawn(stage: str) -> str:
        rows = [(t, g["before"]["mean"], g[stage]["mean"]) for t, g in found["gold"].items() if t != "others"]
        return dumbbell(rows, f"gold by task, before and after: {stage}", "gold")

    shown = [(w, Interval(c["mean"], *c["interval"], c["n"], "bootstrap over prompts")) for w, c in _claims(found)]
    words = {"alone": f"{ONE} alone", "mixed": f"{ONE} and the others, half and half"}
    plots = node("div", "".join(figure(f"Further SFT on {words[s]}", drawn(s)) for s in words), class_="pair")
    claims = [
        [w, c["on"], "yes" if c["separated"] else "no", _told(c), ", ".join(f"{v:+.3f}" for v in c["by_seed"])]
        for w, c in _claims(found)
    ]
    kept = found["mixture_keeps"]
    verdict = "ruled out" if kept["kept"] else "not ruled out"
    claims.append([f"the mixture loses {kept['margin']} or more of the others", "others", verdict, _told(kept), ""])
    stages = list(next(iter(found["gold"].values())))
    rows = [[t, str(g["before"]["n"]), *(_told(g[s]) for s in stages)] for t, g in found["gold"].items()]
    sections = [
        Section("plot", "What each task had, and kept", plots),
        Section("claims", "Claims", table(["claim", "on", "holds", "difference of gold", "each seed"], claims)),
        Section("differences", "Differences", card("", dot_plot(shown, "difference of gold", "gold", reference=0.0))),
        Section("table", "Gold by task", table(["task", "prompts", *stages], rows)),
    ]
    text = "Per seed, every run starts from one SFT model of the other tasks. Filled dots: after."
    write_text(HERE / "report.html", page("Study: forgetting", text, "", sections, about))


def _claims(found: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return list(found["claims"].items())


def _told(made: Mapping[str, Any]) -> str:
    low, high = made["interval"]
    return f"{made['mean']:.3f}" + ("" if low is None else f" [{low:.3f}, {high:.3f}]")


def check() -> None:
    """Recompute from the committed rows. Raises SystemExit when a figure differs."""
    again = json.loads(json.dumps(result(read_lines(HERE / "rows.jsonl"))))
    if again != json.loads((HERE / "result.json").read_text(encoding="utf-8")):
        raise SystemExit("studies/forgetting: the committed result differs from what the committed rows give")
    for words, claim in again["claims"].items():
        print(f"{words}: {'holds' if claim['separated'] else 'not shown'}, {_told(claim)}, seeds {claim['by_seed']}")
    print(f"mixture keeps the others: {again['mixture_keeps']}")


def study() -> None:
    """Every seed that has no rows yet; then the figures and the page."""
    path = HERE / "rows.jsonl"
    rows = read_lines(path) if path.is_file() else []
    made = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    told: dict[str, Any] = {"command": COMMAND, "commit": made.stdout.strip() or "unknown", "seconds": {}}
    for seed in sorted(set(SEEDS) - {r["seed"] for r in rows}):
        began = time.time()
        rows += run_seed(seed, first=2600, rows=1600, prompts=320, out=Path("runs") / "study-forgetting")
        write_text(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
        told["seconds"][str(seed)] = round(time.time() - began)
        write_json(HERE / "run.json", told)
        print(f"seed {seed}: {told['seconds'][str(seed)]} s", flush=True)
    found = result(rows)
    write_json(HERE / "result.json", found)
    write_page(found, f"{COMMAND}, commit {told['commit'][:12]}; the reading room is a simulation")
    check()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--cell", action="store_true", help="one small seed; writes nothing under studies/")
    given = parser.parse_args()
    if given.cell:
        rows = run_seed(0, first=64, rows=32, prompts=24, out=Path("runs") / "study-forgetting-small")
        print(json.dumps(result(rows), indent=1))
    elif given.check:
        check()
    else:
        study()


if __name__ == "__main__":
    main()
