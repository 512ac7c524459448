"""Judges: any Model as a Reward. Pairwise in both orders, pointwise by a rubric, listwise over permutations.

    judge = Pairwise(model)
    judge([group])              # Scores, for any method
    judge.compare([group])      # one Comparison per pair, for training data and for audits

In a pair that is shown in both orders a judge that follows the position contradicts itself; such a pair says .5 at half weight and is
counted. A reply that cannot be read is unparsed, never a tie, and above a tenth of them a judge stops. Zheng et al. 2023 (arXiv:2306.05685)
for the biases; Plackett 1975 for joined rankings.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from posttrain.core.chat import as_chat, assistant, user
from posttrain.core.group import Group, Preference, Response, Score, answer
from posttrain.core.protocols import Model, Request, Sampling
from posttrain.rewards import judge_parse, judge_prompts
from posttrain.rewards.judge_parse import Choice

WARN, STOP = 0.02, 0.10
"""Unparsed rates at which a judge is doubtful, and at which it stops (from 50 questions on)."""


class JudgeFailed(RuntimeError):
    """Too many replies that cannot be read."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a judge said of responses i and j of a group. ab: when i was shown first; ba: when j was (both name the letter shown, None =
    unparsed). p: probability that i is better, None where neither order could be read. weight: 1, or .5 where the orders disagree
    or one is missing. both_bad: both orders, or the only one, called both unacceptable."""

    i: int
    j: int
    ab: Choice | None
    ba: Choice | None
    p: float | None
    weight: float
    consistent: bool
    both_bad: bool = False

    @property
    def preference(self) -> Preference | None:
        """As training data; None where nothing could be read."""
        if self.p is None:
            return None
        i, j, p = (self.i, self.j, self.p) if self.p >= 0.5 else (self.j, self.i, 1 - self.p)
        return Preference(i, j, p=p, weight=self.weight, both_bad=self.both_bad)


VALUE: dict[Choice, float] = {"A": 1.0, "B": 0.0, "tie": 0.5, "bad": 0.5}


def joined(i: int, j: int, ab: Choice | None, ba: Choice | None) -> Comparison:
    """Two orders as one comparison: agreeing orders count in full, disagreeing ones give .5 at half weight."""
    values = [v for v in (VALUE[ab] if ab else None, 1 - VALUE[ba] if ba else None) if v is not None]
    bad = {c for c in (ab, ba) if c} == {"bad"}
    if len(values) < 2:
        return Comparison(i, j, ab, ba, values[0] if values else None, 0.5 if values else 0.0, False, bad)
    same = values[0] == values[1]
    p = values[0] if same else (0.5 if abs(values[0] - values[1]) == 1 else sum(values) / 2)
    return Comparison(i, j, ab, ba, p, 1.0 if same else 0.5, same, bad)


@dataclass
class Judge:
    """What all judges share. model: who judges. lang: of the questions; None takes that of the request. counts: asked, unparsed, repaired,
    failed, fenced. form: ``fenced`` asks with rules and tags; ``short`` asks small models that answer with a letter."""

    model: Model
    lang: str | None = None
    form: Literal["fenced", "short"] = "fenced"
    blind: bool = True
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    repair: bool = True
    reference: str | None = None
    """Name of the fact that holds a reference answer to show the judge."""
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if self.lang is not None and self.lang not in judge_prompts.LANGUAGES:
            raise ValueError(f"judge: lang {self.lang!r} is unknown; accepted: {', '.join(judge_prompts.LANGUAGES)}")

    @property
    def unparsed(self) -> float:
        """Share of questions whose reply could not be read."""
        return self.counts["unparsed"] / max(self.counts["asked"], 1)

    def _lang(self, group: Group) -> str:
        return self.lang or judge_prompts.language(group.prompt_text)

    def _gold(self, group: Group) -> str | None:
        value = group.facts.get(self.reference) if self.reference else None
        return None if value is None else str(value)

    def _ask(self, questions: Sequence[tuple[str, str] | None], read: Callable[[int, str], Any]) -> list[Any]:
        """Replies read, None where they cannot be; questions: (text, language), None for one that may not be put."""
        sampling = Sampling(temperature=self.temperature, max_tokens=self.max_tokens)
        put = [i for i, q in enumerate(questions) if q is not None]
        requests = [Request(as_chat(questions[i][0]), sampling, seed=self.seed) for i in put]  # type: ignore[index]
        said = [g.responses[0] for g in self.model.generate(requests)] if requests else []
        out: list[Any] = [None] * len(questions)
        again: list[tuple[int, Request]] = []
        for i, request, reply in zip(put, requests, said, strict=True):
            out[i] = read(i, reply.text)
            self.counts["failed"] += reply.stop == "error"
            if out[i] is None and self.repair and reply.text.strip():
                told = (*request.prompt, assistant(reply.text), user(judge_prompts.REPAIR[questions[i][1]]))  # type: ignore[index]
                again.append((i, Request(told, sampling, seed=self.seed)))
        for (i, _), made in zip(again, self.model.generate([r for _, r in again]) if again else (), strict=True):
            out[i] = read(i, made.responses[0].text)
            self.counts["repaired"] += out[i] is not None
        self._count(len(put), sum(out[i] is None for i in put), len(questions) - len(put))
        return out

    def _count(self, asked: int, unparsed: int, fenced: int) -> None:
        self.counts.update(asked=asked, unparsed=unparsed, fenced=fenced)
        if self.counts["asked"] >= 50 and self.unparsed > STOP:
            raise JudgeFailed(
                f"the judge's reply could not be read {self.counts['unparsed']} times of {self.counts['asked']} "
                f"({self.unparsed:.0%}, at most {STOP:.0%}); choose another judge, more max_tokens, or the form `short`"
            )

    def _question(
        self, group: Group, answers: Sequence[tuple[str, str]], task: str, lang: str
    ) -> tuple[str, str] | None:
        try:
            return judge_prompts.asked(group.prompt_text, answers, task, lang, self._gold(group), self.blind), lang
        except judge_prompts.FenceBroken:
            return None


SHORT = {"en": "Which answer is better, A or B?", "fr": "Quelle réponse est la meilleure, A ou B ?",
         "ru": "Какой ответ лучше, A или B?", "zh": "哪个回答更好，A 还是 B？"}  # fmt: skip
COLON = {"fr": " : ", "zh": "："}


@dataclass
class Pairwise(Judge):
    """Two answers at a time. both: in both orders (the default); one order halves the price and keeps the position's bias.

    As a Reward, a response's value is its mean probability of winning against the others of its group."""

    both: bool = True

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        """One Score per response; None where no comparison could be read, or where there is nothing to compare with."""
        pairs = iter(self.compare(groups))
        return [self._scores(len(g.responses), list(itertools.islice(pairs, _count(g)))) for g in groups]

    def prefer(self, prompt: str, a: str, b: str) -> float:
        """Probability that `a` is the better answer; .5 where the judge cannot be read (counted)."""
        (made,) = self.compare([Group(as_chat(prompt), (answer(a), answer(b)))])
        return 0.5 if made.p is None else made.p

    def compare(self, groups: Sequence[Group]) -> list[Comparison]:
        """Every pair i < j of every group, in order."""
        pairs = [(g, i, j) for g in groups for i, j in itertools.combinations(range(len(g.responses)), 2)]
        orders = [(g, i, j) for g, i, j in pairs] + ([(g, j, i) for g, i, j in pairs] if self.both else [])
        read = judge_parse.short_choice if self.form == "short" else judge_parse.choice
        said = self._ask([self._pair(g, i, j) for g, i, j in orders], lambda _, text: read(text))
        second = said[len(pairs) :] if self.both else [None] * len(pairs)
        made = [joined(i, j, ab, ba) for (_, i, j), ab, ba in zip(pairs, said, second, strict=False)]
        return made if self.both else [_single(c) for c in made]

    def preferences(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with the judge's preferences, `by` the judge; pairs that could not be read are left out (counted)."""
        found = iter(self.compare(groups))
        out = []
        for g in groups:
            told = [c.preference for c in itertools.islice(found, _count(g))]
            facts = {**g.facts, "judge": name_of(self.model), "judge_version": judge_prompts.VERSION}
            out.append(g.with_responses(g.responses, preferences=tuple(p for p in told if p is not None), facts=facts))
        return out

    def _pair(self, group: Group, i: int, j: int) -> tuple[str, str] | None:
        lang = self._lang(group)
        a, b = group.responses[i].text, group.responses[j].text
        if self.form == "short":
            colon = COLON.get(lang, ": ")
            return f"{group.prompt_text}\nA{colon}{a}\nB{colon}{b}\n{SHORT[lang]}", lang
        return self._question(group, [("A", a), ("B", b)], judge_prompts.PAIR[lang], lang)

    def _scores(self, n: int, found: Sequence[Comparison]) -> list[Score]:
        out = []
        for r in range(n):
            mine = [c for c in found if r in (c.i, c.j)]
            wins = [(c.p if c.i == r else 1 - c.p, c.weight) for c in mine if c.p is not None]
            if not wins:
                out.append(Score(None, why="no comparison could be read" if mine else "nothing to compare with"))
                continue
            value = sum(p * w for p, w in wins) / sum(w for _, w in wins)
            steady = sum(c.consistent for c in mine) / len(mine)
            told = {"wins": value, "compared": float(len(wins)), "consistent": steady}
            out.append(Score(value, told, f"{value:.2f} of {len(wins)} comparisons, {steady:.0%} alike in both orders"))
        return out


def _count(group: Group) -> int:
    return len(group.responses) * (len(group.responses) - 1) // 2


def _single(c: Comparison) -> Comparison:
    """A comparison made in one order by intention."""
    return Comparison(c.i, c.j, c.ab, None, c.p, 1.0 if c.ab else 0.0, c.ab is not None, c.both_bad)


@dataclass
class Pointwise(Judge):
    """Whole numbers 1 to 5 per criterion; a response's value is their mean, brought to [0, 1]."""

    criteria: Sequence[str] = judge_prompts.CRITERIA

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        """One Score per response, its parts the marks; None where the reply could not be read."""
        rows = [(g, r) for g in groups for r in g.responses]
        marks = iter(
            self._ask([self._one(g, r) for g, r in rows], lambda _, text: judge_parse.scores(text, self.criteria))
        )
        return [[self._score(next(marks)) for _ in g.responses] for g in groups]

    def _one(self, group: Group, response: Response) -> tuple[str, str] | None:
        lang = self._lang(group)
        fields = " ".join(f"{name}=N" for name in self.criteria)
        return self._question(group, [("A", response.text)], judge_prompts.POINT[lang].format(fields=fields), lang)

    def _score(self, marks: dict[str, int] | None) -> Score:
        if marks is None:
            return Score(None, why="the judge's reply could not be read")
        value = (sum(marks.values()) / len(marks) - 1) / 4
        return Score(value, {k: float(v) for k, v in marks.items()}, ", ".join(f"{k} {v}" for k, v in marks.items()))


def name_of(model: Any) -> str:
    """Who judged, as rows name it."""
    return str(getattr(model, "by", type(model).__name__))
