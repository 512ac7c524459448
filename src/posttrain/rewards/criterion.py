"""A reward that a recipe can name: `Criterion`, the family ``reward``, and what people may hand over in place of one.

    reward: math                                               reward: {name: sum, terms: [{reward: math}, {reward: think, weight: 0.2}]}

Every criterion is a `core.protocols.Reward`: groups in, one `Score` per response out. `as_reward` turns plain functions, scalar functions
(through `each`) and objects with ``prefer`` into Rewards and refuses anything else with a hint. Leaves out reward models: their node
needs an engine and lives with the jobs.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import PrivateAttr

from posttrain.core.group import Group, Response, Score, group
from posttrain.core.protocols import Reward
from posttrain.core.recipe import Kind

HINT = (
    "a reward is a function of (prompts, responses) that returns one number per response, `each(f)` for an f(prompt, response) "
    "that returns one number, an object with prefer(prompt, a, b), or an object called with groups that returns Scores"
)


@dataclass(frozen=True)
class RewardExample:
    """What the laws need of a reward: groups whose first response is the gold answer and whose others are worse.

    fields: settings of the reward. apart: is the gold answer strictly above every other one (False: at least as high)?
    """

    groups: list[Group] = field(default_factory=list)
    fields: Mapping[str, Any] = field(default_factory=dict)
    apart: bool = True


class Criterion(Kind):
    """A reward by name. Subclasses score one answer in `one`, or a whole list of groups by overriding the call."""

    family: ClassVar[str] = "reward"
    facts: ClassVar[tuple[str, ...]] = ()
    """Facts of a group without which this reward cannot score (the preflight looks for them)."""
    verifiable: ClassVar[bool] = True
    """Does truth decide (a rule), and not a model of taste? The laws of verifiable rewards hold such rewards."""

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        """One Score per response of each group, in order; a score depends on its prompt, its facts and its answer alone."""
        return [[self.one(g, r) for r in g.responses] for g in groups]

    def one(self, group: Group, response: Response) -> Score:
        """The score of one answer."""
        raise AssertionError(f"{type(self).__name__} scores nothing")

    def votes(self, groups: Sequence[Group]) -> list[list[list[Score]]]:
        """Opinions [group][response][vote] that an ensemble joins: one here, one per head for a reward model with several."""
        return [[[score] for score in scores] for scores in self(groups)]

    @classmethod
    def of(cls, value: Any) -> Any:
        """A criterion from its name, a mapping, a criterion, or anything that `as_reward` takes."""
        if value is None or isinstance(value, str | Mapping | Kind):
            return super().of(value)
        return Given.around(as_reward(value), getattr(value, "__qualname__", type(value).__qualname__))

    @classmethod
    def example(cls) -> RewardExample:
        raise AssertionError(f"{cls.__name__} gives no example, so no law can test it")


class Given(Criterion):
    """A reward written in Python: its node holds its name alone, so such a recipe cannot be rebuilt from its file."""

    name: ClassVar[str] = "given"
    verifiable: ClassVar[bool] = False
    function: str
    """What it was called, for people to read."""
    _reward: Reward | None = PrivateAttr(None)

    @classmethod
    def around(cls, reward: Reward, called: str) -> Given:
        """The node of a Reward that was handed over."""
        made = cls(function=called)
        made._reward = reward
        return made

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        """What the Python reward says. Raises ValueError where the recipe was read from a file."""
        if self._reward is None:
            raise ValueError(f"reward: {self.function} was given in Python and is not in the recipe; pass it again")
        return self._reward(groups)

    @classmethod
    def example(cls) -> RewardExample:
        return RewardExample()


def prompts_and_answers(groups: Sequence[Group]) -> tuple[list[str], list[str]]:
    """Two lists of texts, one entry per response."""
    rows = [(g.prompt_text, r.text) for g in groups for r in g.responses]
    return [p for p, _ in rows], [a for _, a in rows]


def number(value: Any, called: str) -> Score:
    """A plain number as a Score; None and what is not finite cannot be scored. Raises ValueError for what is no number."""
    if value is None:
        return Score(None, why=f"{called} gave no value")
    try:
        made = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"reward {called}: gave {value!r} for a response; it must give a number, or None") from None
    if not math.isfinite(made):
        return Score(None, why=f"{called} gave {made}")
    return Score(made, {called: made}, f"{called}: {made:g}")


def _called(value: Any) -> str:
    return getattr(value, "__name__", type(value).__name__)


class Plain:
    """A function (prompts, responses) -> numbers as a Reward."""

    def __init__(self, function: Callable[[list[str], list[str]], Sequence[float]]) -> None:
        self.function = function

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        """One Score per response. Raises ValueError when the function gives another number of values."""
        prompts, answers = prompts_and_answers(groups)
        values = list(self.function(prompts, answers))
        called = _called(self.function)
        if len(values) != len(answers):
            raise ValueError(f"reward {called}: gave {len(values)} values for {len(answers)} responses; give one each")
        left = iter(values)
        return [[number(next(left), called) for _ in g.responses] for g in groups]


class Each:
    """A function of one prompt and one response as a Reward; a third parameter gets the group's facts."""

    def __init__(self, function: Callable[..., float]) -> None:
        self.function = function
        self.wide = len(_required(function) or ()) == 3

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        called = _called(self.function)
        return [
            [
                number(
                    self.function(g.prompt_text, r.text, g.facts)
                    if self.wide
                    else self.function(g.prompt_text, r.text),
                    called,
                )
                for r in g.responses
            ]
            for g in groups
        ]


