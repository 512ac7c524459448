"""Embeddings by contrast: a text lies near what belongs to it and far from everything else in the step.

The mean hidden state of a text, scaled to length 1, is its embedding. For each anchor and positive the loss is the cross-entropy of the
positive among all positives and negatives of the step at similarity / temperature (van den Oord et al. 2018, arXiv:1807.03748; in-batch
negatives as in Henderson et al. 2017, arXiv:1705.00652). Matryoshka (Kusupati et al. 2022, arXiv:2205.13147) asks the same of the
first numbers alone. The gradient with regard to each embedding is found once per step without a graph (GradCache, Gao et al. 2021,
arXiv:2101.06983), so a step may be cut and spread over ranks and still contrasts with all of it.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import normalize

from posttrain.core.batch import Batch
from posttrain.core.group import Group, Response
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.core.protocols import Engine


class Contrastive(Method):
    """Learn embeddings in which texts that belong together are near."""

    name: ClassVar[str] = "contrastive"
    task: ClassVar[str] = "embedding"
    sums: ClassVar[dict[str, Unit]] = {"nll": "positives"}
    atom: ClassVar[Atom] = "row"
    wants: ClassVar[str] = "an anchor, what belongs to it, what does not (`anchor`, `positive`, optional `negative`)"
    learning_rate: ClassVar[tuple[float, float]] = (2e-5, 2e-4)
    symmetric: ClassVar[bool] = True

    temperature: PositiveFloat = 0.05
    """Similarities are divided by it; lower looks harder at the nearest negatives."""
    dimensions: Annotated[tuple[PositiveInt, ...], Field(max_length=8)] = ()
    """Also learn embeddings cut to these first numbers (Matryoshka); the whole always counts."""

    def needs(self) -> Needs:
        return Needs(pooled=True)

    def accepts(self, group: Group) -> str | None:
        labels = [r.label for r in group.responses]
        if labels.count(None) != 1:
            return "not exactly one anchor"
        return None if True in labels else "no positive"

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        pooled = engine.score(batch, self.needs()).pooled
        assert pooled is not None
        mine = own_rows(engine, batch.R)
        label, weight = batch.data["label"], batch.data["row_weight"]
        bank, labels, weights, keys = (engine.gather(v) for v in (pooled, label, weight, keys_of(batch)))
        with torch.enable_grad():
            free = bank.detach().clone().requires_grad_()
            nll = contrast(free, labels, keys, self.temperature, self.dimensions) * weights
            (pull,) = torch.autograd.grad(nll.sum(), free)
        made = batch.counting("row", positives=(label == 1).float())
        return made.plus("row", kept=pooled, pull=pull[mine], row_nll=nll[mine])

    def loss(self, out: Output, batch: Batch) -> Loss:
        """The step's loss to first order around the embeddings of `prepare`: equal there in value and gradient."""
        assert out.pooled is not None
        moved = ((out.pooled - batch.data["kept"]) * batch.data["pull"]).sum()
        nll = batch.data["row_nll"].sum()
        return Loss(sums={"nll": nll + moved}, metrics={"nll": (nll, (batch.data["label"] == 1).sum())})

    @classmethod
    def example(cls) -> Example:
        at = {"pooled": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 0.0], [0.0, 3.0]]}
        told = {"kept": at["pooled"], "row_nll": [0.0, 0.7, 0.0, 0.0, 0.4], "pull": [[0.0, 0.0]] * 4 + [[0.0, 2.0]]}
        moved = {"pooled": [*at["pooled"][:4], [0.0, 3.5]]}
        return Example(
            groups=belonging(),
            anchors={
                "where it was prepared": Anchor(at, {"nll": 1.1}, told, source="the step's own loss"),
                "half a step along": Anchor(moved, {"nll": 2.1}, told, source="first order: 0.5 x 2"),
            },
            variants=[{"dimensions": (4,), "temperature": 0.5}],
        )


def contrast(bank: Tensor, label: Tensor, key: Tensor, temperature: float, dimensions: tuple[int, ...] = ()) -> Tensor:
    """Loss of each positive row [R], 0 elsewhere: bank [R, d]; label nan (anchor), 1 or 0; key says which rows belong together.

    Other positives of the same anchor are not its negatives. Several dimensions are averaged.
    """
    anchors, others = label.isnan().nonzero()[:, 0], (~label.isnan()).nonzero()[:, 0]
    positive = (label == 1).nonzero()[:, 0]
    if not len(positive):
        return bank.sum(-1) * 0
    of = anchors[(key[positive][:, None] == key[anchors][None]).int().argmax(-1)]
    itself = positive[:, None] == others[None]
    excused = (key[positive][:, None] == key[others][None]) & (label[others] == 1)[None] & ~itself
    out = bank.new_zeros(len(bank))
    widths = (*(d for d in dimensions if d < bank.shape[-1]), bank.shape[-1])
    for width in widths:
        unit = normalize(bank[:, :width], dim=-1)
        logits = (unit[of] @ unit[others].T / temperature).masked_fill(excused, -math.inf)
        nll = logits.logsumexp(-1) - (logits.masked_fill(~itself, 0)).sum(-1)
        out = out.index_add(0, positive, nll / len(widths))
    return out


def keys_of(batch: Batch) -> Tensor:
    """[R] a number per group, from its tokens: equal groups, wherever they are, are no negatives of each other."""
    ids = batch.ids.cpu().numpy()
    keys = []
    for g in range(batch.G):
        body = hashlib.sha256(ids[batch.prompt_start[g] :][: batch.prompt_length[g]].tobytes())
        for r in np.flatnonzero(batch.group_of == g):
            body.update(ids[batch.start[r] :][: batch.length[r]].tobytes() + b"|")
        keys.append(float(int.from_bytes(body.digest()[:6], "big")))
    return torch.tensor(keys, dtype=torch.float64, device=batch.ids.device)[batch.group]


def own_rows(engine: Engine, rows: int) -> slice:
    """Where this rank's rows stand among the gathered ones; ranks know each other by a number drawn for the purpose."""
    name = secrets.randbits(52)
    told = engine.gather(torch.tensor([[float(name), float(rows)]], dtype=torch.float64)).tolist()
    at = next(i for i, (who, _) in enumerate(told) if who == float(name))
    start = int(sum(count for _, count in told[:at]))
    return slice(start, start + rows)


def belonging() -> list[Group]:
    """Two anchors with a positive each, the first with a negative too, for the laws."""
    rng = np.random.default_rng(25)

    def one(*labels: bool | None) -> Group:
        made = [Response(tokens=rng.integers(3, 60, 3 + i), trained=np.ones(3 + i, dtype=bool), label=label)
                for i, label in enumerate(labels)]  # fmt: skip
        return Group((), tuple(made), prompt_tokens=np.asarray([1]))

    return [one(None, True, False), one(None, True)]
