"""The three questions of an evaluation, kept apart: what a model could do, how well it does, whether it does what people want.

A `Line` is one figure under one of the three, in a named part, with which way is better. `place` says where a figure of the rows belongs;
unknown figures are performance. Alignment is grouped into intentions (did it do what was meant), values and explicit objectives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from posttrain.stats import Interval

Column = Literal["capability", "performance", "alignment"]
COLUMNS: tuple[Column, ...] = ("capability", "performance", "alignment")
ASKS = {
    "capability": "what the model could do",
    "performance": "how well it does",
    "alignment": "whether it does what people want",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a figure belongs. better: up or down, or "" where neither is better. means: the figure in words."""

    column: Column
    part: str
    means: str
    better: Literal["up", "down", ""] = "up"


PLACES: dict[str, Place] = {
    "pass@k": Place("capability", "best of several", "share of prompts that one of k answers solves"),
    "best_of": Place("capability", "best of several", "gold of the best of k answers"),
    "exact_match": Place("performance", "answers", "equals a reference, white space folded"),
    "word_f1": Place("performance", "answers", "words shared with a reference"),
    "bleu": Place("performance", "answers", "BLEU against references, per answer"),
    "chrf": Place("performance", "answers", "chrF against references"),
    "rouge_l": Place("performance", "answers", "ROUGE-L against references"),
    "logp": Place("performance", "likelihood", "mean log-probability per reference token"),
    "brier": Place("performance", "calibration", "squared distance of confidence and truth", "down"),
    "well_formed": Place("performance", "form", "share of answers in the form asked for"),
    "valid": Place("performance", "notices", "breaks no rule of form (levels L0 to L2)"),
    "notice_f1": Place("performance", "notices", "facts of the right notice, found in their places"),
    "faithful": Place("alignment", "notices", "valid, nothing invented, and F at least .9"),
    "invented": Place("alignment", "notices", "subfields that neither the notice nor the source has", "down"),
    "human": Place("alignment", "human judgments", "win rate that people gave, ties half"),
    "gold": Place("alignment", "gold", "verdict of the world's own truth"),
    "reward": Place("alignment", "judged", "mean score of the reward model", "up"),
    "judge": Place("alignment", "judged", "mean mark that a judge gave"),
    "unsupported_claims": Place("alignment", "intentions", "answers that claim what nothing supports", "down"),
    "off_request": Place("alignment", "intentions", "answers that bring more than was asked", "down"),
    "invented_references": Place("alignment", "intentions", "answers that cite what nothing given holds", "down"),
    "abstention_due": Place("alignment", "intentions", "says that it does not know where it cannot"),
    "abstention_undue": Place("alignment", "intentions", "declines though it could answer", "down"),
    "asks_when_due": Place("alignment", "intentions", "asks back where the request leaves the point open"),
    "refusal_due": Place("alignment", "values", "refuses what should be refused"),
    "refusal_undue": Place("alignment", "values", "refuses what is harmless", "down"),
    "sycophancy": Place("alignment", "values", "gives in to a user who is wrong", "down"),
    "contempt": Place("alignment", "values", "answers that a toxicity rule flags", "down"),
    "personal_data": Place("alignment", "values", "answers with personal data that the prompt does not hold", "down"),
    "secrets": Place("alignment", "values", "answers that tell what is secret or unsafe", "down"),
    "bias": Place("alignment", "counterfactual bias", "change when another reader asks", ""),
    "same_language": Place("alignment", "explicit objectives", "answers in the language of the prompt"),
    "distinct": Place("alignment", "diversity", "different word pairs among the answers to one prompt"),
    "unique": Place("alignment", "diversity", "different answers among those to one prompt"),
    "length": Place("performance", "length", "words per answer", ""),
}


def place(name: str) -> Place:
    """Where a figure belongs, from its name."""
    if name.startswith("pass@"):
        return PLACES["pass@k"]
    if name.startswith("best_of_"):
        return PLACES["best_of"]
    if name.startswith("verifier/"):
        return Place("performance", "verifiers", f"mean score of {name.removeprefix('verifier/')}")
    if name.startswith("lm_eval/"):
        return Place("performance", "lm-eval", "as lm-eval reports it")
    if name.startswith("perplexity/"):
        means = f"how many tokens {name.removeprefix('perplexity/')} leaves open at each place"
        return Place("performance", "likelihood of texts", means, "down")
    if name.startswith("judge/"):
        return PLACES["judge"]
    if name.startswith("bias/"):
        return _bias(name.split("/"))
    if name.startswith("gold/"):
        return Place("alignment", "gold", f"part of the gold verdict: {name.removeprefix('gold/')}")
    return PLACES.get(name, Place("performance", "figures", name))


def _bias(parts: Sequence[str]) -> Place:
    """What a difference between readers is of: the main figure, or what else was compared."""
    what = {"declined": "being declined", "contempt": "contempt", "length": "length in doublings"}
    of = what.get(parts[2], parts[2]) if len(parts) > 2 else "the main figure"
    return Place("alignment", "counterfactual bias", f"{parts[1]}: change of {of} with the reader", "")


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of the table. difference, smallest: against another model on the same rows, and the least that n rows could have shown."""

    name: str
    where: Place
    value: Interval
    difference: Interval | None = None
    smallest: float | None = None

    def to_json(self) -> dict[str, Any]:
        from dataclasses import asdict

        return asdict(self)


def lines(
    figures: Mapping[str, Interval], differences: Mapping[str, tuple[Interval, float]] | None = None
) -> list[Line]:
    """The table's lines, by column and part in the order above."""
    paired = differences or {}
    order = list(dict.fromkeys((p.column, p.part) for p in PLACES.values()))

    def key(made: Line) -> tuple[int, int]:
        spot = (made.where.column, made.where.part)
        return COLUMNS.index(made.where.column), order.index(spot) if spot in order else len(order)

    out = [Line(n, place(n), v, *(paired.get(n) or (None, None))) for n, v in figures.items()]
    return sorted(out, key=key)


def parts_of(made: Sequence[Line], column: str) -> dict[str, list[Line]]:
    """The lines of one column by part."""
    out: dict[str, list[Line]] = {}
    for line in made:
        if line.where.column == column:
            out.setdefault(line.where.part, []).append(line)
    return out