class Preferring:
    """An object with ``prefer(prompt, a, b)`` as a Reward: the mean chance of an answer against each other one of its group.

    prefer says how likely a is better than b: a probability, a bool, or None for a tie. Both orders are asked and averaged, so a
    preference for the first place cancels. An answer alone in its group cannot be scored.
    """

    def __init__(self, judge: Any) -> None:
        self.judge = judge

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        return [[self._one(g, i) for i in range(len(g.responses))] for g in groups]

    def _one(self, group: Group, at: int) -> Score:
        called, others = _called(self.judge), [j for j in range(len(group.responses)) if j != at]
        if not others:
            return Score(None, why=f"{called} compares answers, and this one is alone")
        texts = [r.text for r in group.responses]
        wins = [
            (
                self._chance(group.prompt_text, texts[at], texts[j])
                + 1
                - self._chance(group.prompt_text, texts[j], texts[at])
            )
            / 2
            for j in others
        ]
        value = math.fsum(wins) / len(wins)
        return Score(value, {called: value}, f"{called}: better than {value:.0%} of {len(others)} other answers")

    def _chance(self, prompt: str, a: str, b: str) -> float:
        said = self.judge.prefer(prompt, a, b)
        chance = 0.5 if said is None else float(said)
        if not 0 <= chance <= 1:
            raise ValueError(
                f"reward {_called(self.judge)}: prefer gave {said!r}; it must give a probability, a bool or None"
            )
        return chance


def each(function: Callable[..., float]) -> Each:
    """A Reward from a scalar function f(prompt, response), or f(prompt, response, facts)."""
    wanted = _required(function)
    if wanted is None or len(wanted) not in (2, 3):
        raise ValueError(f"each: {_called(function)} must take (prompt, response) or (prompt, response, facts)")
    return Each(function)


def as_reward(value: Any) -> Reward:
    """The Reward that `value` stands for. Raises ValueError with the accepted forms for anything else."""
    if isinstance(value, str | Mapping):
        made: Reward = Criterion.of(value)
        return made
    if isinstance(value, Criterion | Plain | Each | Preferring):
        return value
    if hasattr(value, "prefer"):
        return Preferring(value)
    wanted = _required(value) if callable(value) else None
    if wanted is not None and len(wanted) == 1 and wanted[0].name == "groups":
        reward: Reward = value
        return reward
    if wanted is not None and len(wanted) == 2:
        return Plain(value)
    raise ValueError(f"{_called(value)} is not a reward: {HINT}")


def _required(function: Any) -> list[inspect.Parameter] | None:
    """Parameters that must be given by position; None where there is no signature to read."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return [
        p
        for p in parameters
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is inspect.Parameter.empty
    ]


def gold_first(prompt: str, gold: str, *wrong: str, **facts: Any) -> Group:
    """A group for examples: the gold answer, then worse ones."""
    return group(prompt, gold, *wrong, facts=facts)
