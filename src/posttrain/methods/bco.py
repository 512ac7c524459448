"""Binary classifier optimisation: tell good from bad answers by their implied reward, against a threshold that follows both.

The threshold is the mean of both classes' mean rewards, remembered over steps and bias-corrected; with it the logistic loss of single
labels bounds DPO's. Jung et al. 2024, arXiv:2404.04656. Leaves out: the density ratio for labels from other prompts (its section 4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, PositiveFloat, PrivateAttr
from torch.nn.functional import logsigmoid

from posttrain.core.batch import Batch
from posttrain.core.group import Group
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.core.protocols import Engine
from posttrain.methods.kto import rated
from posttrain.objectives.labels import extras, label_metrics, labelled, not_labelled
from posttrain.objectives.reference import AGAINST_REFERENCE, with_reference
from posttrain.objectives.sequence import row_sum


class BCO(Method):
    """Learn from single labels as a classifier whose threshold moves with the rewards."""

    name: ClassVar[str] = "bco"
    sums: ClassVar[dict[str, Unit]] = {"class": "row"}
    atom: ClassVar[Atom] = "row"
    wants: ClassVar[str] = "answers labelled good or bad; pairs are read as one of each"
    learning_rate: ClassVar[tuple[float, float]] = (1e-6, 1e-5)
    symmetric: ClassVar[bool] = True

    beta: PositiveFloat = 0.1
    """Strength of the implied KL constraint: higher stays closer to the reference."""
    memory: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """How much of the threshold a step keeps; 0 takes the last step's rewards alone."""

    _means: dict[str, float] = PrivateAttr(default_factory=dict)

    def needs(self) -> Needs:
        return AGAINST_REFERENCE

    def accepts(self, group: Group) -> str | None:
        return not_labelled(group)

    def arrange(self, groups: Sequence[Group]) -> Sequence[Group]:
        return labelled(groups)

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        batch = with_reference(batch.without(extras(batch)), engine)
        threshold = torch.full((batch.R,), self.threshold, device=batch.ids.device)
        return batch.plus("row", threshold=threshold)

    @property
    def threshold(self) -> float:
        """Half the sum of the remembered mean rewards of good and bad answers; 0 before the first step, where rewards are 0."""
        return 0.5 * sum(
            self._means[c] / self._means[f"{c}.seen"] for c in ("reward_good", "reward_bad") if c in self._means
        )

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.logp is not None
        reward = self.beta * row_sum(out.logp - batch.data["ref"], batch)
        above = reward - batch.data["threshold"]
        good = batch.data["label"] > 0.5
        loss = -logsigmoid(torch.where(good, above, -above))
        return Loss(
            sums={"class": (batch.data["row_weight"] * loss).sum()},
            metrics=label_metrics(reward, good) | {"threshold": (batch.data["threshold"].sum(), batch.R)},
        )

    def after(self, step: int, metrics: Mapping[str, float], engine: Engine) -> None:
        for side in ("reward_good", "reward_bad"):
            if side in metrics:  # a step may hold one class only
                for name, value in ((side, metrics[side]), (f"{side}.seen", 1.0)):
                    self._means[name] = self.memory * self._means.get(name, 0.0) + (1 - self.memory) * value

    def state(self) -> dict[str, Any]:
        return dict(self._means)

    def load(self, state: Mapping[str, Any]) -> None:
        self._means.clear()
        self._means.update(state)

    @classmethod
    def example(cls) -> Example:
        vector, ref = {"logp": [0.2] * 10 + [-0.2] * 5}, [0.0] * 15
        shifted = math.log1p(math.exp(-0.15)) + math.log1p(math.exp(-0.15))
        return Example(
            groups=rated(),
            anchors={
                "policy = reference": Anchor(
                    {"logp": ref}, {"class": 2 * math.log(2)}, {"ref": ref, "threshold": [0.0, 0.0]}
                ),
                "vector": Anchor(vector, {"class": 1.242536}, {"ref": ref, "threshold": [0.0, 0.0]}, "as link bco"),
                "threshold between them": Anchor(vector, {"class": shifted}, {"ref": ref, "threshold": [0.05, 0.05]}),
            },
        )
