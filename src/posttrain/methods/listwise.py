"""Listwise DPO: the whole ranking of k answers at once, ties allowed.

Plackett-Luce over the implied rewards beta * h; two answers give DPO. Rafailov et al. 2023, arXiv:2305.18290 (appendix A.3); LiPO,
Liu et al. 2024, arXiv:2402.01878, without its lambda weights. Groups without a ranking give the mean of their pairs.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from pydantic import PositiveFloat

from posttrain.core.batch import Batch
from posttrain.core.group import Group, Response
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.core.protocols import Engine
from posttrain.objectives.pairs import not_compared, pair_metrics
from posttrain.objectives.ranking import comparisons
from posttrain.objectives.reference import AGAINST_REFERENCE, with_reference
from posttrain.objectives.sequence import row_sum


class Listwise(Method):
    """Learn from rankings of k answers without a reward model."""

    name: ClassVar[str] = "listwise"
    sums: ClassVar[dict[str, Unit]] = {"ranking": "group"}
    atom: ClassVar[Atom] = "group"
    wants: ClassVar[str] = "rankings of k with ties; pairs, soft labels"
    learning_rate: ClassVar[tuple[float, float]] = (1e-6, 1e-5)
    symmetric: ClassVar[bool] = True

    beta: PositiveFloat = 0.1
    """Strength of the implied KL constraint: higher stays closer to the reference."""

    def needs(self) -> Needs:
        return AGAINST_REFERENCE

    def accepts(self, group: Group) -> str | None:
        return not_compared(group)

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        return with_reference(batch, engine)

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.logp is not None
        reward = self.beta * row_sum(out.logp - batch.data["ref"], batch)
        return Loss(sums={"ranking": comparisons(reward, batch).sum()}, metrics=pair_metrics(reward, out.logp, batch))

    @classmethod
    def example(cls) -> Example:
        zero, ref = {"logp": [0.0] * 12}, {"ref": [0.0] * 12}
        lifted = {"logp": [0.0] * 3 + [2.0] * 5 + [-1.0] * 4}  # h = 0, 10, -4: beta h = 0, 1, -0.4
        best, rest = math.log(1 + math.exp(-1) + math.exp(-1.4)), math.log(1 + math.exp(-0.4))
        return Example(
            groups=rankings(),
            anchors={
                "policy = reference": Anchor(zero, {"ranking": math.log(6)}, ref, "log 3!"),
                "in order": Anchor(lifted, {"ranking": best + rest}, ref, "closed form"),
            },
        )


def rankings() -> list[Group]:
    """A ranking of three answers (3, 5 and 4 tokens) and one of four with a tie, for the laws; anchors use the first."""
    rng = np.random.default_rng(6)

    def ranked(prompt: int, lengths: tuple[int, ...], ranking: tuple[tuple[int, ...], ...]) -> Group:
        answers = tuple(Response(tokens=rng.integers(3, 60, n), trained=np.ones(n, dtype=bool)) for n in lengths)
        return Group((), answers, ranking=ranking, prompt_tokens=rng.integers(3, 60, prompt))

    return [ranked(5, (3, 5, 4), ((1,), (0,), (2,))), ranked(3, (2, 6, 4, 3), ((3,), (0, 2), (1,)))]
