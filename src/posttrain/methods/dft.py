"""Dynamic fine-tuning: imitate an answer's tokens in proportion to how likely they are already (Wu et al. 2025, arXiv:2508.05629).

Plain likelihood pulls hardest at the tokens that the model finds least likely, since its gradient is that of p divided by p. Weighing
each token by its own probability, held fixed, takes that factor away: the gradient equals that of the mean probability. It forgets less
than `sft` and learns less from answers that are far from what the model says.
"""

from __future__ import annotations

import math
from typing import ClassVar

from posttrain.core.batch import Batch
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.methods.sft import answers


class DFT(Method):
    """Imitate answers, most where they are already likely: less is forgotten."""

    name: ClassVar[str] = "dft"
    sums: ClassVar[dict[str, Unit]] = {"value": "token"}
    atom: ClassVar[Atom] = "row"
    wants: ClassVar[str] = "prompts with one answer or more (all are imitated)"
    learning_rate: ClassVar[tuple[float, float]] = (2e-5, 2e-4)
    symmetric: ClassVar[bool] = True

    def needs(self) -> Needs:
        return Needs(logp=True)

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.logp is not None
        weight = batch.data["weight"] * batch.data["row_weight"][batch.row]
        value = -out.logp.detach().exp() * out.logp
        return Loss(
            sums={"value": (weight * value).sum()},
            metrics={"nll": (-out.logp.detach().sum(), batch.N)},
        )

    @classmethod
    def example(cls) -> Example:
        return Example(
            groups=answers(),
            anchors={
                "uniform over 8": Anchor(
                    {"logp": [-math.log(8)] * 9}, {"value": 9 * math.log(8) / 8}, source="p = 1/8 times log 8 a token"
                ),
                "certain": Anchor({"logp": [0.0] * 9}, {"value": 0.0}, source="nothing is left to learn"),
            },
        )
