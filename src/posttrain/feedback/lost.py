"""What a shape of another tool cannot carry of a ledger, counted: nothing is left out of an export in silence.

Every count is of things that were there and are not in the file: a ranking that a list of labels has no place for, a comment, the order
in which answers were shown. The ledger's own JSONL carries everything, so it has no entry here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from posttrain.core.group import Group

Row = Mapping[str, Any]
OF_JUDGMENT = {
    "comment": "comment", "flag": "flag", "confidence": "confidence", "spans": "marked passages", "display": "order as shown",
    "team": "group of a person", "propensity": "probability of being drawn", "created": "time of a judgment",
    "seconds": "time taken", "ratings": "rating", "labels": "label, good or bad", "text": "written text",
}  # fmt: skip
"""Fields of a judgment in the ledger's JSONL, in words."""
CARRIED: dict[str, frozenset[str]] = {
    "argilla": frozenset(),
    "label-studio": frozenset({"seconds"}),
    "csv": frozenset({"comment", "flag", "seconds", "ratings", "labels", "text"}),
}


def of_judgments(shape: str, table: Sequence[Row]) -> Counter[str]:
    """Of an export that holds single judgments. table: rows of `exchange.rows`."""
    lost: Counter[str] = Counter()
    carried = CARRIED.get(shape)
    if carried is None:
        return lost
    for row in table:
        lost["roles of the turns of a prompt"] += len(row["prompt"]) > 1
        lost["item without a judgment"] += shape == "csv" and not row["judgments"]
        lost["who wrote an answer"] += sum("by" in r for r in row["responses"])
        lost["facts of an item"] += bool(row.get("facts"))
        for said in row["judgments"]:
            lost["judgment that is no ranking"] += shape != "csv" and not said.get("ranking")
            for name, words in OF_JUDGMENT.items():
                lost[words] += name in said and name not in carried
    return +lost


def of_labels(shape: str, groups: Sequence[Group]) -> Counter[str]:
    """Of an export that holds labels. groups: of `labels.labels`."""
    lost: Counter[str] = Counter()
    count = COUNTED.get(shape)
    for group in groups if count is not None else ():
        assert count is not None
        count(group, lost)
    return +lost


def _hh(group: Group, lost: Counter[str]) -> None:
    lost["system, tool or document turn"] += sum(m.role not in ("user", "assistant") for m in group.prompt)
    for p in group.preferences:
        lost["both answers bad"] += p.both_bad
        lost["tie"] += p.p == 0.5 and not p.both_bad
        lost["how sure people are of a pair"] += p.p not in (0.5, 1.0)
        lost["weight of a pair"] += p.weight != 1.0
    _facts(group, lost)


def _instruction(group: Group, lost: Counter[str]) -> None:
    lost["roles of the turns of a prompt"] += len(group.prompt) > 1
    lost["preferences (scores are kept)"] += len(group.preferences)
    _facts(group, lost)


def _ranks(group: Group, lost: Counter[str]) -> None:
    lost["distances between ranks"] += sum(r.score is not None for r in group.responses) > 0
    lost["who wrote an answer"] += sum(r.by is not None for r in group.responses)
    _instruction(group, lost)


def _facts(group: Group, lost: Counter[str]) -> None:
    lost["facts of an item"] += bool(group.facts)


COUNTED: dict[str, Callable[[Group, Counter[str]], None]] = {
    "hh-rlhf": _hh,
    "ultrafeedback": _instruction,
    "lesson": _ranks,
}
