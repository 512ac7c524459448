"""`posttrain judge`: a model judges the answers of a file; and the judge as a reward that a recipe names.

    posttrain judge answers.jsonl --model qwen3-8b --url http://127.0.0.1:8000/v1 --out judged.jsonl
    reward: {name: judge, model: qwen3-8b, url: "http://127.0.0.1:8000/v1"}

Answers of the judge are kept by content in a store beside the output, so a killed job goes on where it was and pays nothing twice. The
model is an endpoint where there is a `url`, else a local one. Leaves out several judges at once: name them in an `ensemble`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar, Literal

from pydantic import PositiveInt, PrivateAttr

from posttrain.client import Estimate
from posttrain.core.files import write_json, write_text
from posttrain.core.group import Group, Score
from posttrain.core.protocols import Model
from posttrain.jobs import assembly, ledger_verdicts
from posttrain.jobs.answerer import Answerer
from posttrain.jobs.job import Context, Job, Source
from posttrain.jobs.sample import line_of
from posttrain.rewards import Criterion, RewardExample
from posttrain.rewards.judge import Comparison, Judge, JudgeFailed, Pairwise, Pointwise
from posttrain.rewards.judge_list import Listwise
from posttrain.rewards.judge_report import JudgeReport, report

Protocol = Literal["pairwise", "pointwise", "listwise"]


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
        made: list[list[Score]] = self.judge()(groups)  # type: ignore[operator]
        return made

    def judge(self) -> Judge:
        """The judge itself, opened once."""
        if self._judge is None:
            self._judge = judge_of(self.open(), self.protocol, self.form, self.lang, self.max_tokens)
        return self._judge

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
    ledger: str | None = None
    """Ledger that the verdicts are kept in as well, beside those of people."""
    queue: str = "main"
    """Queue of that ledger; rows that it does not know yet are added."""
    dry_run: bool = False
    """Say how many calls there would be and what they would cost at worst; nothing is sent or written."""

    def run(self, context: Context | None = None) -> JudgeReport | Estimate | None:
        """Write rows and report; returns the report (None for marks and rankings, which have no pairs; the estimate of a dry run)."""
        context = context or Context()
        groups = [g for part in assembly.gather(self.data, context) for g in part.groups]
        if self.protocol != "pointwise":
            groups = different(groups, context)
        if self.dry_run:
            return self._price(groups, context)
        judge = self._judge(self.open(self.out + ".answers.db"))
        if not isinstance(judge, Pairwise):
            from posttrain.rollout.rollouts import scored

            made = scored(groups, judge)  # type: ignore[arg-type]
            write_text(self.out, "".join(line_of(g) for g in made))
            context.say(f"{len(made)} rows judged, {judge.unparsed:.1%} of replies unparsed: {self.out}")
            self._keep(groups, [ledger_verdicts.by_scores(g) for g in made], context)
            return None
        found = judge.compare(groups)
        told = report(judge, groups, found, people_of(groups))
        rest = iter(found)
        pairs = [[next(rest) for _ in range(len(g.responses) * (len(g.responses) - 1) // 2)] for g in groups]
        rows = [self._row(g, mine, told.judge) for g, mine in zip(groups, pairs, strict=True)]
        write_text(self.out, "".join(line_of(g) for g in rows))
        write_json(self.out + ".report.json", {**told.to_json(), "counts": dict(judge.counts)})
        for line in told.lines():
            context.say(line)
        self._keep(
            groups, [ledger_verdicts.by_pairs(len(g.responses), m) for g, m in zip(groups, pairs, strict=True)], context
        )
        return told

    def _judge(self, model: Model) -> Judge:
        return judge_of(model, self.protocol, self.form, self.lang, self.max_tokens, self.seed)

    def _price(self, groups: Sequence[Group], context: Context) -> Estimate:
        model = self.priced(self.out + ".answers.db")
        with suppress(JudgeFailed):  # no reply can be read where none is given
            self._judge(model)(groups)  # type: ignore[operator]
        context.say(f"{model.estimate}; a reply that cannot be read is asked for once more, which is not counted")
        return model.estimate

    def _row(self, group: Group, found: Sequence[Comparison], judge: str) -> Group:
        told = tuple(p for p in (c.preference for c in found) if p is not None)
        return group.with_responses(group.responses, preferences=told, facts={**group.facts, "judge": judge})

    def _keep(self, groups: Sequence[Group], verdicts: Sequence[ledger_verdicts.Verdict], context: Context) -> None:
        if self.ledger is not None:
            context.say(f"{self.ledger}: {ledger_verdicts.keep(self.ledger, self.queue, self.model, groups, verdicts)}")


def different(groups: Sequence[Group], context: Context) -> list[Group]:
    """Rows with each answer once: nobody is asked to compare a text with itself. Rows that came with preferences stay as they are, as
    those name places. Raises ValueError where no row has two answers."""
    out = []
    for g in groups:
        first = {r.text: r for r in reversed(g.responses)}
        kept = [r for r in g.responses if first[r.text] is r]
        if g.preferences or g.ranking is not None:
            out.append(g)
        elif len(kept) > 1:
            out.append(g if len(kept) == len(g.responses) else g.with_responses(kept))
    if not out:
        raise ValueError(
            f"data: none of {len(groups)} rows has two different answers to compare; use protocol pointwise"
        )
    if len(out) < len(groups):
        context.say(f"left out: {len(groups) - len(out)} rows whose answers all say the same")
    return out


def people_of(groups: Sequence[Group]) -> dict[tuple[int, int, int], float] | None:
    """Labels that came with the rows: {(place, i, j): probability that i is better}; None where there are none."""
    out: dict[tuple[int, int, int], float] = {}
    for place, g in enumerate(groups):
        for p in g.pairs():
            if not p.both_bad:
                i, j, value = (p.i, p.j, p.p) if p.i < p.j else (p.j, p.i, 1 - p.p)
                out[place, i, j] = value
    return out or None
