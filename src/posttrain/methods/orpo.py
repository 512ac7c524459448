"""Odds-ratio preference optimisation: fine-tuning and preference in one stage, without a reference.

Likelihood of the chosen answer plus a logistic loss of the ratio of odds, taken from mean log-probs. Hong, Lee and Thorne 2024,
arXiv:2403.07691. The likelihood is over the chosen answer's tokens; over prompt and answer (`nll_on: all`, as some implementations do) it
takes an extra row per chosen answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn.functional import logsigmoid

from posttrain.core.batch import Batch, layout
from posttrain.core.group import Group
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.core.protocols import Engine
from posttrain.methods.dpo import pairs
from posttrain.objectives.pairs import Ratios, chosen, expected, not_compared, over_groups, pair_metrics
from posttrain.objectives.sequence import row_length, row_mean, row_sum

ALMOST_ONE = -1e-6
"""A mean log-prob above this has no finite odds in fp32."""


def log_odds(mean_logp: Tensor) -> Tensor:
    """log(p / (1 - p)) of p = exp(mean_logp), each branch of log(1 - p) where it is exact (Maechler 2012)."""
    x = mean_logp.clamp_max(ALMOST_ONE)
    near_one = x > -math.log(2)
    safe = torch.where(near_one, x, -math.log(2))
    far = torch.where(near_one, -math.log(2), x)
    return x - torch.where(near_one, torch.log(-torch.expm1(safe)), torch.log1p(-torch.exp(far)))


class ORPO(Method):
    """Fine-tune and learn preferences in one stage, without a reference."""

    name: ClassVar[str] = "orpo"
    sums: ClassVar[dict[str, Unit]] = {"nll": "imitated", "odds": "group"}
    atom: ClassVar[Atom] = "group"
    wants: ClassVar[str] = "pairs (chosen, rejected), soft labels, rankings"
    learning_rate: ClassVar[tuple[float, float]] = (8e-6, 8e-5)
    symmetric: ClassVar[bool] = True

    weight: NonNegativeFloat = 0.1
    """Weight of the odds ratio beside the likelihood of the chosen answer."""
    nll_on: Literal["response", "all"] = "response"
    """What the likelihood is taken of: the chosen answer, or prompt and answer, which costs a second pass over them."""

    def needs(self) -> Needs:
        return Needs(logp=True)

    def accepts(self, group: Group) -> str | None:
        return not_compared(group)

    def arrange(self, groups: Sequence[Group]) -> Sequence[Group]:
        if self.nll_on == "response" or any(r.kind == "document" for g in groups for r in g.responses):
            return groups
        return [*groups, *(text for g in groups for text in documents(g))]

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        share = chosen(batch)
        if self.nll_on == "all":
            share = batch.data["row_weight"] * torch.from_numpy(~batch.main).to(share.device)
        return batch.plus("row", share=share).counting("row", imitated=share * row_length(batch))

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.logp is not None
        mean = row_mean(out.logp, batch)
        odds = expected(self._of_pair, Ratios.of(log_odds(mean), batch), batch)
        nll = -(batch.data["share"] * row_sum(out.logp, batch)).sum()
        return Loss(
            sums={"nll": nll, "odds": self.weight * over_groups(odds, batch)},
            metrics=pair_metrics(self.weight * mean, out.logp, batch),
        )

    def _of_pair(self, pair: Ratios, margin: Tensor) -> Tensor:
        return -logsigmoid(pair.h_w - pair.h_l - margin)

    @classmethod
    def example(cls) -> Example:
        share = {"share": [1.0, 0.0]}
        apart = {"logp": [-1.0] * 10 + [-2.0] * 5}
        return Example(
            groups=pairs(),
            anchors={
                "equal means": Anchor({"logp": [-0.7] * 15}, {"nll": 7.0, "odds": 0.1 * math.log(2)}, share),
                "means -1 and -2": Anchor(apart, {"nll": 10.0, "odds": 0.1 * 0.238183}, share, "o = 1.313262"),
                "weight": Anchor(apart, {"odds": 0.238183}, share, fields={"weight": 1.0}),
            },
            variants=({"nll_on": "all"},),
        )


def documents(group: Group) -> list[Group]:
    """Prompt and chosen answer as one text behind its first token, an extra row that counts as often as the answer is the best one."""
    assert group.prompt_tokens is not None
    out = []
    for answer, share in zip(group.responses, chosen(layout([group])).tolist()):
        if share > 0:
            end = (
                int(np.flatnonzero(np.asarray(answer.trained) > 0)[-1]) + 1
            )  # what follows the stop token is no answer
            text = np.concatenate([group.prompt_tokens[1:], np.asarray(answer.tokens)[:end]])
            row = replace(answer, tokens=text, trained=np.ones(len(text)), kind="document", weight=share, logps=None)
            out.append(Group((), (row,), prompt_tokens=group.prompt_tokens[:1]))
    return out
