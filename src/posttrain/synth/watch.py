"""What critique and revision did to the answers, round by round: length, refusals, diversity, and how often a revision was taken.

Round 0 is the start. Intervals resample prompts. An alarm is raised where answers have grown by more than three tenths, where refusals of
prompts that are known to be benign have risen for certain, and where a tenth of the distinct word pairs is lost. Leaves out diversity by
embeddings; `data.diversity` compares whole generations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from posttrain.detectors import refusal
from posttrain.detectors.repetition import units
from posttrain.stats import Interval, cluster_bootstrap
from posttrain.synth.refine import Refined

GROWN, LOST = 1.3, 0.1


def after(row: Refined, number: int) -> str:
    """The best answer after so many rounds."""
    taken = [r.revision for r in row.rounds[:number] if r.verdict == "accepted"]
    return taken[-1] if taken else row.start


def course(made: Sequence[Refined]) -> list[dict[str, Any]]:
    """Figures after each round. Raises ValueError where nothing was revised."""
    if not made:
        raise ValueError("no answers were revised, so there is nothing to watch")
    out = []
    for number in range(max(len(m.rounds) for m in made) + 1):
        texts = [after(m, number) for m in made]
        ratio = [(len(t) + 1) / (len(m.start) + 1) for t, m in zip(texts, made, strict=True)]
        benign = [i for i, m in enumerate(made) if m.group.facts.get("benign_twin") or m.group.facts.get("benign")]
        refused = [float(bool(refusal(m.group.prompt_text, t).flagged)) for t, m in zip(texts, made, strict=True)]
        out.append(
            {
                "round": number,
                "taken": sum(
                    1 for m in made if len(m.rounds) >= number > 0 and m.rounds[number - 1].verdict == "accepted"
                ),
                "length": _told(ratio),
                "refusals": _told(refused),
                "benign_refusals": _told([refused[i] for i in benign]) if benign else None,
                "distinct_2": round(distinct(texts), 6),
            }
        )
    return out


def distinct(texts: Sequence[str], n: int = 2) -> float:
    """Distinct n-grams of words over all of them (Li et al. 2016, arXiv:1510.03055); 0 where there are none."""
    grams = [tuple(words[i : i + n]) for words in (units(t.lower()) for t in texts) for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def alarms(rounds: Sequence[dict[str, Any]]) -> list[str]:
    """What a person should look at, one line each."""
    first, last, out = rounds[0], rounds[-1], []
    if Interval.from_json(last["length"]).low > GROWN:
        out.append(f"answers have grown to {last['length']['estimate']:.2f} times their length")
    benign = [Interval.from_json(r["benign_refusals"]) for r in (first, last) if r["benign_refusals"]]
    if len(benign) == 2 and benign[1].low > benign[0].high:
        out.append(f"{last['benign_refusals']['estimate']:.0%} of benign requests are refused now")
    if last["distinct_2"] < (1 - LOST) * first["distinct_2"]:
        out.append(f"distinct word pairs fell from {first['distinct_2']:.3f} to {last['distinct_2']:.3f}")
    return out


def _told(values: Sequence[float]) -> dict[str, Any]:
    return cluster_bootstrap(np.asarray(values, dtype=float)).to_json()
