"""`posttrain judge`: a model judges the answers of a file; and the judge as a reward that a recipe names.

    posttrain judge answers.jsonl --model qwen3-8b --url http://127.0.0.1:8000/v1 --out judged.jsonl
    reward: {name: judge, model: qwen3-8b, url: "http://127.0.0.1:8000/v1"}

Answers of the judge are kept by content in a store beside the output, so a killed job goes on where it was and pays nothing twice. The
model is an endpoint where there is a `url`, else a local one. Leaves out several judges at once: name them in an `ensemble`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveInt, PrivateAttr

from posttrain.client import Budget, Endpoint, Price, Recorded, Store
from posttrain.core.files import write_json, write_text
from posttrain.core.group import Group, Score
from posttrain.core.protocols import Model
from posttrain.core.recipe import Spec
from posttrain.core.run import fingerprint
from posttrain.jobs import assembly
from posttrain.jobs.job import Context, Job, Source
from posttrain.jobs.sample import line_of
from posttrain.rewards import Criterion, RewardExample
from posttrain.rewards.judge import Judge, Pairwise, Pointwise
from posttrain.rewards.judge_list import Listwise
from posttrain.rewards.judge_report import JudgeReport, report

Protocol = Literal["pairwise", "pointwise", "listwise"]


class Answerer(Spec):
    """A model that answers: an endpoint by `url`, or a local one."""

    model: str
    """Name at the endpoint; or a directory, a run, a hub id or `base`."""
    url: str | None = None
    """Address up to /v1; none loads the model here."""
    store: str | None = None
    """File that keeps answers, so that nothing is paid twice."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key of the endpoint."""
    max_cost: NonNegativeFloat | None = None
    """Money never passed; needs prices."""
    max_spent_tokens: PositiveInt | None = None
    """Tokens, in and out, never passed."""
    price_in: NonNegativeFloat = 0.0
    """Money per million tokens in."""
    price_out: NonNegativeFloat = 0.0
    """Money per million tokens out."""

    def open(self, store: str | None = None) -> Model:
        """The model. store: where answers are kept when the recipe names no place."""
        place = self.store or store or ":memory:"
        if self.url is not None:
            budget = Budget(self.max_spent_tokens, self.max_cost)
            return Endpoint(
                self.url,
                self.model,
                place,
                budget,
                Price(self.price_in, self.price_out),
                self.key_variable,
                on_error="void",
            )
        from posttrain.rollout.policy import Policy

        at = assembly.resolve(self.model)
        return Recorded(Policy.open(at), fingerprint(at) if Path(at).exists() else at, Store(place))


def judge_of(
    model: Model, protocol: str, form: Literal["fenced", "short"], lang: str | None, max_tokens: int, seed: int = 0
) -> Judge:
    """The judge of a protocol. Raises ValueError for a short form outside pairs."""
    if form == "short" and protocol != "pairwise":
        raise ValueError("form: `short` asks which of two answers is better; use it with protocol pairwise")
    kind = {"pairwise": Pairwise, "pointwise": Pointwise, "listwise": Listwise}[protocol]
    return kind(model, lang, form, max_tokens=max_tokens, seed=seed)


class JudgeReward(Criterion, Answerer):
    """A model that judges, as a reward: pairs in both orders, marks, or rankings."""

    name: ClassVar[str] = "judge"
    verifiable: ClassVar[bool] = False
    protocol: Protocol = "pairwise"
    """Two answers at a time in both orders, marks for each, or whole rankings."""
    form: Literal["fenced", "short"] = "fenced"
    """Questions with rules and tags, or a short one for small models that answer with a letter."""
    lang: str | None = None
    """Language of the questions; none takes that of the request."""
    max_tokens: PositiveInt = 256
    """Longest reply of the judge."""
    _judge: Judge | None = PrivateAttr(None)

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        """One Score per response, None where the judge could not be read."""
        if self._judge is None:
            self._judge = judge_of(self.open(), self.protocol, self.form, self.lang, self.max_tokens)
        made: list[list[Score]] = self._judge(groups)  # type: ignore[operator]
        return made

    @classmethod
    def example(cls) -> RewardExample:
        return RewardExample()


class JudgeJob(Answerer, Job):
    """Judge the answers of a file, with a report on the judge's own biases."""

    name: ClassVar[str] = "judge"
    produces: ClassVar[Literal["run", "file", "text"]] = "file"
    positional: ClassVar[tuple[str, ...]] = ("data",)

    data: Source
    """Rows with two or more answers (one for pointwise); preferences in them count as people's and are compared with the judge's."""
    out: str
    """JSONL of the rows with preferences (pairwise) or scores; the report goes beside it."""
    protocol: Protocol = "pairwise"
    """Two answers at a time in both orders, marks for each, or whole rankings."""
    form: Literal["fenced", "short"] = "fenced"
    """Questions with rules and tags, or a short one for small models that answer with a letter."""
    lang: str | None = None
    """Language of the questions; none takes that of the request."""
    max_tokens: PositiveInt = 256
    """Longest reply of the judge."""
    seed: int = 0
    """Seed of the judge's replies and of the orders of a ranking."""

    def run(self, context: Context | None = None) -> JudgeReport | None:
        """Write rows and report; returns the report (None for marks and rankings, which have no pairs)."""
        context = context or Context()
        groups = [g for part in assembly.gather(self.data, context) for g in part.groups]
        judge = judge_of(
            self.open(self.out + ".answers.db"), self.protocol, self.form, self.lang, self.max_tokens, self.seed
        )
        if not isinstance(judge, Pairwise):
            from posttrain.rollout.rollouts import scored

            made = scored(groups, judge)  # type: ignore[arg-type]
            write_text(self.out, "".join(line_of(g) for g in made))
            context.say(f"{len(made)} rows judged, {judge.unparsed:.1%} of replies unparsed: {self.out}")
            return None
        found = judge.compare(groups)
        told = report(judge, groups, found, people_of(groups))
        rest = iter(found)
        rows = []
        for g in groups:
            mine = [next(rest) for _ in range(len(g.responses) * (len(g.responses) - 1) // 2)]
            pairs = tuple(p for p in (c.preference for c in mine) if p is not None)
            rows.append(g.with_responses(g.responses, preferences=pairs, facts={**g.facts, "judge": told.judge}))
        write_text(self.out, "".join(line_of(g) for g in rows))
        write_json(self.out + ".report.json", {**told.to_json(), "counts": dict(judge.counts)})
        for line in told.lines():
            context.say(line)
        return told


def people_of(groups: Sequence[Group]) -> dict[tuple[int, int, int], float] | None:
    """Labels that came with the rows: {(place, i, j): probability that i is better}; None where there are none."""
    out: dict[tuple[int, int, int], float] = {}
    for place, g in enumerate(groups):
        for p in g.pairs():
            if not p.both_bad:
                i, j, value = (p.i, p.j, p.p) if p.i < p.j else (p.j, p.i, 1 - p.p)
                out[place, i, j] = value
    return out or None
