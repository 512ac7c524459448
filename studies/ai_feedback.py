"""Study *ai-feedback*: what do a judge, a model's own critiques, synthetic rows and a teacher gain over SFT? `make study NAME=ai-feedback`.

On the embedded model, per seed one world of the reading room (a simulation). `sft` is trained on demonstrations. `dpo_ai` is sft with DPO
on pairs of a judge who sees gold through noise of known size; `revised` learns the final answers of critique and revision, `two_stage` is
revised with that judge's pairs (Bai et al. 2022, arXiv:2212.08073). `fifty` is the base trained on 50 clean rows, `synth` on what the base
itself writes from them. `raw` is a smaller model trained on demonstrations, `soft` the same one on the teacher's distributions over the
same rows, `distilled` on answers of the teacher that the judge passes. One raw row per (seed, cell, held-out prompt), and one per revised
answer with its gold before and after. Rows are written part by part, and a study that was cut goes on.
`--check` recomputes every figure from the committed rows; `--small` runs a toy.
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
from posttrain.stats import better, cluster_bootstrap
from studies.ai_feedback_cells import NOISE, PARTS, SMALL, Bench, Scale
from studies.preferences import commit

HERE = Path(__file__).parent / "ai_feedback"
SEEDS = (0, 1, 2)
COMMAND = "make study NAME=ai-feedback"
CLAIMS = [
    ("dpo_ai", "sft"), ("revised", "sft"), ("two_stage", "sft"), ("two_stage", "revised"), ("synth", "fifty"), ("distilled", "raw"),
    ("soft", "raw"),
]  # fmt: skip
CELLS = ("sft", "dpo_ai", "revised", "two_stage", "fifty", "synth", "raw", "soft", "distilled")


def run(seeds: Sequence[int], scale: Scale, out: Path, kept: Path) -> list[dict[str, Any]]:
    """Every part of every seed; `kept` holds the rows of all parts so far. What a cut study had is not run again."""
    rows: list[dict[str, Any]] = read_lines(kept) if kept.exists() else []
    for seed in seeds:
        bench = Bench(seed, out / f"seed-{seed}", scale)
        for part in PARTS:
            if any(r["seed"] == seed and r["part"] == part.__name__ for r in rows):
                continue
            began = time.time()
            rows += [{"part": part.__name__, **r} for r in part(bench)]
            write_text(kept, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
            print(f"seed {seed}, {part.__name__}: {time.time() - began:.0f} s, {len(rows)} rows", flush=True)
    return rows


def column(rows: Sequence[dict[str, Any]], seed: int, cell: str, name: str = "gold") -> np.ndarray:
    """One figure of a cell by place."""
    mine = sorted((r for r in rows if (r["seed"], r["cell"]) == (seed, cell)), key=lambda r: r["place"])
    return np.asarray([r[name] for r in mine], dtype=float)


def result(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Gold by cell, every claim, and what the critique did to the answers it was given. Seeds are paired inside, never across."""

    def having(cell: str) -> list[int]:
        return sorted({r["seed"] for r in rows if r["cell"] == cell})

    gold = {}
    for cell in (c for c in CELLS if having(c)):
        columns = {s: column(rows, s, cell) for s in having(cell)}
        ends = cluster_bootstrap(np.mean(list(columns.values()), axis=0))
        by_seed = {str(s): round(float(c.mean()), 6) for s, c in columns.items()}
        gold[cell] = {"by_seed": by_seed, "interval": [round(ends.low, 6), round(ends.high, 6)]}
    pairs = {
        f"{a} > {b}": {s: column(rows, s, a) - column(rows, s, b) for s in having(a)}
        for a, b in CLAIMS
        if having(a) and having(b)
    }
    if having("critique"):
        pairs["critique: after > before"] = {s: column(rows, s, "critique", "after") - column(rows, s, "critique", "before")
                                             for s in having("critique")}  # fmt: skip
    claims = {name: claim(differences) for name, differences in pairs.items()}
    return {
        "gold": gold,
        "claims": claims,
        "noise": NOISE,
        "critique": revisions(rows),
        "synthetic": written(rows),
        "taught": taught(rows),
    }


