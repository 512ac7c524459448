"""Distillation: at every token of an answer, match the teacher's distribution over the next one.

The answers may be anyone's: those of a data set or of the teacher (off-policy), or the student's own, sampled as it learns (on-policy;
a source of rollouts). Divergences: forward KL (Hinton et al. 2015, arXiv:1503.02531), reverse KL (Gu et al. 2023, arXiv:2306.08543) and
the generalised Jensen-Shannon divergence (GKD, Agarwal et al. 2023, arXiv:2306.13649). A teacher is kept as its k likeliest tokens with
their log-probs and one bucket for all the rest, which bounds the full divergence from below; k = none keeps the whole vocabulary.
Teacher and student must share one vocabulary. Leaves out: matching hidden states, teachers with another tokenizer.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from posttrain.core.batch import Batch
from posttrain.core.group import Group, Response
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import EVERY, Loss, Needs, Output
from posttrain.core.protocols import Engine
from posttrain.core.recipe import Kind, one_of

TINY = 1e-7
"""Least probability of the bucket that holds all tokens outside the teacher's k."""


class Match(Kind):
    """How far two distributions over the same outcomes are apart."""

    family: ClassVar[str] = "match"

    def __call__(self, q: Tensor, p: Tensor) -> Tensor:
        """Log-probs of teacher q and student p [N, K], each row summing to 1 in probability -> [N], 0 where they agree."""
        raise AssertionError(f"{type(self).__name__} has no formula")


class TeacherMatch(Match):
    """KL(teacher, student): the student must cover all that the teacher may say."""

    name: ClassVar[str] = "forward_kl"

    def __call__(self, q: Tensor, p: Tensor) -> Tensor:
        return kl(q, p)


class StudentMatch(Match):
    """KL(student, teacher): the student may say only what the teacher would; it settles on the likeliest answers."""

    name: ClassVar[str] = "reverse_kl"

    def __call__(self, q: Tensor, p: Tensor) -> Tensor:
        return kl(p, q)


class MixedMatch(Match):
    """Generalised Jensen-Shannon: b KL(q, m) + (1 - b) KL(p, m) with m = b q + (1 - b) p; bounded, between the two KLs."""

    name: ClassVar[str] = "jsd"
    b: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the teacher in the mixture: near 0 the gradient is that of the forward KL, near 1 that of the reverse."""

    def __call__(self, q: Tensor, p: Tensor) -> Tensor:
        mixed = torch.logaddexp(q + math.log(self.b), p + math.log1p(-self.b))
        return self.b * kl(q, mixed) + (1 - self.b) * kl(p, mixed)


def kl(a: Tensor, b: Tensor) -> Tensor:
    """KL of rows of log-probs [N, K] -> [N]; what a rules out counts nothing."""
    return (a.exp() * (a - b)).sum(-1)


def with_rest(logp: Tensor) -> Tensor:
    """One column more: the log-prob of everything outside the k given ones. [N, k] -> [N, k + 1]."""
    held = logp.logsumexp(-1, keepdim=True).clamp_max(math.log1p(-TINY))
    return torch.cat([logp, torch.log(-torch.expm1(held))], -1)


class Distill(Method):
    """Match a teacher's distribution at every token."""

    name: ClassVar[str] = "distill"
    sums: ClassVar[dict[str, Unit]] = {"match": "token"}
    atom: ClassVar[Atom] = "row"
    wants: ClassVar[str] = "prompts with answers (of a data set, of the teacher, or sampled), and a teacher"
    learning_rate: ClassVar[tuple[float, float]] = (2e-5, 2e-4)
    symmetric: ClassVar[bool] = True

    match: one_of(Match) = TeacherMatch()  # type: ignore[valid-type]
    """What is made small: forward_kl covers the teacher, reverse_kl keeps to its likeliest answers, jsd lies between."""
    k: PositiveInt | None = 64
    """Likeliest tokens of the teacher that are kept at each place; none keeps the whole vocabulary, which small ones allow."""
    temperature: PositiveFloat = 1.0
    """Logits of both are divided by it: higher shows more of what the teacher holds unlikely."""
    tau_squared: bool = False
    """Multiply the loss by the squared temperature, so that gradients keep their size (Hinton et al.)."""

    def needs(self) -> Needs:
        return Needs(at_ids="teacher_ids", roles=frozenset({"teacher"}), temperature=self.temperature)

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        asked = Needs(topk=self.k or EVERY, temperature=self.temperature)
        out = engine.score(batch, asked, role="teacher")
        assert out.topk_ids is not None and out.topk_logp is not None
        return batch.plus("token", teacher_ids=out.topk_ids, teacher=out.topk_logp)

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.at_logp is not None
        teacher, student = batch.data["teacher"].to(out.at_logp.dtype), out.at_logp
        agree = (teacher.detach().argmax(-1) == student.detach().argmax(-1)).float().sum()
        if self.k is not None:
            teacher, student = with_rest(teacher), with_rest(student)
        far = self.match(teacher, student)
        weight = batch.data["weight"] * batch.data["row_weight"][batch.row]
        scale = self.temperature**2 if self.tau_squared else 1.0
        return Loss(
            sums={"match": scale * (weight * far).sum()},
            metrics={"match": (far.detach().sum(), batch.N), "agreement": (agree, batch.N)},
        )

    @classmethod
    def example(cls) -> Example:
        half, uneven = [math.log(0.5)] * 2, [math.log(0.75), math.log(0.25)]
        sure, other = [0.0, -60.0], [-60.0, 0.0]
        forward = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
        backward = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
        part = [math.log(0.5), math.log(0.25)]  # the rest has 0.25

        def known(student: list[float], value: float, teacher: list[float] = half, **fields: object) -> Anchor:
            at = {"at_logp": [student] * 9}
            data = {"teacher": [teacher] * 9, "teacher_ids": [[0, 1]] * 9}
            return Anchor(at, {"match": 9 * value}, data, "closed form in float64", {"k": None, **fields})

        return Example(
            groups=lessons(),
            anchors={
                "student = teacher": known(half, 0.0),
                "forward KL": known(uneven, forward),
                "reverse KL": known(uneven, backward, match="reverse_kl"),
                "disjoint support": known(other, math.log(2), teacher=sure, match="jsd"),
                "three buckets": known(part, 0.0, teacher=part, k=2),
                "temperature squared": known(uneven, 4 * forward, temperature=2.0, tau_squared=True),
            },
            variants=(
                {"match": "reverse_kl", "k": None},
                {"match": {"name": "jsd", "b": 0.3}, "k": 8, "temperature": 1.5, "tau_squared": True},
            ),
        )


def lessons() -> list[Group]:
    """Two prompts with one answer and with two, 5 and 2 + 2 trained tokens, the last after an untrained tool turn."""
    rng = np.random.default_rng(9)

    def one(*trained: int) -> Response:
        return Response(tokens=rng.integers(3, 60, len(trained)), trained=np.asarray(trained, dtype=bool))

    return [
        Group((), (one(1, 1, 1, 1, 1),), prompt_tokens=rng.integers(3, 60, 6)),
        Group((), (one(1, 1), one(1, 0, 0, 1)), prompt_tokens=rng.integers(3, 60, 3)),
    ]
