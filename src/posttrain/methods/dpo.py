"""Direct preference optimisation.

Raise the policy's margin between the preferred and the other response over the reference's margin. No reward model, no sampling.
Rafailov et al. 2023, arXiv:2305.18290; the links (`objectives.links`) name their own papers.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from pydantic import PositiveFloat
from torch import Tensor

from posttrain.core.batch import Batch
from posttrain.core.group import Group, Preference, Response
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.core.protocols import Engine
from posttrain.core.recipe import one_of
from posttrain.objectives.links import Link, Ratios, Sigmoid
from posttrain.objectives.sequence import group_mean, row_length, row_mean, row_sum


class DPO(Method):
    """Learn from preference pairs without a reward model."""

    name: ClassVar[str] = "dpo"
    sums: ClassVar[dict[str, Unit]] = {"pair": "group"}
    atom: ClassVar[Atom] = "group"
    wants: ClassVar[str] = "pairs (chosen, rejected), soft labels, rankings"
    learning_rate: ClassVar[tuple[float, float]] = (1e-6, 1e-5)
    symmetric: ClassVar[bool] = True

    beta: PositiveFloat = 0.1
    """Strength of the implied KL constraint: higher stays closer to the reference."""
    link: one_of(Link) = Sigmoid()  # type: ignore[valid-type]
    """Shape of the loss: sigmoid (DPO), conservative (label smoothing), hinge (SLiC), ipo."""

    def needs(self) -> Needs:
        return Needs(logp=True, roles=frozenset({"reference"}))

    def accepts(self, group: Group) -> str | None:
        return None if any(not p.both_bad for p in group.pairs()) else "no preference between its responses"

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        reference = engine.score(batch, Needs(logp=True), role="reference").logp
        assert reference is not None
        return batch.plus("token", ref=reference)

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.logp is not None
        better, other = batch.pair[:, 0], batch.pair[:, 1]
        ratio, length = row_sum(out.logp - batch.data["ref"], batch), row_length(batch)
        pair = Ratios(ratio[better], ratio[other], length[better], length[other])
        p, margin = batch.data["p"], batch.data["margin"]
        loss = self.link(pair, self.beta, margin)
        if bool((p < 1).any()):  # a soft label is an expectation over both readings of the pair
            loss = p * loss + (1 - p) * self.link(pair.swapped(), self.beta, -margin)
        per_group = group_mean(loss, batch.group[better], batch.data["pair_weight"], batch.G)
        return Loss(sums={"pair": per_group.sum()}, metrics=self._metrics(out, batch, ratio.detach()))

    def _metrics(self, out: Output, batch: Batch, ratio: Tensor) -> dict[str, tuple[Tensor | float, Tensor | float]]:
        assert out.logp is not None
        better, other = batch.pair[:, 0], batch.pair[:, 1]
        gap = ratio[better] - ratio[other]
        per_token = row_mean(out.logp.detach(), batch)
        return {
            "accuracy": (((gap > 0).float() + 0.5 * (gap == 0).float()).sum(), batch.Q),
            "margin": ((self.beta * gap).sum(), batch.Q),
            "reward_chosen": ((self.beta * ratio[better]).sum(), batch.Q),
            "reward_rejected": ((self.beta * ratio[other]).sum(), batch.Q),
            "logp_chosen": (per_token[better].sum(), batch.Q),
            "logp_rejected": (per_token[other].sum(), batch.Q),
        }

    @classmethod
    def example(cls) -> Example:
        vector = {
            "logp": [0.2] * 10 + [-0.2] * 5
        }  # h_w = 2 over 10 tokens, h_l = -1 over 5: the fixed vector of the tests
        zero = {"logp": [0.0] * 15}
        data = {"ref": [0.0] * 15}

        def known(outputs: dict[str, list[float]], value: float, **fields: object) -> Anchor:
            return Anchor(outputs, {"pair": value}, data, source="closed form in float64", fields=fields)

        return Example(
            groups=pairs(),
            anchors={
                "policy = reference": known(zero, math.log(2)),
                "vector": known(vector, math.log1p(math.exp(-0.3))),
                "conservative": known(vector, 0.584355, link={"name": "conservative", "flips": 0.1}),
                "hinge": known(vector, 0.7, link="hinge"),
                "ipo": known(vector, 21.16, link="ipo"),
                "ipo at reference": known(zero, 25.0, link="ipo"),
            },
        )


def pairs() -> list[Group]:
    """A pair of 10 and 5 trained tokens and a second pair, for the laws; anchors use the first."""
    rng = np.random.default_rng(2)

    def response(n: int) -> Response:
        return Response(tokens=rng.integers(3, 60, n), trained=np.ones(n, dtype=bool))

    chosen = (Preference(0, 1),)
    return [
        Group((), (response(10), response(5)), preferences=chosen, prompt_tokens=rng.integers(3, 60, 6)),
        Group((), (response(4), response(6)), preferences=chosen, prompt_tokens=rng.integers(3, 60, 2)),
    ]
