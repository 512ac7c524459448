"""Good and bad answers: what the methods of unpaired labels read, and what they share.

A label is a response's own (`Response.label`); where no response of a group has one, pairs are read as labels: who only wins is good, who
only loses is bad, of a pair whose both sides were rejected both are bad. A tie says neither. Responses without a label are not trained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from posttrain.core.batch import Batch
from posttrain.core.group import Group, Response

if TYPE_CHECKING:
    from posttrain.objectives.pairs import Metrics


def labels_of(group: Group) -> list[bool | None]:
    """Good, bad or unknown, one per response."""
    given = [r.label for r in group.responses]
    if any(x is not None for x in given):
        return given
    wins, losses = set(), set()
    for pair in group.pairs():
        if pair.both_bad:
            losses |= {pair.i, pair.j}
        elif pair.p != 0.5:
            better, other = (pair.i, pair.j) if pair.p > 0.5 else (pair.j, pair.i)
            wins.add(better)
            losses.add(other)
    return [None if (i in wins) == (i in losses) else i in wins for i in range(len(given))]


def not_labelled(group: Group) -> str | None:
    """Why nothing can be learned from this group, or None."""
    return None if any(x is not None for x in labels_of(group)) else "no response is labelled good or bad"


def labelled(groups: Sequence[Group]) -> list[Group]:
    """The same groups with labels on their responses; those without one become untrained extras (kind ``unlabelled``)."""
    out = []
    for item in groups:
        told = [
            r if r.kind != "main" else replace(r, label=x, kind="main" if x is not None else "unlabelled")
            for r, x in zip(item.responses, labels_of(item))
        ]
        out.append(replace(item, responses=tuple(told)))
    return out


def mismatched(groups: Sequence[Group]) -> list[Group]:
    """Attach to each main response the response of the next row with another prompt, as an untrained extra of kind ``kl``.

    Rows are ordered by the hash of their content over all the groups, so that neither order nor rank decides. Groups that have such
    extras already stay as they are. Raises ValueError where all rows have one prompt.
    """
    if any(r.kind == "kl" for g in groups for r in g.responses):
        return list(groups)
    rows = sorted(
        (
            (_key(g, r), _prompt(g), g_index, r)
            for g_index, g in enumerate(groups)
            for r in g.responses
            if r.kind == "main"
        ),
        key=lambda row: row[0],
    )
    if rows and len({prompt for _, prompt, _, _ in rows}) < 2:
        raise ValueError(
            f"kto: all {len(rows)} answers of a step are to one prompt; z0 is measured on answers to other prompts: raise `batch`"
        )
    n = len(rows)
    partner = [0] * (2 * n)  # the next row with another prompt, found from the end over the rows laid out twice
    for at in range(2 * n - 2, -1, -1):
        same = rows[(at + 1) % n][1] == rows[at % n][1]
        partner[at] = partner[at + 1] if same else (at + 1) % n
    extras: list[list[Response]] = [[] for _ in groups]
    for at, (_, _, g_index, _) in enumerate(rows):
        extras[g_index].append(replace(rows[partner[at]][3], kind="kl", label=None, score=None))
    return [replace(g, responses=(*g.responses, *more)) for g, more in zip(groups, extras)]


def _prompt(group: Group) -> bytes:
    return np.asarray(group.prompt_tokens, dtype=np.int64).tobytes()


def _key(group: Group, response: Response) -> bytes:
    tokens, trained = np.asarray(response.tokens, dtype=np.int64), np.asarray(response.trained) > 0
    prompt = _prompt(group)
    body = len(prompt).to_bytes(8, "big") + prompt + tokens[trained].tobytes()
    return hashlib.blake2b(body, digest_size=16).digest()


def extras(batch: Batch) -> list[int]:
    """Rows that are not trained: what a method drops once preparation has read them."""
    return np.flatnonzero(~batch.main).tolist()


def label_metrics(reward: Tensor, good: Tensor) -> Metrics:
    """Mean reward of good and of bad answers, their gap's sides, and the share of good ones. reward, good [R]."""
    reward, bad = reward.detach(), ~good
    return {
        "reward_good": ((reward * good).sum(), good.sum()),
        "reward_bad": ((reward * bad).sum(), bad.sum()),
        "good": (good.sum(), len(good)),
    }
