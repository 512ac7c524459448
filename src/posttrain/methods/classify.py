"""Sequence classification: one class for a whole text.

Cross-entropy of the class logits read at the text's end (an encoder's own head reads where its family does). Leaves out texts with several
classes at once: train one run per class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from torch.nn.functional import cross_entropy

from posttrain.core.batch import Batch
from posttrain.core.group import Group, Mark, Response
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.core.protocols import Engine

BINARY = ("no", "yes")


class SequenceClassification(Method):
    """Learn the class of a whole text."""

    name: ClassVar[str] = "sequence_classification"
    task: ClassVar[str] = "sequence_classification"
    sums: ClassVar[dict[str, Unit]] = {"nll": "row"}
    atom: ClassVar[Atom] = "row"
    wants: ClassVar[str] = "texts with a class each (`text`, `label`)"
    learning_rate: ClassVar[tuple[float, float]] = (5e-5, 5e-4)
    symmetric: ClassVar[bool] = True

    labels: tuple[str, ...] = ()
    """Names of the classes in the order of the outputs; those of the data, sorted, when not given."""
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target probability that is spread over all classes; 0 trusts the labels."""

    def settled(self, groups: Sequence[Group], tokenizer: Any) -> Method:
        found = sorted({r.marks[0].label for g in groups for r in g.responses if r.marks})
        if not self.labels and len(found) < 2:
            raise ValueError(f"method.labels: the data hold one class only ({', '.join(found)}); two are needed")
        return self if self.labels else self.changed(labels=tuple(found))

    def needs(self) -> Needs:
        return Needs(score=len(self.labels or BINARY))

    def accepts(self, group: Group) -> str | None:
        classes = {None if not r.marks else r.marks[0].label for r in group.responses}
        if not classes or None in classes:
            return "no class"
        odd = sorted(c for c in classes if c is not None and self.labels and c not in self.labels)
        return f"class {odd[0]!r} is not one of method.labels" if odd else None

    def arrange(self, groups: Sequence[Group]) -> Sequence[Group]:
        return [replace(g, responses=tuple(self._tagged(r) for r in g.responses)) for g in groups]

    def _tagged(self, response: Response) -> Response:
        assert response.marks and response.trained is not None
        tags = np.full(len(response.trained), -1, dtype=np.int64)
        tags[np.flatnonzero(response.trained)[-1]] = (self.labels or BINARY).index(response.marks[0].label)
        return replace(response, tags=tags)

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        return batch.plus("row", target_class=batch.data["tag"][batch.tokens_of[1:] - 1])

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.score is not None
        target = batch.data["target_class"].long()
        nll = cross_entropy(out.score, target, reduction="none", label_smoothing=self.smoothing)
        right = (out.score.argmax(-1) == target).sum()
        return Loss(
            sums={"nll": (batch.data["row_weight"] * nll).sum()},
            metrics={"nll": (nll.detach().sum(), batch.R), "accuracy": (right, batch.R)},
        )

    @classmethod
    def example(cls) -> Example:
        even = {"score": [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]}
        known = {"target_class": [1, 0, 1]}
        return Example(
            groups=texts("yes", "no", "yes"),
            anchors={
                "even": Anchor(even, {"nll": 3 * math.log(2)}, known, source="equal logits over 2 classes cost log 2"),
                "sure and right": Anchor(
                    {"score": [[0.0, 1e9], [1e9, 0.0], [0.0, 1e9]]}, {"nll": 0.0}, known, source="probability 1"
                ),
            },
            variants=[{"labels": ["yes", "maybe", "no"], "smoothing": 0.1}],
        )


def texts(*labels: str) -> list[Group]:
    """Short texts of one class each, for the laws."""
    rng = np.random.default_rng(21)

    def one(n: int, label: str) -> Group:
        response = Response(tokens=rng.integers(3, 60, n), trained=np.ones(n, dtype=bool), marks=(Mark(label),))
        return Group((), (response,), prompt_tokens=np.asarray([1]))

    return [one(4 + i, label) for i, label in enumerate(labels)]
