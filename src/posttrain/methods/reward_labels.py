"""Reward models from single judgements: a score whose logistic is the probability that an answer is good.

Cross-entropy of good and bad labels with weights for the classes and for each judgement (its annotator's weight). Pairs are read as a good
and a bad answer. As verifiers are trained: Cobbe et al. 2021, arXiv:2110.14168.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import NonNegativeFloat
from torch.nn.functional import logsigmoid

from posttrain.core.batch import Batch
from posttrain.core.group import Group
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.core.protocols import Engine
from posttrain.methods.kto import rated
from posttrain.objectives.labels import extras, label_metrics, labelled, not_labelled


class RewardLabels(Method):
    """Learn a score from answers labelled good or bad."""

    name: ClassVar[str] = "reward_labels"
    sums: ClassVar[dict[str, Unit]] = {"class": "row"}
    atom: ClassVar[Atom] = "row"
    wants: ClassVar[str] = "answers labelled good or bad; pairs are read as one of each"
    learning_rate: ClassVar[tuple[float, float]] = (1e-5, 1e-4)
    symmetric: ClassVar[bool] = True

    good: NonNegativeFloat = 1.0
    """Weight of good answers; raise it where they are rare."""
    bad: NonNegativeFloat = 1.0
    """Weight of bad answers; raise it where they are rare."""

    def needs(self) -> Needs:
        return Needs(score=1)

    def accepts(self, group: Group) -> str | None:
        return not_labelled(group)

    def arrange(self, groups: Sequence[Group]) -> Sequence[Group]:
        return labelled(groups)

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        return batch.without(extras(batch))

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.score is not None
        score = out.score[:, 0]
        good = batch.data["label"] > 0.5
        loss = -torch.where(good, self.good * logsigmoid(score), self.bad * logsigmoid(-score))
        right = ((score > 0) == good).float()
        return Loss(
            sums={"class": (batch.data["row_weight"] * loss).sum()},
            metrics=label_metrics(score, good) | {"accuracy": (right.sum(), len(right))},
        )

    @classmethod
    def example(cls) -> Example:
        apart = {"score": [[1.0], [-2.0]]}
        one, two = math.log1p(math.exp(-1)), math.log1p(math.exp(-2))
        return Example(
            groups=rated(),
            anchors={
                "no opinion": Anchor({"score": [[0.0], [0.0]]}, {"class": 2 * math.log(2)}, source="log 2 each"),
                "right twice": Anchor(apart, {"class": one + two}),
                "weights": Anchor(apart, {"class": 3 * one + 0.5 * two}, fields={"good": 3.0, "bad": 0.5}),
                "annotators": Anchor(apart, {"class": 0.2 * one + two}, {"row_weight": [0.2, 1.0]}),
            },
            variants=({"good": 2.0},),
        )
