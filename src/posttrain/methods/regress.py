"""Regression: a number for a whole text.

Huber's loss (1964): half the squared distance up to `delta`, then linear, so that a wild number in the data pulls with bounded force.
Texts without a number take no part and are in no denominator.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveFloat
from torch import where
from torch.nn.functional import huber_loss

from posttrain.core.batch import Batch
from posttrain.core.group import Group
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.core.protocols import Engine
from posttrain.methods.reward_scores import scored


class Regression(Method):
    """Learn a number for a whole text."""

    name: ClassVar[str] = "regression"
    task: ClassVar[str] = "sequence_classification"
    sums: ClassVar[dict[str, Unit]] = {"distance": "known"}
    atom: ClassVar[Atom] = "row"
    wants: ClassVar[str] = "texts with a number each (`text`, `score`)"
    learning_rate: ClassVar[tuple[float, float]] = (5e-5, 5e-4)
    symmetric: ClassVar[bool] = True

    delta: PositiveFloat = 1e6
    """Distance beyond which the pull no longer grows; the default is plain squares."""

    def needs(self) -> Needs:
        return Needs(score=1)

    def accepts(self, group: Group) -> str | None:
        known = any(r.score is not None and r.score.value is not None for r in group.responses)
        return None if known else "no text has a number"

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        return batch.counting("row", known=(~batch.data["score"].isnan()).float())

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.score is not None
        known = ~batch.data["score"].isnan()
        guess, goal = out.score[:, 0], batch.data["score"].nan_to_num().to(out.score.dtype)
        distance = where(known, huber_loss(guess, goal, reduction="none", delta=self.delta), 0.0)
        off = where(known, (guess - goal).detach().abs(), 0.0).sum()
        return Loss(
            sums={"distance": (batch.data["row_weight"] * distance).sum()}, metrics={"off_by": (off, known.sum())}
        )

    @classmethod
    def example(cls) -> Example:
        return Example(
            groups=scored(),
            anchors={
                "off by 1 and 2": Anchor({"score": [[1.5], [0.0], [1.0]]}, {"distance": 2.5}, source="1/2 (1 + 4)"),
                "linear beyond 1": Anchor(
                    {"score": [[1.5], [0.0], [1.0]]},
                    {"distance": 2.0},
                    fields={"delta": 1.0},
                    source="1/2 + 1 (2 - 1/2)",
                ),
            },
            variants=[{"delta": 0.5}],
        )
