"""Ensembles of reward models: k heads on one trunk, each on its own bootstrap of the groups.

A head counts each group as often as a draw of Poisson(1) says, which is fixed by the group's content, so that heads disagree where the
data leave room. The score is their mean, their spread says how far to trust it. Coste et al. 2023, arXiv:2310.02743 (whole models);
online bootstrap: Oza and Russell 2001; heads on one trunk: Osband et al. 2016, arXiv:1602.04621.
"""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from posttrain.core.batch import Batch
from posttrain.core.group import Group
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.core.protocols import Engine
from posttrain.methods.dpo import pairs
from posttrain.objectives.pairs import not_compared
from posttrain.objectives.ranking import agreement, comparisons
from posttrain.objectives.sequence import group_mean


def bootstrap(batch: Batch, heads: int) -> Tensor:
    """[G, heads] how often each head counts each group: Poisson(1), drawn from a hash of its prompt and trained tokens in any order."""
    ids, targets, rows = batch.ids.cpu().numpy(), batch.target.cpu().numpy(), batch.group_of
    draws = np.zeros((batch.G, heads), dtype=np.float32)
    for g in range(batch.G):
        spans = [batch.tokens_of[r : r + 2] for r in np.flatnonzero(rows == g)]
        answers = sorted(hashlib.blake2b(targets[a:b].tobytes()).digest() for a, b in spans)
        a, n = batch.prompt_start[g], batch.prompt_length[g]
        whole = hashlib.blake2b(ids[a : a + n].tobytes() + b"".join(answers), digest_size=8).digest()
        draws[g] = np.random.default_rng(int.from_bytes(whole, "big")).poisson(1.0, heads)
    return torch.from_numpy(draws).to(batch.ids.device)


class RewardEnsemble(Method):
    """Learn several scores from comparisons; their mean is the reward, their spread the doubt."""

    name: ClassVar[str] = "reward_ensemble"
    sums: ClassVar[dict[str, Unit]] = {"comparison": "group", "centre": "group"}
    atom: ClassVar[Atom] = "group"
    wants: ClassVar[str] = "pairs, soft labels, rankings of k with ties"
    learning_rate: ClassVar[tuple[float, float]] = (1e-5, 1e-4)
    symmetric: ClassVar[bool] = True

    heads: Annotated[int, Field(ge=2)] = 4
    """How many scores are learned; more cost next to nothing, since they share the trunk."""
    centring: NonNegativeFloat = 0.0
    """Weight of (score_i + score_j)^2 per head, which holds the mean of the scores near 0; 0.01 is usual."""
    likelihood: NonNegativeFloat = 0.0
    """As in `reward`: every score starts as this times the answer's mean log-probability."""

    def needs(self) -> Needs:
        return Needs(score=self.heads, likelihood=self.likelihood)

    def accepts(self, group: Group) -> str | None:
        return not_compared(group)

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        return batch.plus("group", draws=bootstrap(batch, self.heads))

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.score is not None
        i, j = batch.pair[:, 0], batch.pair[:, 1]
        comparison, centre = out.score.new_zeros(()), out.score.new_zeros(())
        for head, score in enumerate(out.score.unbind(1)):
            draws = batch.data["draws"][:, head] / self.heads
            near = group_mean((score[i] + score[j]) ** 2, batch.group[i], batch.data["pair_weight"], batch.G)
            comparison = comparison + (draws * comparisons(score, batch)).sum()
            centre = centre + (draws * near).sum()
        mean, spread = out.score.detach().mean(1), out.score.detach().std(1)
        return Loss(
            sums={"comparison": comparison, "centre": self.centring * centre},
            metrics=agreement(mean, batch) | {"score_mean": (mean.sum(), batch.R), "spread": (spread.sum(), batch.R)},
        )

    @classmethod
    def example(cls) -> Example:
        ahead = {"score": [[1.0, 0.0], [0.0, 0.0]]}
        right = math.log1p(math.exp(-1))
        two = {"heads": 2}
        return Example(
            groups=pairs(),
            anchors={
                "one head ahead": Anchor(
                    ahead, {"comparison": (right + math.log(2)) / 2}, {"draws": [[1.0, 1.0]]}, fields=two
                ),
                "counted by its draws": Anchor(ahead, {"comparison": 1.5 * right}, {"draws": [[3.0, 0.0]]}, fields=two),
            },
            variants=({"heads": 3, "centring": 0.01}, {"likelihood": 4.0}),
        )
