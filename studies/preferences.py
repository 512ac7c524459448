"""Study *preferences*: what does each way to learn from preferences gain over SFT, in truth? `make study NAME=preferences`.

Per seed one world of the reading room (a simulation), one SFT model, four answers to each of 1,500 prompts, and simulated annotators who
rank them. Every method starts from that SFT model and sees the same annotations: as one pair a prompt, as that pair with a fifth of the
labels turned round (`*_flipped`), as single labelled answers (KTO), or as the ranking (listwise). Gold is the world's own verdict on four
answers at temperature 0.7 to each of 320 held-out prompts. A reward ensemble learns from the noisy pairs of seven times as many prompts
and is judged by the truth, on prompts of other words and wordings. IPO, KTO and the ensemble were set anew on seed 100 (docs/lab.md). One
raw row per (seed, cell, prompt), and per comparison of the ensemble. `--check` recomputes every figure from the committed rows and fails if
any differs; `--small` runs a toy of everything in a minute or two, which shows that it works and nothing else.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from posttrain.core.files import read_lines, write_json, write_text
from posttrain.core.group import Group, Preference
from posttrain.stats import better, cluster_bootstrap

HERE = Path(__file__).parent / "preferences"
SEEDS = (0, 1, 2)
COMMAND = "make study NAME=preferences"
FLIPS = 0.2
BETA = 0.1


@dataclass(frozen=True)
class Cell:
    """One training. method: the recipe's node. data: which reading of the annotations. lr: peak rate."""

    method: dict[str, Any]
    data: str = "pairs"
    lr: float = 2e-4


def dpo(link: Any = "sigmoid", beta: float = BETA, nll: float = 1.0) -> dict[str, Any]:
    """Plain DPO loses the likelihood of good answers here (docs/lab.md), so every link gets a likelihood beside it."""
    return {"name": "dpo", "beta": beta, "nll": nll, "link": link}


IPO_BETA = 0.25
"""IPO asks for a margin of 1 / (2 beta) nats, here 2, and pulls with the square of what is missing; its likelihood weighs as much more."""
HEADS = 32
"""Of the ensemble: the spread of a few is known too roughly to tell doubt from chance."""
CONSERVATIVE, ROBUST = {"name": "conservative", "flips": FLIPS}, {"name": "robust", "smoothing": FLIPS}
CELLS: dict[str, Cell] = {
    "dpo": Cell(dpo()),
    "ipo": Cell(dpo("ipo", IPO_BETA, 4.0)),
    "cdpo": Cell(dpo(CONSERVATIVE)),
    "robust": Cell(dpo(ROBUST)),
    "kto": Cell({"name": "kto", "beta": BETA}, "labels", 5e-5),
    "orpo": Cell({"name": "orpo", "weight": 0.5}, lr=4e-4),
    "simpo": Cell({"name": "simpo"}, lr=5e-5),
    "listwise": Cell({"name": "listwise", "beta": BETA}, "ranked", 1e-4),
    "dpo_flipped": Cell(dpo(), "flipped"),
    "cdpo_flipped": Cell(dpo(CONSERVATIVE), "flipped"),
    "robust_flipped": Cell(dpo(ROBUST), "flipped"),
}
CLAIMS = [(name, "sft") for name in CELLS if not name.endswith("_flipped")]
FLIPPED = [("cdpo_flipped", "dpo_flipped"), ("robust_flipped", "dpo_flipped")]


@dataclass(frozen=True)
class Scale:
    """How much of everything. The small one is for the tests."""

    demos: int = 4200
    asked: int = 1500
    more: int = 9000
    held_out: int = 320
    ood: int = 640
    tokens: int = 160
    ensemble_epochs: float = 2.0


SMALL = Scale(demos=96, asked=48, more=48, held_out=12, ood=16, tokens=24, ensemble_epochs=1.0)


# The data: annotations in four readings


def ranked_of(groups: Sequence[Group]) -> Iterator[Group]:
    """Every group with a ranking; annotators say of two answers only which one is better."""
    for g in groups:
        if g.ranking is None:
            (pair,) = g.preferences
            g = replace(g, ranking=((pair.i,), (pair.j,)), preferences=())
        yield g


def pairs_of(groups: Sequence[Group]) -> Iterator[Group]:
    """One pair a prompt: an answer of the best tier over one of the worst."""
    for g in groups:
        assert g.ranking is not None
        if len(g.ranking) > 1:
            kept = [g.responses[g.ranking[0][0]], g.responses[g.ranking[-1][-1]]]
            yield g.with_responses(kept, preferences=(Preference(0, 1),))


