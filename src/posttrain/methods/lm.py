"""Language modelling: next-token prediction on every token of a document.

Pretraining and continued pretraining. Documents are groups of one response whose prompt is BOS (or the separator).
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from posttrain.core.batch import Batch
from posttrain.core.group import Group, Response
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output


class LM(Method):
    """Next-token prediction on documents."""

    name: ClassVar[str] = "lm"
    sums: ClassVar[dict[str, Unit]] = {"nll": "token"}
    atom: ClassVar[Atom] = "row"
    wants: ClassVar[str] = "documents (`text`)"
    learning_rate: ClassVar[tuple[float, float]] = (3e-4, 1e-3)
    symmetric: ClassVar[bool] = True

    def needs(self) -> Needs:
        return Needs(logp=True)

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.logp is not None
        nll = -out.logp
        return Loss(sums={"nll": (batch.data["weight"] * nll).sum()}, metrics={"nll": (nll.detach().sum(), batch.N)})

    @classmethod
    def example(cls) -> Example:
        return Example(
            groups=documents(),
            anchors={
                "uniform over 8": Anchor(
                    {"logp": [-math.log(8)] * 11}, {"nll": 11 * math.log(8)}, source="a uniform model has loss log V"
                )
            },
        )


def documents() -> list[Group]:
    """Two tiny documents, 6 and 5 tokens after BOS, for the laws."""
    rng = np.random.default_rng(0)
    texts = [rng.integers(3, 60, 6), rng.integers(3, 60, 5)]
    return [
        Group((), (Response(tokens=t, trained=np.ones(len(t), dtype=bool)),), prompt_tokens=np.asarray([1]))
        for t in texts
    ]
