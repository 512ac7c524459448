"""Supervised fine-tuning: imitate the answers.

The loss is the negative log-likelihood of the assistant's tokens and of the stop token that ends them; prompt, user and tool tokens are
context. Label smoothing spreads a share over the vocabulary (Szegedy et al. 2016, arXiv:1512.00567).
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from posttrain.core.batch import Batch
from posttrain.core.group import Group, Response
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output


class SFT(Method):
    """Imitate the answers of others."""

    name: ClassVar[str] = "sft"
    sums: ClassVar[dict[str, Unit]] = {"nll": "token"}
    atom: ClassVar[Atom] = "row"
    wants: ClassVar[str] = "prompts with one answer or more (all are imitated)"
    learning_rate: ClassVar[tuple[float, float]] = (2e-5, 2e-4)
    symmetric: ClassVar[bool] = True

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target probability that is spread over the whole vocabulary; 0 is plain likelihood."""

    def accepts(self, group: Group) -> str | None:
        if len(group.responses) > 1 and "matching" in group.facts:
            return "two opposite behaviours, neither of them marked as right; take one with `columns`"
        return super().accepts(group)

    def needs(self) -> Needs:
        return Needs(logp=True, mean_logp=self.label_smoothing > 0)

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.logp is not None
        nll = -out.logp
        target = nll
        if self.label_smoothing > 0:
            assert out.mean_logp is not None
            target = (1 - self.label_smoothing) * nll - self.label_smoothing * out.mean_logp
        weight = batch.data["weight"] * batch.data["row_weight"][batch.row]
        return Loss(sums={"nll": (weight * target).sum()}, metrics={"nll": (nll.detach().sum(), batch.N)})

    @classmethod
    def example(cls) -> Example:
        return Example(
            groups=answers(),
            anchors={
                "uniform over 8": Anchor({"logp": [-math.log(8)] * 9}, {"nll": 9 * math.log(8)}, source="loss log V"),
                "smoothed uniform": Anchor(
                    {"logp": [-math.log(8)] * 9, "mean_logp": [-math.log(8)] * 9},
                    {"nll": 9 * math.log(8)},
                    fields={"label_smoothing": 0.3},
                    source="a uniform model's loss does not depend on smoothing",
                ),
            },
        )


def answers() -> list[Group]:
    """Two tiny prompts with one answer each, 5 and 4 trained tokens, the second after an untrained tool turn."""
    rng = np.random.default_rng(1)
    plain = Response(tokens=rng.integers(3, 60, 5), trained=np.ones(5, dtype=bool))
    with_tool = Response(tokens=rng.integers(3, 60, 7), trained=np.asarray([1, 1, 0, 0, 0, 1, 1], dtype=bool))
    return [
        Group((), (plain,), prompt_tokens=rng.integers(3, 60, 6)),
        Group((), (with_tool,), prompt_tokens=rng.integers(3, 60, 3)),
    ]
