"""Study *annotators*: do weighted labels beat majority vote when some annotators are careless? `make study NAME=annotators`.

Simulated annotators with planted care judge pairs of planted worth: with probability q they follow Bradley-Terry, else they toss a coin
(for good or bad: they say the truth with probability q + (1 - q) / 2). Each item is seen by three of six. Majority vote counts heads; the
weighted labels are those of `posttrain labels --by reliable` and of Dawid and Skene; `known` is Bayes' rule with the planted care given,
the most that any weighing could reach. One raw row per (world, question, item) with the share of right labels: 1, 0, or a half where a
vote is even. `--check` recomputes the result from the committed rows. Nobody here is a person: this shows that the arithmetic finds
planted care, not that people differ so. The method was settled on other seeds (1000 and up).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posttrain.core.files import read_lines, write_json, write_text
from posttrain.feedback.aggregate import dawid_skene, reliability
from posttrain.stats import cluster_bootstrap

HERE = Path(__file__).parent / "annotators"
COMMAND = "make study NAME=annotators"
CARE = (0.95, 0.9, 0.8, 0.3, 0.1, 0.0)
"""Planted: three who care, three who hardly do."""
WORLDS, ITEMS, SEEN, SHARP = 30, 150, 3, 4.0
METHODS = ("majority", "weighted", "known")
QUESTIONS = ("ranking", "label")


def rankings(rng: np.random.Generator) -> list[dict[str, Any]]:
    """One world of pairs: how right majority and the reliability model are about which answer is better."""
    worth = rng.normal(size=(ITEMS, 2))
    said: list[tuple[int, int, int]] = []
    for i in range(ITEMS):
        for a in rng.choice(len(CARE), SEEN, replace=False):
            p = 1 / (1 + np.exp(-SHARP * (worth[i, 0] - worth[i, 1]))) if rng.random() < CARE[a] else 0.5
            said.append((i, int(a), 0 if rng.random() < p else 1))
    ranked = [[[first], [1 - first]] for _, _, first in said]
    b = reliability.fit(ranked, [i for i, *_ in said], [str(a) for _, a, _ in said], 2, ITEMS).fit.b
    votes = np.zeros(ITEMS)
    gap = SHARP * np.sqrt(2) * np.linspace(-5, 5, 1001)  # differences of worth as the annotators feel them
    log = np.tile(-((gap / SHARP) ** 2) / 4, (ITEMS, 1))
    for i, a, first in said:
        votes[i] += 1 - 2 * first
        log[i] += np.log(CARE[a] / (1 + np.exp((2 * first - 1) * gap)) + (1 - CARE[a]) / 2)
    chance = np.exp(log - log.max(axis=1, keepdims=True))
    known = chance[:, gap > 0].sum(axis=1) - chance[:, gap < 0].sum(axis=1)
    return judged(worth[:, 0] - worth[:, 1], votes, b[:, 0] - b[:, 1], known)


def labels(rng: np.random.Generator) -> list[dict[str, Any]]:
    """One world of good or bad: majority against Dawid and Skene."""
    truth = rng.integers(0, 2, ITEMS)
    item, who, said = [], [], []
    for i in range(ITEMS):
        for a in rng.choice(len(CARE), SEEN, replace=False):
            item.append(i)
            who.append(int(a))
            said.append(int(truth[i] if rng.random() < CARE[a] else rng.integers(0, 2)))
    good = dawid_skene.fit(item, who, said, 2).posterior[:, 1]
    sign = [2 * s - 1 for s in said]
    odds = np.log([(1 + CARE[a]) / (1 - CARE[a]) for a in who])
    return judged(truth - 0.5, np.bincount(item, sign, ITEMS), good - 0.5, np.bincount(item, sign * odds, ITEMS))


def judged(truth: np.ndarray, majority: np.ndarray, weighted: np.ndarray, known: np.ndarray) -> list[dict[str, Any]]:
    """A row per item: is the sign of each method's verdict the truth's?"""
    columns = zip(truth, majority, weighted, np.where(np.abs(known) < 1e-9, 0, known), strict=True)
    return [
        {"item": i} | {m: right(v, t) for m, v in zip(METHODS, rest, strict=True)}
        for i, (t, *rest) in enumerate(columns)
    ]


def right(said: float, truth: float) -> float:
    """1 where the sign is the truth's, 0 where it is the other, a half for neither."""
    return 0.5 if said == 0 else float((said > 0) == (truth > 0))


def run(worlds: int) -> list[dict[str, Any]]:
    """Raw rows of so many worlds."""
    out = []
    for world in range(worlds):
        for number, (question, made) in enumerate(zip(QUESTIONS, (rankings, labels), strict=True)):
            rows = made(np.random.default_rng([world, number]))
            out += [{"world": world, "question": question, **row} for row in rows]
    return out


def result(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Share of right labels of both methods and their difference, each with a 95% interval that resamples worlds."""
    out: dict[str, Any] = {"care": list(CARE), "seen_by": SEEN}
    for question in QUESTIONS:
        here = [r for r in rows if r["question"] == question]
        world = [r["world"] for r in here]
        values = {m: np.array([float(r[m]) for r in here]) for m in METHODS}
        values["gain"] = values["weighted"] - values["majority"]
        values["reachable"] = values["known"] - values["majority"]
        out[question] = {"items": len(here), "worlds": len(set(world))} | {
            m: _ends(v, world) for m, v in values.items()
        }
    return out


def _ends(values: np.ndarray, world: Sequence[int]) -> dict[str, float]:
    made = cluster_bootstrap(values, list(world), reps=2000)
    return {"mean": round(made.estimate, 6), "low": round(made.low, 6), "high": round(made.high, 6)}


def page(found: Mapping[str, Any]) -> str:
    """The page of the study, from its result."""
    rows = []
    for question, words in zip(QUESTIONS, ("which of two answers is better", "good or bad"), strict=True):
        r = found[question]
        cells = [
            f"{r[m]['mean']:.3f} [{r[m]['low']:.3f}, {r[m]['high']:.3f}]"
            for m in ("majority", "weighted", "gain", "reachable")
        ]
        rows.append(f"| {words} | " + " | ".join(cells) + f" | {r['items']:,} in {r['worlds']} worlds |")
    care = ", ".join(map(str, found["care"]))
    return (
        "# Careless annotators\n\n"
        f"Six simulated annotators with planted care {care} (the share of judgments that are not a coin toss); each item is seen by "
        f"{found['seen_by']} of them. Share of right labels, with 95% intervals that resample worlds:\n\n"
        "| question | majority vote | weighted by reliability | gain | gain if care were known | items |\n|---|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n\n"
        f"`{COMMAND}` makes it again in seconds; the rows are in `rows.jsonl`, and a test recomputes this page. The annotators are "
        "a simulation that fits the model's own assumption (care is one number per person): it shows that planted care is found and used, "
        "not how people differ.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="recompute the result from the committed rows")
    if parser.parse_args().check:
        assert result(read_lines(HERE / "rows.jsonl")) == json.loads((HERE / "result.json").read_text(encoding="utf-8"))
        return
    rows = run(WORLDS)
    write_text(HERE / "rows.jsonl", "".join(json.dumps(r) + "\n" for r in rows))
    found = result(rows)
    write_json(HERE / "result.json", found)
    write_text(HERE / "README.md", page(found))
    print(page(found))


if __name__ == "__main__":
    main()