def flipped(groups: Sequence[Group], seed: int) -> Iterator[Group]:
    """The pairs, a fifth of them (drawn by seed) turned round."""
    draw = random.Random(seed)
    for g in groups:
        turned = (Preference(1, 0),) if draw.random() < FLIPS else (Preference(0, 1),)
        yield replace(g, preferences=turned)


def labels_of(groups: Sequence[Group], seed: int) -> Iterator[Group]:
    """One answer a prompt with a label alone: good where it stands in the upper half of its ranking."""
    draw = random.Random(seed)
    for g in groups:
        assert g.ranking is not None
        tier = {i: t for t, members in enumerate(g.ranking) for i in members}
        i = draw.randrange(len(g.responses))
        good = tier[i] < len(g.ranking) / 2
        yield g.with_responses([replace(g.responses[i], label=good)])


def write_groups(path: Path, groups: Sequence[Group]) -> str:
    write_text(path, "".join(json.dumps(g.to_json(), ensure_ascii=False, default=str) + "\n" for g in groups))
    return str(path)


# One seed


def run_seed(seed: int, out: Path, scale: Scale, cells: Sequence[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """All cells of a seed: raw rows, and what the trainings said of themselves."""
    from posttrain.jobs.job import Context
    from posttrain.jobs.pipeline import build
    from posttrain.readingroom.gold import GoldReward

    context, at = Context(bars=False), str(out)
    build({"out": at, "seed": seed, "jobs": stages(scale)}).run(context)
    ranked = list(ranked_of([Group.from_json(row) for row in read_lines(out / "ranked.jsonl")]))
    pairs = list(pairs_of(ranked))
    more = pairs_of(list(ranked_of([Group.from_json(row) for row in read_lines(out / "ranked_more.jsonl")])))
    data = {
        "many": write_groups(out / "pairs_many.jsonl", [*pairs, *more]),
        "ranked": write_groups(out / "rankings.jsonl", ranked),
        "pairs": write_groups(out / "pairs.jsonl", pairs),
        "flipped": write_groups(out / "flipped.jsonl", list(flipped(pairs, seed))),
        "labels": write_groups(out / "labels.jsonl", list(labels_of(ranked, seed))),
    }
    jobs: dict[str, Any] = {"said_sft": said(f"{at}/sft", f"{at}/held_out.jsonl", scale)}
    for name in cells:
        jobs[name] = train(CELLS[name], data, at)
        jobs[f"said_{name}"] = said(f"${name}", f"{at}/held_out.jsonl", scale)
    heads = Cell({"name": "reward_ensemble", "heads": HEADS, "likelihood": 4.0}, "many", 1e-4)
    rate = {"lr": heads.lr, "head_lr": 1e-2, "schedule": "cosine"}
    jobs["ensemble"] = {
        **train(heads, data, at),
        "epochs": scale.ensemble_epochs,
        "optimizer": rate,
        "overlong": "drop",
    }
    build({"out": at, "seed": seed, "jobs": jobs}).run(context)
    rows: list[dict[str, Any]] = []
    for name in ("sft", *cells):
        answered = [Group.from_json(row) for row in read_lines(out / f"said_{name}.jsonl")]
        for place, (group, scores) in enumerate(zip(answered, GoldReward()(answered), strict=True)):
            gold = float(np.mean([s.value for s in scores]))
            rows.append({"seed": seed, "cell": name, "place": place, "id": group.id, "gold": round(gold, 6)})
    told = {name: last_figures(out / name / "metrics.jsonl", CELLS[name].method.get("beta", BETA)) for name in cells}
    return rows + ensemble_rows(seed, out), told


def stages(scale: Scale) -> dict[str, Any]:
    """World, SFT, answers and annotations: what every cell shares."""
    rate = {"lr": 0.002, "schedule": "cosine", "warmup": 0.05}
    return {
        "demos": {"job": "room-prompts", "n": scale.demos, "answers": True, "quality": 0.5},
        "asked": {"job": "room-prompts", "n": scale.asked, "start": 20000},
        "held_out": {"job": "room-prompts", "n": scale.held_out, "split": "held-out"},
        "ood": {"job": "room-prompts", "n": scale.ood, "split": "ood"},
        "sft": {"method": "sft", "model": "base", "data": "$demos", "batch": 32, "samples": 0, "optimizer": rate},
        "answers": said("$sft", "$asked", scale),
        "ranked": {"job": "room-annotate", "data": "$answers", "sharpness": 8},
        "more": {"job": "room-prompts", "n": scale.more, "start": 30000},
        "answers_more": said("$sft", "$more", scale),
        "ranked_more": {"job": "room-annotate", "data": "$answers_more", "sharpness": 8},
        "said_ood": said("$sft", "$ood", scale),
        "judged_ood": {"job": "room-annotate", "data": "$said_ood", "sharpness": float("inf")},
    }


def said(model: str, prompts: str, scale: Scale) -> dict[str, Any]:
    return {"job": "sample", "model": model, "data": prompts, "n": 4, "temperature": 0.7, "max_tokens": scale.tokens}


def train(cell: Cell, data: dict[str, str], at: str) -> dict[str, Any]:
    rate = {"lr": cell.lr, "schedule": "cosine"}
    fields = {"method": cell.method, "model": f"{at}/sft", "data": data[cell.data], "batch": 16}
    return {**fields, "epochs": 1, "samples": 0, "optimizer": rate, "cache": f"{at}/scores"}


def last_figures(path: Path, beta: float = BETA, steps: int = 10) -> dict[str, float]:
    """Means of a run's last steps: its margin in nats (the metric is in units of beta) and accuracy, where it has them."""
    rows = read_lines(path)[-steps:]
    made = {n: [float(r[n]) for r in rows if n in r] for n in ("margin", "accuracy", "loss")}
    out = {n: round(float(np.mean(v)), 6) for n, v in made.items() if v}
    return out | ({"margin_nats": round(out["margin"] / beta, 6)} if "margin" in out else {})


def ensemble_rows(seed: int, out: Path) -> list[dict[str, Any]]:
    """Comparisons of answers to prompts of other vocabulary, as the ensemble and the annotators see them."""
    from posttrain.jobs.reward_report import compared
    from posttrain.jobs.scoring import ModelReward

    groups = [Group.from_json(row) for row in read_lines(out / "judged_ood.jsonl")]
    found = compared(groups, ModelReward(str(out / "ensemble")).opinions(groups), seed)
    made = zip(found.margin, found.spread, found.won, found.prompt, strict=True)
    return [
        {
            "seed": seed,
            "cell": "ensemble",
            "margin": round(float(m), 6),
            "spread": round(float(s), 6),
            "won": w,
            "prompt": p,
        }
        for m, s, w, p in made
    ]


# What the rows say


def result(rows: list[dict[str, Any]], told: dict[str, Any]) -> dict[str, Any]:
    """Gold by cell, every claim, IPO's margin and the ensemble's doubt. Prompts of different seeds are different worlds."""
    table: dict[tuple[int, str], np.ndarray] = {}
    gold_rows = [r for r in rows if r["cell"] != "ensemble"]
    doubted = [r for r in rows if r["cell"] == "ensemble"]
    names = list(dict.fromkeys(r["cell"] for r in gold_rows))
    seeds = sorted({r["seed"] for r in rows})
    for seed in seeds:
        for name in names:
            mine = sorted((r for r in gold_rows if (r["seed"], r["cell"]) == (seed, name)), key=lambda r: r["place"])
            table[seed, name] = np.asarray([r["gold"] for r in mine])
    gold = {}
    for name in names:
        ends = cluster_bootstrap(np.mean([table[s, name] for s in seeds], axis=0))
        by_seed = {str(s): round(float(table[s, name].mean()), 6) for s in seeds}
        gold[name] = {"by_seed": by_seed, "interval": [round(ends.low, 6), round(ends.high, 6)]}
    claims = {}
    for a, b in [*CLAIMS, *FLIPPED]:
        if (seeds[0], a) not in table or (seeds[0], b) not in table:
            continue
        found = better({s: table[s, a] - table[s, b] for s in seeds})
        claims[f"{a} > {b}"] = {"separated": found.separated, "bound": round(found.bound, 6), "text": str(found)}
    return {
        "gold": gold,
        "claims": claims,
        "flipped": any(claims.get(f"{a} > {b}", {}).get("separated", False) for a, b in FLIPPED),
        "ipo_margin_nats": margins(told, "ipo"),
        "dpo_margin_nats": margins(told, "dpo"),
        "ipo_target_nats": 1 / (2 * IPO_BETA),
        "ensemble": {str(s): doubt([r for r in doubted if r["seed"] == s]) for s in seeds} | {"all": doubt(doubted)},
    }


def margins(told: dict[str, Any], name: str) -> list[float]:
    return [run[name]["margin_nats"] for run in told.values() if "margin_nats" in run.get(name, {})]


def doubt(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """AUROC of disagreement for errors, and the calibration after a temperature fitted on other prompts."""
    from posttrain.jobs.reward_report import Comparisons, trusted

    columns = {n: np.asarray([float(r[n]) for r in rows]) for n in ("margin", "spread", "won")}
    body = trusted(Comparisons(**columns, prompt=tuple(r["prompt"] for r in rows)))
    return {
        "comparisons": len(rows),
        "accuracy": round(body["accuracy"]["estimate"], 6),
        "auroc": None if body["doubt"] is None else round(body["doubt"]["estimate"], 6),
        "auroc_interval": None if body["doubt"] is None else [round(body["doubt"][end], 6) for end in ("low", "high")],
        "temperature": round(body["temperature"], 6),
        "excess_ece_before": round(body["before"]["excess"]["estimate"], 6),
        "excess_ece_after": round(body["after"]["excess"]["estimate"], 6),
    }


def write_page(found: dict[str, Any], told: dict[str, Any]) -> None:
    """The page beside the rows."""
    from posttrain.report.dots import dot_plot
    from posttrain.report.page import Section, card, page, table
    from posttrain.stats import Interval

    def mean(name: str) -> float:
        return float(np.mean(list(found["gold"][name]["by_seed"].values())))

    n = len(next(iter(found["gold"].values()))["by_seed"])
    drawn = [(k, Interval(mean(k), *v["interval"], n, "bootstrap over prompts")) for k, v in found["gold"].items()]
    claims = [[name, "yes" if c["separated"] else "no", c["text"]] for name, c in found["claims"].items()]
    heads = ["accuracy", "auroc", "auroc_interval", "temperature", "excess_ece_before", "excess_ece_after"]
    doubts = [
        ["all seeds" if s == "all" else f"seed {s}", *(f"{e[h]}" for h in heads)] for s, e in found["ensemble"].items()
    ]
    margin = f"IPO {found['ipo_margin_nats']}, DPO {found['dpo_margin_nats']}, IPO's target {found['ipo_target_nats']}"
    sections = [
        Section("gold", "Gold", card("", dot_plot(drawn, "gold, mean over seeds", "gold"))),
        Section("claims", "Claims", table(["claim", "separated", "difference"], claims)),
        Section("ensemble", "Reward ensemble on other vocabulary", table(["", *heads], doubts)),
        Section("margins", "Margins at the end, in nats", card(margin)),
    ]
    text = f"{told['command']}, commit {told['commit'][:12]}; the reading room is a simulation"
    write_text(HERE / "report.html", page("Study: preferences", text, "", sections, text))


def run(
    seeds: Sequence[int], scale: Scale, cells: Sequence[str], out: Path
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Every seed's rows, and what the runs told."""
    rows: list[dict[str, Any]] = []
    told: dict[str, Any] = {"command": COMMAND, "commit": commit(), "seeds": list(seeds), "seconds": {}, "runs": {}}
    for seed in seeds:
        began = time.time()
        made, figures = run_seed(seed, out / f"seed-{seed}", scale, cells)
        rows += made
        told["runs"][str(seed)], told["seconds"][str(seed)] = figures, round(time.time() - began)
    return rows, told


def check() -> None:
    """Recompute from the committed rows. Raises SystemExit when a figure differs."""
    told = json.loads((HERE / "run.json").read_text(encoding="utf-8"))
    again = json.loads(json.dumps(result(read_lines(HERE / "rows.jsonl"), told["runs"])))
    if again != json.loads((HERE / "result.json").read_text(encoding="utf-8")):
        raise SystemExit("studies/preferences: the committed result differs from what the committed rows give")
    for name, claim in again["claims"].items():
        print(f"{name}: {claim['text']}")
    print(f"ensemble: {again['ensemble']}")


def commit() -> str:
    made = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return made.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--small", action="store_true", help="a toy of two cells and one seed; writes no result")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    given = parser.parse_args()
    if given.small:
        rows, told = run(given.seeds[:1], SMALL, ["ipo", "kto"], Path("runs") / "study-preferences-small")
        print(json.dumps({"rows": len(rows), **told}))
        return
    if not given.check:
        rows, told = run(tuple(given.seeds), Scale(), list(CELLS), Path("runs") / "study-preferences")
        write_text(HERE / "rows.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
        write_json(HERE / "run.json", told)
        write_json(HERE / "result.json", result(rows, told["runs"]))
        write_page(result(rows, told["runs"]), told)
    check()


if __name__ == "__main__":
    main()
