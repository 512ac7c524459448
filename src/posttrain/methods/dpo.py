"""Direct preference optimisation.

Raise the policy's margin between the preferred and the other response over the reference's margin. No reward model, no sampling.
Rafailov et al. 2023, arXiv:2305.18290; the links (`objectives.links`, `objectives.separate_links`), divergences and modifiers name their
own papers. With likelihood of the chosen answers (Pang et al. 2024, arXiv:2404.19733), with a moving reference (TR-DPO, Gorbatovski et
al. 2024, arXiv:2404.09656). Leaves out: the reference's cache (the engine's work).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from posttrain.core.batch import Batch
from posttrain.core.group import Group, Preference, Response
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.core.protocols import Engine
from posttrain.core.recipe import Spec, one_of
from posttrain.objectives.divergences import Divergence, ReverseKL
from posttrain.objectives.links import Link, Sigmoid
from posttrain.objectives.modifiers import Modifier
from posttrain.objectives.pairs import (
    Ratios,
    chosen_nll,
    counting_chosen,
    expected,
    not_compared,
    over_groups,
    pair_metrics,
    tail_weighted,
)
from posttrain.objectives.reference import with_reference
from posttrain.objectives.separate_links import SeparateLink
from posttrain.objectives.sequence import row_length, row_sum


class MovingReference(Spec):
    """How the reference follows the policy."""

    every: PositiveInt = 512
    """Steps between two moves."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Share of the policy's weights in the new reference; 1 replaces it."""


class DPO(Method):
    """Learn from preference pairs without a reward model."""

    name: ClassVar[str] = "dpo"
    sums: ClassVar[dict[str, Unit]] = {"pair": "group", "nll": "chosen"}
    atom: ClassVar[Atom] = "group"
    wants: ClassVar[str] = "pairs (chosen, rejected), soft labels, rankings"
    learning_rate: ClassVar[tuple[float, float]] = (1e-6, 1e-5)
    symmetric: ClassVar[bool] = True

    beta: PositiveFloat = 0.1
    """Strength of the implied KL constraint: higher stays closer to the reference."""
    link: one_of(Link) = Sigmoid()  # type: ignore[valid-type]
    """Shape of the loss: sigmoid is DPO; conservative, robust for noisy labels; ipo bounds the margin; nca holds the chosen up."""
    nll: NonNegativeFloat = 0.0
    """Weight of the likelihood of chosen answers (RPO); it keeps their probability from falling."""
    divergence: one_of(Divergence) = ReverseKL()  # type: ignore[valid-type]
    """What holds the policy near the reference."""
    modifiers: tuple[one_of(Modifier), ...] = ()  # type: ignore[valid-type]
    """Changes under any link: ld and length against long answers, wpo for pairs unlike the policy, dpop against falling chosen answers."""
    moving: MovingReference | None = None
    """Let the reference follow the policy (TR-DPO); none keeps it where training began."""

    @model_validator(mode="after")
    def _fits(self) -> DPO:
        if isinstance(self.link, SeparateLink) and not isinstance(self.divergence, ReverseKL):
            raise ValueError(
                f"divergence: link {self.link.name} is defined on plain log-ratios; use reverse_kl, or a link of differences"
            )
        return self

    def needs(self) -> Needs:
        reference = frozenset({"reference"})
        return Needs(
            logp=True,
            log_sum_sq=any(m.log_sum_sq for m in self.modifiers),
            roles=reference,
            moving=reference if self.moving else frozenset(),
        )

    def accepts(self, group: Group) -> str | None:
        return not_compared(group)

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        return with_reference(counting_chosen(batch), engine)

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.logp is not None
        lift = out.logp - batch.data["ref"]
        ratio = row_sum(lift, batch)
        loss = expected(self._of_pair, self._ratios(lift, ratio, batch), batch)
        weight = math.prod((m.weight(out, batch) for m in self.modifiers), start=row_length(batch).new_ones(batch.Q))
        return Loss(
            sums={"pair": over_groups(loss, batch, weight), "nll": self.nll * chosen_nll(out.logp, batch)},
            metrics=pair_metrics(self.beta * ratio, out.logp, batch),
        )

    def _ratios(self, lift: Tensor, ratio: Tensor, batch: Batch) -> Ratios:
        pair = Ratios.of(ratio, batch)
        tail = math.prod(m.tail() for m in self.modifiers)
        if tail != 1:
            h_w, h_l = tail_weighted(lift, batch, tail)
            pair = pair._replace(h_w=h_w, h_l=h_l)
        return pair._replace(h_w=self.divergence(pair.h_w), h_l=self.divergence(pair.h_l))

    def _of_pair(self, pair: Ratios, margin: Tensor) -> Tensor:
        for modifier in self.modifiers:
            margin = margin - modifier.bonus(pair, self.beta)
        return self.link(pair, self.beta, margin)

    def after(self, step: int, metrics: Mapping[str, float], engine: Engine) -> None:
        if self.moving is not None and step % self.moving.every == 0:
            engine.move("reference", self.moving.share)

    @classmethod
    def example(cls) -> Example:
        zero, vector = (
            {"logp": [0.0] * 15},
            {"logp": [0.2] * 10 + [-0.2] * 5},
        )  # h_w = 2 over 10 tokens, h_l = -1 over 5

        def known(outputs: Mapping[str, list[float]], value: float, **fields: object) -> Anchor:
            return Anchor(outputs, {"pair": value}, {"ref": [0.0] * 15}, "closed form in float64", fields)

        likelihood = Anchor({"logp": [-0.5] * 15}, {"pair": math.log(2), "nll": 2.5}, {"ref": [-0.5] * 15})
        return Example(
            groups=pairs(),
            anchors={
                "policy = reference": known(zero, math.log(2)),
                "vector": known(vector, math.log1p(math.exp(-0.3))),
                "conservative": known(vector, 0.584355, link={"name": "conservative", "flips": 0.1}),
                "ipo at reference": known(zero, 25.0, link="ipo"),
                "nca": known(vector, 1.319407, link="nca"),
                "forward KL": known(vector, 0.572316, divergence="forward_kl"),
                "desensitised": known(vector, 0.584745, modifiers=[{"name": "ld", "alpha": 0.3}]),
                "length margin": known(vector, 0.533382, modifiers=["length"]),
                "chosen above the reference": known(vector, 0.554355, modifiers=["dpop"]),
                "with likelihood": replace(likelihood, fields={"nll": 0.5}),
            },
            variants=(
                {"nll": 0.5, "link": "ipo", "divergence": "js"},
                {"modifiers": ("wpo", {"name": "ld", "alpha": 0.3}, "dpop", "length")},
                {"link": "apo_down", "moving": {"every": 2, "share": 0.6}},
            ),
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
