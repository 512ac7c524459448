"""Anchored preference optimisation, zero, without pairs: good answers up, bad answers down, against the reference itself.

KTO with its reference point z0 at 0: no mismatched answers have to be scored. D'Oosterlinck et al. 2024, arXiv:2408.06266.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import PositiveFloat

from posttrain.core.batch import Batch
from posttrain.core.group import Group
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.core.protocols import Engine
from posttrain.methods.kto import rated
from posttrain.objectives.labels import extras, label_metrics, labelled, not_labelled
from posttrain.objectives.reference import AGAINST_REFERENCE, with_reference
from posttrain.objectives.sequence import row_sum


class APOZeroUnpaired(Method):
    """Good answers up and bad answers down, without pairs and without KTO's reference point."""

    name: ClassVar[str] = "apo_zero_unpaired"
    sums: ClassVar[dict[str, Unit]] = {"value": "row"}
    atom: ClassVar[Atom] = "row"
    wants: ClassVar[str] = "answers labelled good or bad; pairs are read as one of each"
    learning_rate: ClassVar[tuple[float, float]] = (1e-6, 1e-5)
    symmetric: ClassVar[bool] = True

    beta: PositiveFloat = 0.1
    """Strength of the implied KL constraint: higher stays closer to the reference."""

    def needs(self) -> Needs:
        return AGAINST_REFERENCE

    def accepts(self, group: Group) -> str | None:
        return not_labelled(group)

    def arrange(self, groups: Sequence[Group]) -> Sequence[Group]:
        return labelled(groups)

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        return with_reference(batch.without(extras(batch)), engine)

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.logp is not None
        reward = self.beta * row_sum(out.logp - batch.data["ref"], batch)
        good = batch.data["label"] > 0.5
        value = torch.sigmoid(torch.where(good, -reward, reward))
        return Loss(sums={"value": (batch.data["row_weight"] * value).sum()}, metrics=label_metrics(reward, good))

    @classmethod
    def example(cls) -> Example:
        ref = {"ref": [0.0] * 15}
        value = 1 / (1 + 2.718281828459045**0.2) + 1 / (1 + 2.718281828459045**0.1)
        return Example(
            groups=rated(),
            anchors={
                "policy = reference": Anchor({"logp": [0.0] * 15}, {"value": 1.0}, ref),
                "vector": Anchor({"logp": [0.2] * 10 + [-0.2] * 5}, {"value": value}, ref, "1 - sigma(.2), sigma(-.1)"),
            },
        )
