"""Alignment by optimal transport: the distribution of margins, not each margin, should dominate the reference's.

Sorted over the whole step, the k-th largest log-ratio of chosen over rejected is compared with the k-th largest of the reference; or,
unpaired, the k-th largest rise of chosen answers with that of rejected ones. Melnyk et al. 2024, arXiv:2406.05882.

Who is compared with whom is found in preparation, over all ranks, with the weights that the step starts from. That leaves one term per
response, so a step can be cut and spread like any other; unpaired, where both sides carry a gradient, the loss is exact to first order.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn.functional import logsigmoid

from posttrain.core.batch import Batch
from posttrain.core.group import Group
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.core.protocols import Engine
from posttrain.methods.dpo import pairs
from posttrain.objectives.pairs import not_compared, over_groups, pair_metrics
from posttrain.objectives.reference import AGAINST_REFERENCE, with_reference
from posttrain.objectives.sequence import row_sum


def quantile_partner(values: Tensor, all_values: Tensor, others: Tensor) -> Tensor:
    """For each value [K]: the member of `others` [M] at its place among `all_values` [M]; equal values share the mean of theirs."""
    ordered = all_values.sort().values
    low = torch.searchsorted(ordered, values.contiguous())
    high = torch.searchsorted(ordered, values.contiguous(), right=True)
    running = torch.cat([others.new_zeros(1), others.sort().values]).double().cumsum(0)
    return ((running[high] - running[low]) / (high - low).clamp_min(1)).to(others.dtype)


class AOT(Method):
    """Learn preferences of whole distributions: sorted margins should exceed the reference's at every place."""

    name: ClassVar[str] = "aot"
    sums: ClassVar[dict[str, Unit]] = {"pair": "group"}
    atom: ClassVar[Atom] = "group"
    wants: ClassVar[str] = "pairs (chosen, rejected), soft labels, rankings"
    learning_rate: ClassVar[tuple[float, float]] = (1e-6, 1e-5)
    symmetric: ClassVar[bool] = True

    beta: PositiveFloat = 0.1
    """Strength of the implied KL constraint: higher stays closer to the reference."""
    smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Share of pairs that may be the wrong way round."""
    paired: bool = True
    """Compare margins with the reference's margins; if not, rises of chosen answers with rises of rejected ones."""

    def needs(self) -> Needs:
        return AGAINST_REFERENCE

    def accepts(self, group: Group) -> str | None:
        return not_compared(group)

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        policy = engine.score(batch, Needs(logp=True)).logp
        assert policy is not None
        batch = with_reference(batch, engine)
        own, ref = row_sum(policy, batch), row_sum(batch.data["ref"], batch)
        better, other = batch.pair[:, 0], batch.pair[:, 1]
        if self.paired:
            up, down = own[better] - own[other], ref[better] - ref[other]
        else:
            up, down = own[better] - ref[better], own[other] - ref[other]
        all_up, all_down = engine.gather(up), engine.gather(down)
        batch = batch.plus("pair", below=quantile_partner(up, all_up, all_down))
        if self.paired:
            return batch
        above = quantile_partner(down, all_down, all_up)
        return batch.plus("pair", above=above, settled=self._of_gap(above - down, batch.data["p"]))

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.logp is not None
        lift = row_sum(out.logp - batch.data["ref"], batch)
        total = row_sum(out.logp, batch)
        better, other = batch.pair[:, 0], batch.pair[:, 1]
        p, below = batch.data["p"], batch.data["below"]
        if self.paired:
            loss = self._of_gap(total[better] - total[other] - below, p)
        else:
            loss = self._of_gap(lift[better] - below, p) + self._of_gap(batch.data["above"] - lift[other], p)
            loss = loss - batch.data["settled"]  # both terms say what the loss is, and it is counted once
        return Loss(sums={"pair": over_groups(loss, batch)}, metrics=pair_metrics(self.beta * lift, out.logp, batch))

    def _of_gap(self, gap: Tensor, p: Tensor) -> Tensor:
        right = p * (1 - self.smoothing) + (1 - p) * self.smoothing
        return -right * logsigmoid(self.beta * gap) - (1 - right) * logsigmoid(-self.beta * gap)

    @classmethod
    def example(cls) -> Example:
        vector = {"logp": [0.2] * 10 + [-0.2] * 5}
        ref = {"ref": [0.0] * 15}
        gap_3 = math.log1p(math.exp(-0.3))
        unpaired = ref | {"below": [-1.0], "above": [2.0], "settled": [gap_3]}
        return Example(
            groups=pairs(),
            anchors={
                "equal at every place": Anchor(vector, {"pair": math.log(2)}, ref | {"below": [3.0]}),
                "3 above": Anchor(vector, {"pair": gap_3}, ref | {"below": [0.0]}),
                "smoothed": Anchor(vector, {"pair": 0.584355}, ref | {"below": [0.0]}, fields={"smoothing": 0.1}),
                "unpaired": Anchor(vector, {"pair": gap_3}, unpaired, fields={"paired": False}),
            },
            variants=({"paired": False},),
        )
