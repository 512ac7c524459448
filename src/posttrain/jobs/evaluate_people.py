"""What people said of a model's answers, read from a ledger: the first figure of the alignment column.

An answer of the ledger is the model's own where its text is one that the model gave to the same prompt in this evaluation, or where
`by` names the model. Its figure is the share of other answers, in the same judgment, that it was put above; ties count half. Judgments
of one prompt are averaged, so a prompt counts once whoever judged it. Leaves out items in which all answers are the model's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posttrain.evals.row_figures import fold

Tiers = Sequence[Sequence[int]]


def human_figures(ledger: str, model: str, rows: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """Per row of an evaluation: the model's mean win rate among people, None where nobody judged it against another.

    Raises ValueError where the ledger holds no judgment of this model at all.
    """
    said = {r["prompt_hash"]: {fold(a) for a in r["answers"]} for r in rows}
    found: dict[str, list[float]] = {}
    for prompt_hash, own, tiers in _judged(ledger, model, said):
        value = win_rate(tiers, own)
        if value is not None:
            found.setdefault(prompt_hash, []).append(value)
    if not found:
        raise ValueError(
            f"ledger: {ledger} holds no judgment of this model's answers to these prompts; annotate answers that it gave, or leave it out"
        )
    return [float(np.mean(found[h])) if (h := r["prompt_hash"]) in found else None for r in rows]


def _judged(ledger: str, model: str, said: Mapping[str, set[str]]) -> list[tuple[str, set[int], Tiers]]:
    """(prompt hash, which answers are the model's, ranking by answer number) of every judgment that ranks."""
    from posttrain.feedback import items, queues, records
    from posttrain.jobs.feedback import opened

    out: list[tuple[str, set[int], Tiers]] = []
    with opened(ledger).read() as connection:
        for queue in queues.queues(connection):
            by_item = records.by_item(records.records(connection, queue.id))
            for item in items.each(connection, queue):
                known = said.get(item.group.prompt_hash)
                if known is None or item.id not in by_item:
                    continue
                own = {i for i, r in enumerate(item.group.responses) if r.by == model or fold(r.text) in known}
                out += [(item.group.prompt_hash, own, r.tiers) for r in by_item[item.id] if r.tiers is not None]
    return out


def win_rate(tiers: Tiers, own: set[int]) -> float | None:
    """Share of pairs (own, other) that own wins in one ranking, ties half; None where there is no such pair.

    >>> win_rate([[1], [0, 2]], {0}), win_rate([[0], [1]], {0, 1})
    (0.25, None)
    """
    place = {key: at for at, tier in enumerate(tiers) for key in tier}
    pairs = [(place[a], place[b]) for a in place if a in own for b in place if b not in own]
    return float(np.mean([1.0 if a < b else 0.5 if a == b else 0.0 for a, b in pairs])) if pairs else None
