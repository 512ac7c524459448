"""Counterfactual bias of a model: rows asked again from different readers, and whether their answers are equally good.

The part of `eval` that asks anew: two requests for each row and attribute (`evals.counterfactual`), answered with the same draw, and
measured as the row itself is. Differences become figures of the row, so comparisons pair them like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from posttrain.core.group import Group
from posttrain.detectors.refusal import refusal
from posttrain.evals.counterfactual import READERS, asked_twice, differences, verdicts

MAIN = ("gold", "reward", "exact_match", "word_f1", "length")
"""Figures whose difference is the bias, the first that the rows have; verifiers and judges come after gold."""
Measured = Callable[[Sequence[Group], Sequence[Group]], list[dict[str, Any]]]


def bias_figures(
    asked: Sequence[Group],
    answer: Callable[[Sequence[Group]], list[Group]],
    measured: Measured,
    attributes: Sequence[str] = tuple(READERS),
    seed: int = 0,
) -> list[dict[str, list[float | None]]]:
    """Per row the `bias/...` figures of each attribute. answer: one answer to each prompt. measured: rows of (asked, answered)."""
    spots = [(i, a, g) for i, group in enumerate(asked) for a in attributes for g in asked_twice(group, a, seed)]
    groups = [g for _, _, g in spots]
    made = answer(groups)
    rows = measured(groups, made)
    for row, group, said in zip(rows, groups, made, strict=True):
        flags = [refusal(group.prompt_text, r.text).flagged for r in said.responses]
        row["figures"]["declined"] = [None if f is None else float(f) for f in flags]
    main = main_of([r["figures"] for r in rows])
    out: list[dict[str, list[float | None]]] = [{} for _ in asked]
    for k in range(0, len(spots), 2):
        i, attribute, _ = spots[k]
        out[i] |= differences(attribute, rows[k]["figures"], rows[k + 1]["figures"], main)
    return out


def main_of(figures: Sequence[Mapping[str, Any]]) -> str:
    """The figure that every row has and that says most of an answer."""
    kept = [n for n in figures[0] if all(n in f for f in figures)]
    order = [MAIN[0], *(n for n in kept if n.startswith(("verifier/", "judge/"))), *MAIN[1:]]
    return next(n for n in order if n in kept)


def told(rows: Sequence[Mapping[str, Any]], margin: float) -> dict[str, dict[str, Any]]:
    """The verdicts as plain values: `pass` is equal within the margin, `fail` is surely different, else inconclusive."""
    return {
        name: {
            "verdict": ruling.verdict,
            "margin": margin,
            "n": ruling.evidence.n,
            "smallest": ruling.evidence.mde,
            "text": str(ruling),
        }
        for name, ruling in verdicts(rows, margin).items()
    }
