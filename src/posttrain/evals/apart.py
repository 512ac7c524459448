"""Figures apart: by split, by novelty, by turn, by language, by rows learned from; and the prompts on which models
differ most.

A mean over all rows hides where a model holds and where it does not. Every value of a fact of the rows has its own
figure and its own interval here; a change between two models is paired by prompt inside each value. Leaves out
corrections for looking at many values at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posttrain.evals.pairing import by_id, shared, smallest
from posttrain.stats import Interval, cluster_bootstrap, paired_bootstrap

Rows = Sequence[Mapping[str, Any]]
ORDER = ("train", "seen", "held-out", "rare", "new-phrasing", "new-vocabulary", "ood")
"""Values of `split` and `novelty` from near to far; others follow in the order of the alphabet."""
FACTS = ("split", "novelty")
"""Facts whose values have figures of their own in every evaluation."""
MAIN = ("human", "faithful", "gold", "reward", "exact_match", "f1", "accuracy", "word_f1", "logp")
"""Figures that are told apart, beside those of verifiers and judges."""


def values_of(rows: Rows, fact: str) -> list[str]:
    """The values that rows have of a fact, from near to far."""
    known = {str(r["facts"][fact]) for r in rows if fact in r.get("facts", {})}
    return sorted(known, key=lambda v: (ORDER.index(v) if v in ORDER else len(ORDER), len(v), v))


def parts(rows: Rows, fact: str) -> dict[str, list[Mapping[str, Any]]]:
    """Rows by the value of a fact; empty where fewer than two values are there."""
    found = values_of(rows, fact)
    if len(found) < 2:
        return {}
    return {v: [r for r in rows if str(r.get("facts", {}).get(fact)) == v] for v in found}


def figures_apart(rows: Rows, fact: str, figures: Sequence[str], seed: int = 0) -> dict[str, dict[str, Interval]]:
    """Per value of a fact, the interval of each of these figures that its rows have."""
    out: dict[str, dict[str, Interval]] = {}
    for value, mine in parts(rows, fact).items():
        known = {name: list(by_id(mine, name).values()) for name in figures}
        out[value] = {name: cluster_bootstrap(v, seed=seed) for name, v in known.items() if v}
    return out


def changes_apart(rows: Rows, others: Rows, fact: str, figure: str, seed: int = 0) -> dict[str, tuple[Interval, float]]:
    """Per value of a fact, the paired change (rows - others) of a figure, and the smallest one that so many rows find in 4 of 5 cases."""
    out = {}
    before = by_id(others, figure)
    for value, mine in parts(rows, fact).items():
        _, x, y = shared(by_id(mine, figure), before)
        if len(x) >= 2:
            out[value] = (paired_bootstrap(x, y, seed=seed), smallest(x - y))
    return out


def told_apart(rows: Rows, names: Sequence[str], earlier: Rows | None, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Per fact of FACTS and value of it, as plain values: the main figures among `names`, also paired with earlier rows."""
    kept = [n for n in names if n in MAIN or n.startswith(("verifier/", "judge/"))]
    out: dict[str, dict[str, Any]] = {}
    for fact in FACTS:
        for value, made in figures_apart(rows, fact, kept, seed).items():
            figures = {n: i.to_json() for n, i in made.items()}
            out.setdefault(fact, {})[value] = {"figures": figures, "differences": {}}
        for name in kept if earlier is not None and fact in out else ():
            for value, (gap, least) in changes_apart(rows, earlier or (), fact, name, seed).items():
                out[fact][value]["differences"][name] = {**gap.to_json(), "smallest": least}
    return out


def models_apart(measured: Mapping[str, Rows], figure: str, fact: str, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Per value of a fact: `figures`, of each model that has one, and `changes`, of each model against the first."""
    first, *rest = measured
    out: dict[str, dict[str, Any]] = {}
    for name, rows in measured.items():
        for value, made in figures_apart(rows, fact, [figure], seed).items():
            if figure in made:
                out.setdefault(value, {"figures": {}, "changes": {}})["figures"][name] = made[figure]
    for name in rest:
        for value, change in changes_apart(measured[name], measured[first], fact, figure, seed).items():
            out[value]["changes"][name] = change
    return {v: out[v] for v in values_of([r for rows in measured.values() for r in rows], fact) if v in out}


def most_apart(rows: Mapping[str, Any], figure: str, shown: int = 6) -> list[dict[str, Any]]:
    """The prompts on which the models' figures differ most, with an answer of each."""
    known = {n: by_id(made, figure) for n, made in rows.items()}
    ids = [i for i in next(iter(known.values())) if all(i in k for k in known.values())]
    gap = {i: float(np.ptp([k[i] for k in known.values()])) for i in ids}
    first = {str(r["id"]): r for r in next(iter(rows.values()))}
    answers = {
        n: {str(r["id"]): r.get("answers") or [str(r.get("said", ""))] for r in made} for n, made in rows.items()
    }
    out = []
    for i in sorted(ids, key=lambda i: -gap[i])[:shown]:
        if gap[i] == 0:
            break
        said = [{"model": n, "answer": answers[n][i][0], "figure": known[n][i]} for n in rows]
        prompt = "\n".join(m["content"] for m in first[i]["prompt"])
        out.append({"id": i, "prompt": prompt, "wanted": (first[i].get("references") or [None])[0], "said": said})
    return out
