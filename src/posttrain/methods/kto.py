"""Kahneman-Tversky optimisation: learn from answers labelled good or bad, one at a time.

Good answers should rise above the policy's usual distance z0 from the reference, bad ones fall below it; both saturate. z0 is measured
once a step, on answers to other prompts. Pairs are read as a good and a bad answer. Ethayarajh et al. 2024, arXiv:2402.01306.
Keep desirable * good answers within 1 to 4/3 of undesirable * bad ones (metric `good` shows the share).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveFloat

from posttrain.core.batch import Batch
from posttrain.core.group import Group, Response
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.core.protocols import Engine
from posttrain.objectives.labels import extras, label_metrics, labelled, mismatched, not_labelled
from posttrain.objectives.reference import AGAINST_REFERENCE, with_reference
from posttrain.objectives.sequence import row_sum


class KTO(Method):
    """Learn from single answers labelled good or bad."""

    name: ClassVar[str] = "kto"
    sums: ClassVar[dict[str, Unit]] = {"value": "row"}
    atom: ClassVar[Atom] = "row"
    wants: ClassVar[str] = "answers labelled good or bad; pairs are read as one of each"
    learning_rate: ClassVar[tuple[float, float]] = (1e-6, 1e-5)
    symmetric: ClassVar[bool] = True

    beta: PositiveFloat = 0.1
    """Strength of the implied KL constraint: higher stays closer to the reference."""
    desirable: NonNegativeFloat = 1.0
    """Weight of good answers; raise it where they are rare."""
    undesirable: NonNegativeFloat = 1.0
    """Weight of bad answers; raise it where they are rare."""

    def needs(self) -> Needs:
        return AGAINST_REFERENCE

    def accepts(self, group: Group) -> str | None:
        return not_labelled(group)

    def arrange(self, groups: Sequence[Group]) -> Sequence[Group]:
        return mismatched(labelled(groups))

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        batch = with_reference(batch, engine)
        others = batch.take(extras(batch))
        policy = engine.score(others, Needs(logp=True)).logp
        assert policy is not None
        lift = row_sum(policy - others.data["ref"], others)
        total = engine.total({"lift": float(lift.sum()), "rows": float(others.R)})
        z0 = max(0.0, total["lift"] / max(total["rows"], 1.0))
        return batch.plus("row", z0=torch.full((batch.R,), z0, device=batch.ids.device)).without(extras(batch))

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.logp is not None
        gap = self.beta * (row_sum(out.logp - batch.data["ref"], batch) - batch.data["z0"])
        good = batch.data["label"] > 0.5
        value = torch.where(good, self.desirable * torch.sigmoid(-gap), self.undesirable * torch.sigmoid(gap))
        metrics = label_metrics(gap + self.beta * batch.data["z0"], good)
        return Loss(
            sums={"value": (batch.data["row_weight"] * value).sum()},
            metrics=metrics | {"z0": (batch.data["z0"].sum(), batch.R)},
        )

    @classmethod
    def example(cls) -> Example:
        vector, ref = {"logp": [0.2] * 10 + [-0.2] * 5}, [0.0] * 15
        paper = "closed form: 1 - sigma(0.15) for both"
        return Example(
            groups=rated(),
            anchors={
                "policy = reference": Anchor({"logp": ref}, {"value": 1.0}, {"ref": ref, "z0": [0.0, 0.0]}),
                "vector": Anchor(vector, {"value": 2 * 0.4625702}, {"ref": ref, "z0": [0.5, 0.5]}, paper),
                "weights": Anchor(
                    {"logp": ref},
                    {"value": 0.5 * 1.2 + 0.5 * 0.7},
                    {"ref": ref, "z0": [0.0, 0.0]},
                    fields={"desirable": 1.2, "undesirable": 0.7},
                ),
            },
            variants=({"desirable": 1.3, "undesirable": 0.7},),
        )


def rated() -> list[Group]:
    """A good answer of 10 tokens to one prompt and a bad one of 5 to another, for the laws."""
    rng = np.random.default_rng(4)

    def one(n: int, label: bool, prompt: int) -> Group:
        answer = Response(tokens=rng.integers(3, 60, n), trained=np.ones(n, dtype=bool), label=label)
        return Group((), (answer,), prompt_tokens=rng.integers(3, 60, prompt))

    return [one(10, True, 6), one(5, False, 3)]
