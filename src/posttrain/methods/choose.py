"""Multiple choice: one of several answers to a question is right.

The question with each choice gets a score; the loss is the cross-entropy of the softmax over the choices of one question (the way of
SWAG, Zellers et al. 2018, arXiv:1808.05326). Questions may have different numbers of choices.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch

from posttrain.core.batch import Batch
from posttrain.core.group import Group, Response
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.methods.extract_answer import row_log_sum


class MultipleChoice(Method):
    """Learn which of several answers to a question is right."""

    name: ClassVar[str] = "multiple_choice"
    task: ClassVar[str] = "multiple_choice"
    sums: ClassVar[dict[str, Unit]] = {"nll": "group"}
    atom: ClassVar[Atom] = "group"
    wants: ClassVar[str] = "questions with choices, one of them right (`question`, `choices`, `answer`)"
    learning_rate: ClassVar[tuple[float, float]] = (5e-5, 5e-4)
    symmetric: ClassVar[bool] = True

    def needs(self) -> Needs:
        return Needs(score=1)

    def accepts(self, group: Group) -> str | None:
        right = [r.label for r in group.responses]
        if len(right) < 2:
            return "fewer than two choices"
        return None if right.count(True) == 1 else "not exactly one choice is right"

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.score is not None
        right = batch.data["label"] == 1
        logp = out.score[:, 0] - row_log_sum(out.score, batch.group, batch.G)[batch.group, 0]
        nll = -torch.where(right, logp * batch.data["row_weight"], 0.0)
        best = out.score.new_full((batch.G,), -math.inf)
        best = best.scatter_reduce(0, batch.group, out.score[:, 0].detach(), "amax")
        hits = (right & (out.score[:, 0].detach() >= best[batch.group])).sum()
        return Loss(
            sums={"nll": nll.sum()}, metrics={"nll": (nll.detach().sum(), batch.G), "accuracy": (hits, batch.G)}
        )

    @classmethod
    def example(cls) -> Example:
        return Example(
            groups=choices(),
            anchors={
                "even": Anchor(
                    {"score": [[0.0]] * 5}, {"nll": math.log(3) + math.log(2)}, source="three choices and two"
                ),
                "sure and right": Anchor({"score": [[0.0], [1e9], [0.0], [1e9], [0.0]]}, {"nll": 0.0}, source="p = 1"),
            },
        )


def choices() -> list[Group]:
    """Two questions with three choices and two, for the laws."""
    rng = np.random.default_rng(24)

    def one(right: int, *lengths: int) -> Group:
        made = [
            Response(tokens=rng.integers(3, 60, n), trained=np.ones(n, dtype=bool), label=i == right)
            for i, n in enumerate(lengths)
        ]
        return Group((), tuple(made), prompt_tokens=rng.integers(3, 60, 4))

    return [one(1, 3, 2, 4), one(0, 5, 3)]
