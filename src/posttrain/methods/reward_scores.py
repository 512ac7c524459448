"""Reward models from given scores: regression.

Half the squared difference of the model's score and the given one (a rating, a measurement, another model's reward). Answers that could not
be scored take no part and are in no denominator. As in HelpSteer2, Wang et al. 2024, arXiv:2406.08673.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from posttrain.core.batch import Batch
from posttrain.core.group import Group, Response, Score
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.core.protocols import Engine


class RewardScores(Method):
    """Learn a score by regression on given scores."""

    name: ClassVar[str] = "reward_scores"
    sums: ClassVar[dict[str, Unit]] = {"square": "scored"}
    atom: ClassVar[Atom] = "row"
    wants: ClassVar[str] = "answers with scores"
    learning_rate: ClassVar[tuple[float, float]] = (1e-5, 1e-4)
    symmetric: ClassVar[bool] = True

    def needs(self) -> Needs:
        return Needs(score=1)

    def accepts(self, group: Group) -> str | None:
        scored = any(r.score is not None and r.score.value is not None for r in group.responses)
        return None if scored else "no response has a score"

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        return batch.counting("row", scored=(~batch.data["score"].isnan()).float())

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.score is not None
        scored = ~batch.data["score"].isnan()
        gap = torch.where(scored, out.score[:, 0] - batch.data["score"].nan_to_num(), 0.0)
        gone = gap.detach()
        return Loss(
            sums={"square": (0.5 * batch.data["row_weight"] * gap**2).sum()},
            metrics={"off_by": (gone.abs().sum(), scored.sum()), "score_mean": (out.score.detach().sum(), batch.R)},
        )

    @classmethod
    def example(cls) -> Example:
        return Example(
            groups=scored(),
            anchors={
                "hit": Anchor(
                    {"score": [[0.5], [9.0], [-1.0]]}, {"square": 0.0}, source="an unscored answer adds nothing"
                ),
                "off by 1 and 2": Anchor({"score": [[1.5], [0.0], [1.0]]}, {"square": 2.5}, source="1/2 (1 + 4)"),
            },
        )


def scored() -> list[Group]:
    """Two prompts, three answers with scores 0.5, none and -1, for the laws."""
    rng = np.random.default_rng(8)

    def answer(n: int, value: float | None) -> Response:
        return Response(tokens=rng.integers(3, 60, n), trained=np.ones(n, dtype=bool), score=Score(value))

    return [
        Group((), (answer(4, 0.5), answer(3, None)), prompt_tokens=rng.integers(3, 60, 5)),
        Group((), (answer(6, -1.0),), prompt_tokens=rng.integers(3, 60, 2)),
    ]
