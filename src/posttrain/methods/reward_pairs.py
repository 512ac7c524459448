"""Reward models from rankings, read as all their pairs.

The mean of the Bradley-Terry losses over the C(k, 2) pairs of a group, which stays whole so that no answer is seen twice in an epoch.
Ouyang et al. 2022, arXiv:2203.02155. Method `reward` reads a ranking by Plackett-Luce instead.
"""

from __future__ import annotations

import math
from typing import ClassVar

from posttrain.core.batch import Batch
from posttrain.core.group import Group
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.methods.listwise import rankings
from posttrain.objectives.pairs import not_compared, over_groups
from posttrain.objectives.ranking import agreement, bradley_terry


class RewardPairs(Method):
    """Learn a score from all pairs of a ranking."""

    name: ClassVar[str] = "reward_pairs"
    sums: ClassVar[dict[str, Unit]] = {"pairs": "group"}
    atom: ClassVar[Atom] = "group"
    wants: ClassVar[str] = "rankings of k with ties; pairs, soft labels"
    learning_rate: ClassVar[tuple[float, float]] = (1e-5, 1e-4)
    symmetric: ClassVar[bool] = True

    def needs(self) -> Needs:
        return Needs(score=1)

    def accepts(self, group: Group) -> str | None:
        return not_compared(group)

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.score is not None
        score = out.score[:, 0]
        i, j = batch.pair[:, 0], batch.pair[:, 1]
        loss = bradley_terry(score[i], score[j], batch.data["p"], batch.data["margin"])
        return Loss(
            sums={"pairs": over_groups(loss, batch)},
            metrics=agreement(score, batch) | {"score_mean": (score.detach().sum(), batch.R)},
        )

    @classmethod
    def example(cls) -> Example:
        pair = {d: math.log1p(math.exp(-d)) for d in (1, 2, 3)}
        return Example(
            groups=rankings(),
            anchors={
                "equal scores": Anchor({"score": [[0.4]] * 3}, {"pairs": math.log(2)}, source="log 2"),
                "in order": Anchor({"score": [[1.0], [2.0], [-1.0]]}, {"pairs": (pair[1] + pair[2] + pair[3]) / 3}),
            },
        )
