"""Extractive question answering: where in the text the answer begins and ends.

The question is the prompt, the text the response; a start and an end logit at each token of the text, each a softmax over that text
(Devlin et al. 2018, arXiv:1810.04805). A question without an answer in the text points at the closing token, which follows the whole
text, so that models that read one way can point there too. Leaves out texts longer than the model's context (they are counted, not cut).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from posttrain.core.batch import Batch
from posttrain.core.group import Group, Mark, Response
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output

START, END = 1, 2
"""Bits of a token's tag."""


class QuestionAnswering(Method):
    """Learn to point at the answer in a text, or to say that there is none."""

    name: ClassVar[str] = "question_answering"
    task: ClassVar[str] = "question_answering"
    sums: ClassVar[dict[str, Unit]] = {"nll": "row"}
    atom: ClassVar[Atom] = "row"
    wants: ClassVar[str] = (
        "questions, texts and answers that stand in them (SQuAD files, `question`, `context`, `answers`)"
    )
    learning_rate: ClassVar[tuple[float, float]] = (1e-4, 1e-3)
    symmetric: ClassVar[bool] = True

    def needs(self) -> Needs:
        return Needs(labels=2)

    def accepts(self, group: Group) -> str | None:
        ready = bool(group.prompt or group.prompt_tokens is not None) and bool(group.responses)
        return None if ready and all(r.marks is not None for r in group.responses) else "no question or no answer span"

    def arrange(self, groups: Sequence[Group]) -> Sequence[Group]:
        return [replace(g, responses=tuple(_pointed(r) for r in g.responses)) for g in groups]

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.labels is not None
        logp = out.labels - row_log_sum(out.labels, batch.row, batch.R)[batch.row]
        asked = torch.stack([(batch.data["tag"].long() & bit) > 0 for bit in (START, END)], -1)
        nll = -0.5 * torch.where(asked, logp, 0.0).sum(-1) * batch.data["row_weight"][batch.row]
        return Loss(sums={"nll": nll.sum()}, metrics={"nll": (nll.detach().sum(), batch.R)})

    @classmethod
    def example(cls) -> Example:
        known = {"tag": [0, START, END, 0, 0, 0, 0, 0, START + END]}
        sure = [[0.0, 0.0] for _ in range(9)]
        sure[1][0] = sure[2][1] = sure[8][0] = sure[8][1] = 1e9
        even = 0.5 * 2 * (math.log(4) + math.log(5))
        return Example(
            groups=questions(),
            anchors={
                "even": Anchor({"labels": [[0.0, 0.0]] * 9}, {"nll": even}, known, source="log 4 and log 5 tokens"),
                "sure and right": Anchor({"labels": sure}, {"nll": 0.0}, known, source="probability 1"),
            },
        )


def row_log_sum(values: Tensor, row: Tensor, rows: int) -> Tensor:
    """log sum exp over each row's tokens: values [N, k], row [N] -> [rows, k]."""
    index = row[:, None].expand_as(values)
    top = values.detach().new_full((rows, values.shape[1]), -math.inf)
    top = top.scatter_reduce(0, index, values.detach(), "amax")
    return top + torch.zeros_like(top).scatter_add(0, index, (values - top[row]).exp()).log()


def _pointed(response: Response) -> Response:
    """The response with its first mark as tags: the tokens where it begins and ends, the closing token where there is none."""
    assert response.marks is not None and response.offsets is not None
    tags = np.zeros(len(response.offsets), dtype=np.int64)
    first, last = pointed(response.offsets, response.marks, response.trained)
    tags[first] |= START
    tags[last] |= END
    return replace(response, tags=tags)


def pointed(offsets: np.ndarray, marks: Sequence[Mark], trained: np.ndarray | None) -> tuple[int, int]:
    """First and last token of the first mark; both the closing token where nothing is marked."""
    closing = int(np.flatnonzero(np.ones(len(offsets)) if trained is None else trained)[-1])
    if not marks:
        return closing, closing
    start, end = marks[0].start, marks[0].end
    inside = [i for i, (s, e) in enumerate(offsets.tolist()) if s < e and e > start and (end is None or s < end)]
    return (inside[0], inside[-1]) if inside else (closing, closing)


def questions() -> list[Group]:
    """Two questions with texts of four and five tokens, one answered and one not, for the laws."""
    rng = np.random.default_rng(23)

    def one(n: int, marks: tuple[Mark, ...]) -> Group:
        ends = [*range(2, 2 * n, 2), 0]
        offsets = np.asarray([*zip([0, *ends[: n - 2]], ends[: n - 1]), (0, 0)])
        tokens = rng.integers(3, 60, n)
        response = Response(tokens=tokens, trained=np.ones(n, dtype=bool), marks=marks, offsets=offsets)
        return Group((), (response,), prompt_tokens=rng.integers(3, 60, 3))

    return [one(4, (Mark("answer", 2, 6),)), one(5, ())]
