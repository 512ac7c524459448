"""Opinions of reward models have no level across prompts: pooled after centring, a shift of one of them on one prompt changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from posttrain.core.group import Group, Score, group
from posttrain.rewards.criterion import Criterion

SAID = [[0.0, 1.0, 3.0], [2.0, 2.5, 0.0]]


def asked(n: int) -> Group:
    return group("say", *(f"answer {i}" for i in range(n)))


def opinion(values: Sequence[float]) -> Criterion:
    return Criterion.of(lambda groups: [[Score(v, {}, "") for v in values] for _ in groups])


def pooled(name: str, said: Sequence[Sequence[float]], **fields: float) -> list[float | None]:
    made = Criterion.of({"name": name, "rewards": [opinion(v) for v in said], **fields})
    return [s.value for s in made([asked(len(said[0]))])[0]]


def test_the_lowest_of_what_is_better_than_usual_here() -> None:
    # Means are 4/3 and 1.5: the answers stand at -4/3, -1/3, 5/3 and at 1/2, 1, -3/2.
    assert pooled("worst", SAID, centred=True) == pytest.approx([-4 / 3, -1 / 3, -1.5])
    assert pooled("worst", SAID) == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("name, fields", [("worst", {}), ("ensemble", {"k": 1.0}), ("ensemble", {"k": 0.0})])
def test_a_level_means_nothing(name: str, fields: dict[str, float]) -> None:
    shifted = [SAID[0], [v - 40 for v in SAID[1]]]
    assert pooled(name, shifted, centred=True, **fields) == pytest.approx(pooled(name, SAID, centred=True, **fields))
    order = [sorted(range(3), key=lambda i, p=p: p[i]) for p in (pooled(name, shifted), pooled(name, SAID))]  # type: ignore[misc]
    assert (order[0] != order[1]) is (name == "worst")


def test_one_answer_has_no_level() -> None:
    with pytest.raises(ValueError, match="two answers"):
        pooled("worst", [[1.0], [2.0]], centred=True)


def test_a_missing_opinion_leaves_its_answer_alone() -> None:
    def gap(groups: Sequence[Group]) -> list[list[Score]]:
        return [[Score(1.0, {}, ""), Score(None, {}, "unread"), Score(3.0, {}, "")] for _ in groups]

    made = Criterion.of({"name": "worst", "rewards": [Criterion.of(gap), opinion([0.0, 0.0, 0.0])], "centred": True})
    assert [s.value for s in made([asked(3)])[0]] == [-1.0, None, 0.0]
