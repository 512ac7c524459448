"""Verifiers of a final answer: exact text, mathematical value, pattern.

The gold answer stands in the group's facts (`answer` unless told otherwise); where the result stands in a response, `final_answer` says. A
result worth the same as the gold scores 1, any other 0; `partial` is what a readable but wrong result earns in `math`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Literal

import regex
from pydantic import Field, NonNegativeFloat, PositiveFloat, field_validator

from posttrain.core.group import Group, Response, Score, group
from posttrain.rewards.criterion import Criterion, RewardExample, gold_first
from posttrain.rewards.final_answer import final_answer
from posttrain.rewards.math_value import Unreadable, Value, equal, parse, plain

NUMBER = re.compile(r"[-−]?\d[\d.,' \u00a0\u202f]*(?:/\d+)?")
SHOWN = 60


def gold_of(group: Group, fact: str) -> list[str]:
    """The accepted answers of a group. Raises ValueError naming the group and the fact that is missing."""
    value = group.facts.get(fact)
    if value is None:
        raise ValueError(f"group {group.id}: facts[{fact!r}] is missing; give the gold answer under that name")
    return [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]


def folded(text: str) -> str:
    """Letters and digits alone, in lower case: what two spellings of one answer share."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\w+", text))


def clipped(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


class Exact(Criterion):
    """1 where the final answer is a gold answer, letter for letter but for case, accents' composition, spaces and punctuation."""

    name: ClassVar[str] = "exact"
    facts: ClassVar[tuple[str, ...]] = ("answer",)
    fact: str = "answer"
    """The fact that holds the gold answer, or a list of accepted ones."""

    def one(self, group: Group, response: Response) -> Score:
        golds, (said, how) = gold_of(group, self.fact), final_answer(response.text)
        right = any(folded(said) == folded(gold) and folded(gold) for gold in golds) or said in golds
        verdict = "equals" if right else "is not"
        return Score(
            float(right), {"exact": float(right)}, f"{clipped(said)!r} ({how}) {verdict} {clipped(golds[0])!r}"
        )

    @classmethod
    def example(cls) -> RewardExample:
        return RewardExample([gold_first("Capital of France?", "Paris", "Rome", "", answer="Paris")])


@lru_cache(maxsize=4096)
def value_of(text: str) -> Value | None:
    """`parse`, or None for what has no value."""
    try:
        return parse(text)
    except (Unreadable, ValueError, OverflowError, ZeroDivisionError):
        return None


class Math(Criterion):
    """1 where the final answer is worth the same as the gold: numbers in any spelling, LaTeX, units, tuples, formulas."""

    name: ClassVar[str] = "math"
    facts: ClassVar[tuple[str, ...]] = ("answer",)
    fact: str = "answer"
    """The fact that holds the gold answer, or a list of accepted ones."""
    tolerance: PositiveFloat = 1e-6
    """Relative difference that is forgiven (absolute below 1)."""
    partial: NonNegativeFloat = 0.0
    """What a result earns that can be read but is wrong."""

    def one(self, group: Group, response: Response) -> Score:
        golds, (said, how) = gold_of(group, self.fact), final_answer(response.text)
        if any(self.same(said, gold) for gold in golds):
            return Score(1.0, {"math": 1.0}, f"{clipped(said)!r} ({how}) is worth {clipped(golds[0])!r}")
        found = said if value_of(said) is not None else self.last_number(said)
        if found is None:
            return Score(0.0, {"math": 0.0}, f"no value in {clipped(said)!r}; the gold is {clipped(golds[0])!r}")
        right = how != "box" and found is not said and any(self.same(found, gold) for gold in golds)
        verdict = "is worth" if right else "is not worth"
        return Score(
            1.0 if right else self.partial,
            {"math": float(right)},
            f"{clipped(found)!r} ({how}) {verdict} {clipped(golds[0])!r}",
        )

    def same(self, said: str, gold: str) -> bool:
        """Equal in value, or as folded text where one of them has no value."""
        a, b = value_of(said), value_of(gold)
        if a is None or b is None:
            return bool(folded(gold)) and folded(plain(said)) == folded(plain(gold))
        return equal(a, b, self.tolerance)

    def last_number(self, text: str) -> str | None:
        """The last number in running text."""
        found = NUMBER.findall(text)
        return found[-1].strip().rstrip(".,'") if found else None

    @classmethod
    def example(cls) -> RewardExample:
        return RewardExample(
            [
                gold_first("6 x 7?", "so it is 42", "41", "forty-two or so", answer="42"),
                gold_first("half?", r"\boxed{\frac{1}{2}}", r"\boxed{2}", "1/3", answer="0.5"),
            ]
        )


class Regex(Criterion):
    """1 where a pattern is found in the answer; with `equals`, only where its first group is that fact."""

    name: ClassVar[str] = "regex"
    pattern: str = Field(min_length=1)
    """The pattern, in the syntax of the `regex` package."""
    whole: bool = False
    """Must the whole answer match, and not a part of it?"""
    equals: str | None = None
    """A fact that the pattern's first group must spell."""
    seconds: PositiveFloat = 1.0
    """Longest time for one answer; beyond it the answer has no score."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            regex.compile(value)
        except regex.error as error:
            raise ValueError(f"{value!r} is no regular expression: {error}") from None
        return value

    @cached_property
    def compiled(self) -> Any:
        return regex.compile(self.pattern)

    def one(self, group: Group, response: Response) -> Score:
        search = self.compiled.fullmatch if self.whole else self.compiled.search
        try:
            found = search(response.text, timeout=self.seconds)
        except TimeoutError:
            return Score(None, why=f"the pattern took longer than {self.seconds:g} s")
        if found is None:
            return Score(0.0, {"regex": 0.0}, f"{clipped(self.pattern)!r} is not there")
        if self.equals is None:
            return Score(1.0, {"regex": 1.0}, f"found {clipped(found.group())!r}")
        said = found.group(1) if self.compiled.groups else found.group()
        right = folded(said or "") in {folded(gold) for gold in gold_of(group, self.equals)}
        return Score(
            float(right), {"regex": float(right)}, f"{clipped(said or '')!r} {'is' if right else 'is not'} the gold"
        )

    @classmethod
    def example(cls) -> RewardExample:
        groups = [group("When?", "In 1862.", "In 1826.", "Long ago.", facts={"year": "1862"})]
        return RewardExample(groups, {"pattern": r"(\d{4})", "equals": "year"})


class Choice(Criterion):
    """1 where the chosen letter of a multiple-choice question is the gold letter."""

    name: ClassVar[str] = "choice"
    facts: ClassVar[tuple[str, ...]] = ("answer",)
    fact: str = "answer"
    """The fact that holds the gold letter."""
    letters: str = "ABCDE"
    """The letters on offer."""
    pick: Literal["first", "last"] = "last"
    """Which letter counts where several stand alone in the answer."""

    def one(self, group: Group, response: Response) -> Score:
        gold, (said, how) = gold_of(group, self.fact)[0].strip().upper(), final_answer(response.text)
        found = re.findall(rf"(?<!\w)[(\[]?([{re.escape(self.letters)}])[)\].:]?(?!\w)", said)
        if not found:
            return Score(0.0, {"choice": 0.0}, f"no letter of {self.letters} in {clipped(said)!r}")
        chosen = found[0 if self.pick == "first" else -1]
        return Score(
            float(chosen == gold), {"choice": float(chosen == gold)}, f"chose {chosen} ({how}), the gold is {gold}"
        )

    @classmethod
    def example(cls) -> RewardExample:
        return RewardExample([gold_first("A, B or C?", "Answer: B", "Answer: C", "no idea", answer="B")])
