"""Laws of verifiable rewards, over every reward that registers: deterministic, independent of the batch, gold highest, why not empty."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest

import posttrain.rewards  # noqa: F401  (registers every reward)
from posttrain.core.group import Group, Score
from posttrain.core.recipe import dump_kind
from posttrain.rewards import Criterion

RULES = sorted(name for name, cls in Criterion.members.items() if cls.verifiable)


def made(name: str) -> tuple[Criterion, list[Group], bool]:
    example = Criterion.members[name].example()
    return Criterion.of({"name": name, **example.fields}), example.groups, example.apart


def values(scores: Sequence[Sequence[Score]]) -> list[list[float | None]]:
    return [[s.value for s in row] for row in scores]


def test_the_registry_has_the_rewards_of_the_plan() -> None:
    planned = {"exact", "math", "choice", "regex", "json_schema", "xml", "python", "think", "length", "target_length", "overlong",
               "sum", "gate", "ensemble", "worst", "unimarc"}  # fmt: skip
    assert planned <= set(RULES)


@pytest.mark.parametrize("name", RULES)
def test_gold_highest_and_reasons(name: str) -> None:
    reward, groups, apart = made(name)
    assert groups, f"{name}: an example without groups proves nothing"
    for scores in reward(groups):
        gold, *others = (s.value for s in scores)
        assert gold is not None and others
        assert all(o is not None and (o < gold if apart else o <= gold) for o in others), (name, scores)
        assert all(s.why.strip() and s.parts for s in scores), (name, scores)


@pytest.mark.parametrize("name", RULES)
def test_deterministic_and_batch_independent(name: str) -> None:
    reward, groups, _ = made(name)
    first = reward(groups)
    again = Criterion.of(dump_kind(reward))(copy.deepcopy(groups))
    assert first == again
    backwards = reward(groups[::-1])[::-1]
    assert values(backwards) == values(first)
    for g, scores in zip(groups, first, strict=True):
        for response, score in zip(g.responses, scores, strict=True):
            assert reward([g.with_responses([response])]) == [[score]], name


@pytest.mark.parametrize("name", RULES)
def test_a_recipe_names_it(name: str) -> None:
    reward, _, _ = made(name)
    assert Criterion.of(dump_kind(reward)) == reward
    with pytest.raises(ValueError, match="unknown field"):
        Criterion.of({**dump_kind(reward), "no_such_field": 1})
