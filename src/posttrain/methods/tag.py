"""Token classification: named entities and other spans, as BIO tags of tokens.

Each token is B-x where a span of label x begins, I-x inside it, O elsewhere (Ramshaw and Marcus 1995, arXiv:cmp-lg/9505040); the loss is
the cross-entropy of the tag at the token itself. Closing tokens have no tag. Leaves out nested spans: the first that covers a token counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from posttrain.core.batch import Batch
from posttrain.core.group import Group, Mark, Response
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.core.protocols import Engine

ONE = ("span",)


class TokenClassification(Method):
    """Learn which pieces of a text are what, token by token."""

    name: ClassVar[str] = "token_classification"
    task: ClassVar[str] = "token_classification"
    sums: ClassVar[dict[str, Unit]] = {"nll": "tagged"}
    atom: ClassVar[Atom] = "row"
    wants: ClassVar[str] = "texts with spans (`tokens` and `ner_tags`, CoNLL files, `text` and `spans`)"
    learning_rate: ClassVar[tuple[float, float]] = (1e-4, 1e-3)
    symmetric: ClassVar[bool] = True

    labels: tuple[str, ...] = ()
    """Names of the kinds of spans, without B- and I-; those of the data, sorted, when not given."""

    def settled(self, groups: Sequence[Group], tokenizer: Any) -> Method:
        found = sorted({m.label for g in groups for r in g.responses for m in r.marks or ()})
        if not self.labels and not found:
            raise ValueError("method.labels: no row has a span; there is nothing to learn")
        return self if self.labels else self.changed(labels=tuple(found))

    @property
    def tags(self) -> tuple[str, ...]:
        """Names of the outputs: O, then B and I of each label."""
        return ("O", *(f"{side}-{name}" for name in self.labels or ONE for side in "BI"))

    def needs(self) -> Needs:
        return Needs(labels=len(self.tags))

    def accepts(self, group: Group) -> str | None:
        if not group.responses or any(r.marks is None for r in group.responses):
            return "no spans are given"
        odd = sorted({m.label for r in group.responses for m in r.marks or ()} - set(self.labels))
        return f"span label {odd[0]!r} is not one of method.labels" if self.labels and odd else None

    def arrange(self, groups: Sequence[Group]) -> Sequence[Group]:
        return [replace(g, responses=tuple(self._tagged(r) for r in g.responses)) for g in groups]

    def _tagged(self, response: Response) -> Response:
        assert response.marks is not None and response.offsets is not None
        names = [None if n is None else self.tags.index(n) for n in bio(response.offsets, response.marks)]
        return replace(response, tags=np.asarray([-1 if n is None else n for n in names], dtype=np.int64))

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        return batch.counting("token", tagged=(batch.data["tag"] >= 0).float())

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.labels is not None
        tag, asked = batch.data["tag"].long(), batch.data["tag"] >= 0
        nll = torch.where(asked, cross_entropy(out.labels, tag.clamp_min(0), reduction="none"), 0.0)
        right = ((out.labels.argmax(-1) == tag) & asked).sum()
        return Loss(
            sums={"nll": (batch.data["row_weight"][batch.row] * nll).sum()},
            metrics={"nll": (nll.detach().sum(), asked.sum()), "accuracy": (right, asked.sum())},
        )

    @classmethod
    def example(cls) -> Example:
        known = {"tag": [0, 1, 2, -1, 1, 0, 0, 0, -1]}
        sure = [[0.0, 0.0, 0.0] for _ in range(9)]
        for i, tag in enumerate(known["tag"]):
            sure[i][max(tag, 0)] = 1e9
        return Example(
            groups=spans(),
            anchors={
                "even": Anchor({"labels": [[0.0] * 3] * 9}, {"nll": 7 * math.log(3)}, known, source="7 tags of 3"),
                "sure and right": Anchor({"labels": sure}, {"nll": 0.0}, known, source="probability 1"),
            },
        )


def bio(offsets: np.ndarray, marks: Sequence[Mark]) -> list[str | None]:
    """The BIO tag of each token; None for a token without text. offsets [n, 2]: characters of each token."""
    out: list[str | None] = []
    before: Mark | None = None
    for start, end in offsets.tolist():
        if start >= end:
            out.append(None)
            continue
        here = next((m for m in marks if m.start < end and (m.end is None or start < m.end)), None)
        out.append("O" if here is None else f"{'I' if here is before else 'B'}-{here.label}")
        before = here
    return out


def spans() -> list[Group]:
    """Two texts of four and five tokens with one span each, the last token without text, for the laws."""
    rng = np.random.default_rng(22)

    def one(n: int, mark: Mark) -> Group:
        ends = [*range(2, 2 * n, 2), 0]
        offsets = np.asarray([*zip([0, *ends[: n - 2]], ends[: n - 1]), (0, 0)])
        tokens = rng.integers(3, 60, n)
        response = Response(tokens=tokens, trained=np.ones(n, dtype=bool), marks=(mark,), offsets=offsets)
        return Group((), (response,), prompt_tokens=np.asarray([1]))

    return [one(4, Mark("span", 2, 6)), one(5, Mark("span", 0, 2))]
