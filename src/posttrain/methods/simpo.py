"""Simple preference optimisation: mean log-probs as rewards, a target margin, no reference.

The reward is what decoding maximises, so no length is favoured. Meng, Xia and Chen 2024, arXiv:2405.14734. With `alpha` the reward is
(1 - exp(-alpha m)) / alpha of the mean log-prob m (AlphaPO, Gupta et al. 2025, arXiv:2501.03884); at 0 it is m itself.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn.functional import logsigmoid

from posttrain.core.batch import Batch
from posttrain.core.group import Group
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.methods.dpo import pairs
from posttrain.objectives.links import LARGEST_EXPONENT
from posttrain.objectives.pairs import Ratios, expected, not_compared, over_groups, pair_metrics
from posttrain.objectives.sequence import row_mean


def shaped(mean_logp: Tensor, alpha: float) -> Tensor:
    """AlphaPO's reward of a mean log-prob; alpha > 0 falls ever faster as an answer gets unlikely, alpha < 0 ever slower."""
    if alpha == 0:
        return mean_logp
    return -torch.expm1((-alpha * mean_logp).clamp_max(LARGEST_EXPONENT)) / alpha


class SimPO(Method):
    """Learn from pairs without a reference, by mean log-probs and a target margin."""

    name: ClassVar[str] = "simpo"
    sums: ClassVar[dict[str, Unit]] = {"pair": "group"}
    atom: ClassVar[Atom] = "group"
    wants: ClassVar[str] = "pairs (chosen, rejected), soft labels, rankings"
    learning_rate: ClassVar[tuple[float, float]] = (1e-6, 1e-5)
    symmetric: ClassVar[bool] = True

    beta: PositiveFloat = 2.0
    """How steeply the difference of mean log-probs enters the loss; 2 to 10 is usual."""
    gamma: NonNegativeFloat = 1.0
    """Margin by which the chosen answer should win, in units of beta times nats; about half of beta."""
    alpha: float = 0.0
    """Shape of the reward (AlphaPO); 0 is the mean log-prob, 0.25 punishes unlikely answers more."""

    def needs(self) -> Needs:
        return Needs(logp=True)

    def accepts(self, group: Group) -> str | None:
        return not_compared(group)

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.logp is not None
        reward = shaped(row_mean(out.logp, batch), self.alpha)
        loss = expected(self._of_pair, Ratios.of(reward, batch), batch)
        return Loss(sums={"pair": over_groups(loss, batch)}, metrics=pair_metrics(self.beta * reward, out.logp, batch))

    def _of_pair(self, pair: Ratios, margin: Tensor) -> Tensor:
        return -logsigmoid(self.beta * (pair.h_w - pair.h_l) - self.gamma - margin)

    @classmethod
    def example(cls) -> Example:
        equal, apart = {"logp": [-0.7] * 15}, {"logp": [-1.0] * 10 + [-2.0] * 5}
        alpha = 2 * 4 * (math.exp(0.5) - math.exp(0.25)) - 0.5
        return Example(
            groups=pairs(),
            anchors={
                "equal means": Anchor(equal, {"pair": 0.974077}, source="log(1 + e^.5)", fields={"gamma": 0.5}),
                "means -1 and -2": Anchor(apart, {"pair": math.log1p(math.exp(-1))}),
                "shaped": Anchor(apart, {"pair": math.log1p(math.exp(-alpha))}, fields={"alpha": 0.25, "gamma": 0.5}),
            },
            variants=({"alpha": 0.25},),
        )
