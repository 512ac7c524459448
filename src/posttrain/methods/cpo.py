"""Contrastive preference optimisation: DPO's loss without a reference, held in place by the likelihood of the chosen answer.

Xu et al. 2024, arXiv:2401.08417. Links are those of DPO over plain log-probs; conservative is its label smoothing.
"""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from posttrain.core.batch import Batch
from posttrain.core.group import Group
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.core.protocols import Engine
from posttrain.core.recipe import one_of
from posttrain.methods.dpo import pairs
from posttrain.objectives.links import Link, Sigmoid
from posttrain.objectives.pairs import (
    Ratios,
    chosen_nll,
    counting_chosen,
    expected,
    not_compared,
    over_groups,
    pair_metrics,
)
from posttrain.objectives.sequence import row_sum


class CPO(Method):
    """Learn from pairs without a reference: preference of log-probs plus likelihood of the chosen answer."""

    name: ClassVar[str] = "cpo"
    sums: ClassVar[dict[str, Unit]] = {"pair": "group", "nll": "chosen"}
    atom: ClassVar[Atom] = "group"
    wants: ClassVar[str] = "pairs (chosen, rejected), soft labels, rankings"
    learning_rate: ClassVar[tuple[float, float]] = (1e-6, 1e-5)
    symmetric: ClassVar[bool] = True

    beta: PositiveFloat = 0.1
    """How steeply the difference of log-probs enters the loss."""
    link: one_of(Link) = Sigmoid()  # type: ignore[valid-type]
    """Shape of the loss: sigmoid, conservative (label smoothing), hinge, ipo (on means)."""
    nll: NonNegativeFloat = 1.0
    """Weight of the likelihood of chosen answers, which stands in for a reference."""

    def needs(self) -> Needs:
        return Needs(logp=True)

    def accepts(self, group: Group) -> str | None:
        return not_compared(group)

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        return counting_chosen(batch)

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.logp is not None
        total = row_sum(out.logp, batch)
        loss = expected(self._of_pair, Ratios.of(total, batch), batch)
        return Loss(
            sums={"pair": over_groups(loss, batch), "nll": self.nll * chosen_nll(out.logp, batch)},
            metrics=pair_metrics(self.beta * total, out.logp, batch),
        )

    def _of_pair(self, pair: Ratios, margin: Tensor) -> Tensor:
        return self.link(pair, self.beta, margin)

    @classmethod
    def example(cls) -> Example:
        apart = {"logp": [-0.2] * 10 + [-1.0] * 5}  # sums -2 and -5
        return Example(
            groups=pairs(),
            anchors={
                "equal sums": Anchor({"logp": [-0.5] * 10 + [-1.0] * 5}, {"pair": math.log(2), "nll": 5.0}),
                "3 nats apart": Anchor(
                    apart, {"pair": math.log1p(math.exp(-0.3)), "nll": 2.0}, source="as DPO's vector"
                ),
                "hinge": Anchor(apart, {"pair": 0.7, "nll": 1.0}, fields={"link": "hinge", "nll": 0.5}),
            },
            variants=({"link": "ipo", "nll": 0.0},),
        )
