"""Categories from several annotators who err in their own ways (Dawid and Skene 1979), by EM.

Each annotator has a table of what they say for each truth. Dirichlet prior: 2 on the diagonal and 1 elsewhere (one more right answer for
each); start from the majority; stop when no posterior moves by 1e-6, or after 200 rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DawidSkene:
    """posterior [items, k]: of the truth. confusion [annotators, truth, said]. share [k]: of each category. rounds: used."""

    posterior: np.ndarray
    confusion: np.ndarray
    share: np.ndarray
    rounds: int


def fit(
    item: Sequence[int], who: Sequence[int], said: Sequence[int], k: int, diagonal: float = 2.0, elsewhere: float = 1.0,
    rounds: int = 200, tolerance: float = 1e-6,
) -> DawidSkene:  # fmt: skip
    """Truth from labels given as three equal columns of whole numbers. A prior of 1 and 1 is maximum likelihood."""
    i, a, s = (np.asarray(x, dtype=np.int64) for x in (item, who, said))
    if not i.size:
        raise ValueError("no label was given")
    items, annotators = int(i.max()) + 1, int(a.max()) + 1
    votes = np.zeros((items, k))
    np.add.at(votes, (i, s), 1.0)
    posterior = votes / np.maximum(votes.sum(axis=1, keepdims=True), 1)
    extra = np.full((k, k), elsewhere - 1.0) + np.eye(k) * (diagonal - elsewhere)
    confusion, share = np.zeros((annotators, k, k)), np.zeros(k)
    done = 0
    while done < rounds:
        done += 1
        confusion = np.repeat(extra[None], annotators, axis=0)
        np.add.at(confusion.transpose(0, 2, 1), (a, s), posterior[i])
        total = confusion.sum(axis=2, keepdims=True)
        confusion = np.where(total > 0, confusion / np.where(total > 0, total, 1), 1 / k)
        share = posterior.mean(axis=0)
        log = np.tile(np.log(np.maximum(share, 1e-300)), (items, 1))
        np.add.at(log, i, np.log(np.maximum(confusion, 1e-300))[a, :, s])
        log -= log.max(axis=1, keepdims=True)
        new = np.exp(log)
        new /= new.sum(axis=1, keepdims=True)
        moved = float(np.abs(new - posterior).max())
        posterior = new
        if moved < tolerance:
            break
    return DawidSkene(posterior, confusion, share, done)