def claim(differences: dict[int, np.ndarray]) -> dict[str, Any]:
    """The project's verdict on a difference; with too few seeds or prompts for it, the interval alone, and nothing is separated."""
    try:
        found = better(differences)
    except ValueError as why:
        shown = cluster_bootstrap(np.mean(list(differences.values()), axis=0))
        by_seed = ", ".join(f"{s} {d.mean():+.3f}" for s, d in differences.items())
        ends = [round(shown.low, 6), round(shown.high, 6)]
        told = f"no verdict ({why}): {shown.estimate:+.3f} [{shown.low:+.3f}, {shown.high:+.3f}]; seeds: {by_seed}"
        return {
            "separated": False,
            "difference": round(shown.estimate, 6),
            "interval": ends,
            "bound": None,
            "text": told,
        }
    ends = [round(found.interval.low, 6), round(found.interval.high, 6)]
    return {"separated": found.separated, "difference": round(found.interval.estimate, 6), "interval": ends,
            "bound": round(found.bound, 6), "text": str(found)}  # fmt: skip


def revisions(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many answers changed, and how many ended below their start: by the judge (never, by construction) and in truth."""
    mine = [r for r in rows if r["cell"] == "critique"]
    return {
        "answers": len(mine),
        "changed": sum(r["mark_after"] != r["mark_before"] for r in mine),
        "below_by_judge": sum(r["mark_after"] < r["mark_before"] for r in mine),
        "below_in_gold": sum(r["after"] < r["before"] for r in mine),
        "above_in_gold": sum(r["after"] > r["before"] for r in mine),
    }


def written(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Per seed: tasks that the base wrote, that synth kept, that the filters left."""
    return {str(r["seed"]): {k: r[k] for k in ("produced", "kept", "clean")} for r in rows if r["cell"] == "made"}


def taught(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Per seed: answers of the teacher, different ones that the judge passed, and those that the student learned."""
    return {str(r["seed"]): {k: r[k] for k in ("answers", "passed", "taught")} for r in rows if r["cell"] == "taught"}


def write_page(found: dict[str, Any], told: dict[str, Any]) -> None:
    """The page beside the rows."""
    from posttrain.report.dots import dot_plot
    from posttrain.report.page import Section, card, page, table
    from posttrain.stats import Interval

    drawn = [
        (k, Interval(float(np.mean(list(v["by_seed"].values()))), *v["interval"], len(v["by_seed"]), "bootstrap over prompts"))
        for k, v in found["gold"].items()
    ]  # fmt: skip
    claims = [[name, "yes" if c["separated"] else "no", c["text"]] for name, c in found["claims"].items()]
    critique = [[name.replace("_", " "), str(n)] for name, n in found["critique"].items()]
    made = [[f"seed {s}", *(str(r[k]) for k in ("produced", "kept", "clean"))] for s, r in found["synthetic"].items()]
    passed = [[f"seed {s}", *(str(r[k]) for k in ("answers", "passed", "taught"))] for s, r in found["taught"].items()]
    text = (f"{told['command']}, commit {told['commit'][:12]}; the reading room is a simulation; the judge adds noise with standard "
            f"deviation {found['noise']} to gold")  # fmt: skip
    sections = [
        Section("gold", "Gold", card("", dot_plot(drawn, "gold, mean over seeds", "gold"))),
        Section("claims", "Claims", table(["claim", "separated", "difference"], claims)),
        Section("critique", "What critique and revision did to the answers", table(["", "answers"], critique)),
        Section("synthetic", "Synthetic rows", table(["", "written", "kept by synth", "left by the filters"], made)),
        Section(
            "taught",
            "Answers of the teacher",
            table(["", "answers", "different and passed by the judge", "learned"], passed),
        ),
    ]
    write_text(HERE / "report.html", page("Study: ai-feedback", text, "", sections, text))


def check() -> None:
    """Recompute from the committed rows. Raises SystemExit when a figure differs."""
    again = json.loads(json.dumps(result(read_lines(HERE / "rows.jsonl"))))
    if again != json.loads((HERE / "result.json").read_text(encoding="utf-8")):
        raise SystemExit("studies/ai_feedback: the committed result differs from what the committed rows give")
    for name, claim in again["claims"].items():
        print(f"{name}: {claim['text']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="recompute the committed figures from the committed rows")
    parser.add_argument("--small", action="store_true", help="a toy of one seed; writes no result")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    given = parser.parse_args()
    if given.small:
        out = Path("runs") / "study-ai-feedback-small"
        rows = run((0,), SMALL, out, out / "rows.jsonl")
        print(json.dumps({"rows": len(rows), "cells": sorted({r["cell"] for r in rows})}))
        return
    if not given.check:
        began = time.time()
        rows = run(given.seeds, Scale(), Path("runs") / "study-ai-feedback", HERE / "rows.jsonl")
        told = {"command": COMMAND, "commit": commit(), "seeds": given.seeds, "seconds": round(time.time() - began)}
        write_json(HERE / "run.json", told)
        write_json(HERE / "result.json", result(rows))
        write_page(result(rows), told)
    check()


if __name__ == "__main__":
    main()
