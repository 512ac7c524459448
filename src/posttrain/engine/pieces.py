"""How a batch is cut into the pieces that a forward takes: in order and even, or spread over hands so that none waits for another."""

from __future__ import annotations

import math

import numpy as np

from posttrain.core.batch import Batch


def in_order(batch: Batch, atom: str, budget: int, count: int) -> list[Batch]:
    """About `count` even pieces of at most `budget` stream tokens, in order; an atom larger than that stays whole."""
    atoms: list[tuple[list[int], int]] = []  # rows, and the tokens of their answers
    group_of = batch.group_of
    for r in range(batch.R):
        rows, answers = [r], int(batch.length[r])
        if atom == "group" and atoms and group_of[atoms[-1][0][-1]] == group_of[r]:
            before, size = atoms.pop()
            rows, answers = [*before, r], size + answers
        atoms.append((rows, answers))
    pieces, held, even = [list[int]()], 0, batch.T / count
    for rows, answers in atoms:
        g, prompt = group_of[rows[0]], int(batch.prompt_length[group_of[rows[0]]])
        known = bool(pieces[-1]) and group_of[pieces[-1][-1]] == g  # a piece holds a prompt once
        size = answers if known else prompt + answers
        if pieces[-1] and (held + size > budget or held + size / 2 > even):
            pieces.append([])
            held, size = 0, prompt + answers
        pieces[-1].extend(rows)
        held += size
    return [batch.take(rows) for rows in pieces]


def spread(batch: Batch, budget: int, hands: int) -> list[Batch] | None:
    """As many pieces for each hand, of whole groups and nearly equal: the largest group first, to the smallest piece so far.

    None where whole groups do not come out even: groups are few, or larger than the budget.
    """
    sizes = batch.prompt_length + np.bincount(batch.group_of, weights=batch.length, minlength=batch.G).astype(np.int64)
    order = np.lexsort((np.arange(batch.G), -sizes))
    for count in range(hands * math.ceil(batch.T / budget / hands), batch.G + 1, hands):
        load, members = np.zeros(count, dtype=np.int64), [list[int]() for _ in range(count)]
        for g in order:
            piece = int(load.argmin())
            members[piece].append(int(g))
            load[piece] += sizes[g]
        if load.max() <= budget:
            return [batch.groups(piece) for piece in members] if load.max() <= UNEVEN * load.mean() else None
    return None


UNEVEN = 1.1
"""How much larger than the mean the largest of the pieces may be."""
