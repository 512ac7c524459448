"""Mixtures hold their weights to the end and after a resume; curricula go from easy to hard and resume exactly."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain.core.group import Group, group
from posttrain.data.mixture import Easiest, by_size, drawn, fact_of, length_of, loss_of, named
from posttrain.data.source import Mix, Offline


def rows(n: int, name: str) -> list[Group]:
    return [group(f"{name}{i}", "word " * (i + 1), facts={"source": name, "failed": i / n}) for i in range(n)]


def flat(source: Any, steps: int) -> list[Group]:
    out = []
    for step, groups in enumerate(itertools.islice(source.stream(None), steps)):
        out += groups
        source.publish(None, step)
    return out


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=6), st.integers(1, 1249), st.integers(0, 9))
def test_any_weights_hold_within_one_percent_over_10000_draws_and_after_a_resume(
    weights: list[float], stop: int, seed: int
) -> None:
    def mix() -> Mix:
        return Mix([Offline(rows(7, str(i)), 1, epochs=math.inf) for i in range(len(weights))], weights, seed, draws=8)

    first = mix()
    made = flat(first, stop)
    second = mix()
    second.load(json.loads(json.dumps(first.state())))
    made += flat(second, 1250 - stop)
    shares = drawn(made)
    assert len(made) == 10_000
    assert all(abs(shares.get(str(i), 0) - w / sum(weights)) < 0.01 for i, w in enumerate(weights))


def test_sources_end_after_their_epochs_and_the_others_go_on() -> None:
    def mix() -> Mix:
        parts = [
            Offline(rows(50, "a"), 1, epochs=2),
            Offline(rows(300, "b"), 1, epochs=4),
            Offline(rows(300, "c"), 1, epochs=1),
        ]
        return Mix(parts, (0.5, 0.3, 0.2), 3, draws=4, spent="others")

    whole = mix()
    made = flat(whole, 9999)
    assert {k: round(v * len(made)) for k, v in drawn(made).items()} == {"a": 100, "b": 1200, "c": 300} and set(
        whole.ended
    ) == {0, 1, 2}
    between = made[whole.ended[0] + 20 : whole.ended[0] + 420]
    assert drawn(between)["b"] == pytest.approx(0.6, abs=0.03)
    for stop in (10, 49, 60, 290):
        first = mix()
        again = flat(first, stop)
        second = mix()
        second.load(json.loads(json.dumps(first.state())))
        again += flat(second, 9999)
        assert [g.prompt_text for g in again] == [g.prompt_text for g in made], stop


def test_weights_from_sizes_and_names() -> None:
    assert by_size([900, 100], 2.0)[0] == pytest.approx(0.75) and by_size([10, 0]) == [1.0, 0.0]
    assert named({"qa": 0.3, "code": 0.7}, ["code", "qa"]) == [0.7, 0.3]
    for bad, why in (
        ({"qa": 0.5, "code": 0.4}, "sum to 1"),
        ({"qa": 1.0}, "without a weight: \\['code'"),
        ({"qa": 1.5, "code": -0.5}, "0 or more"),
    ):
        with pytest.raises(ValueError, match=why):
            named(bad, ["code", "qa"])
    for sizes, t, cap in (([], 1, None), ([1], 0, None), ([1], 1, 0)):
        with pytest.raises(ValueError, match="positive"):
            by_size(sizes, t, cap)


@pytest.mark.parametrize("difficulty", [length_of, fact_of("failed")])
def test_a_curriculum_goes_from_easy_to_hard_and_resumes(difficulty: Any) -> None:
    mixed = sorted(rows(100, "x"), key=lambda g: g.prompt_hash)
    source = Easiest(mixed, 4, difficulty, steps=60, seed=1)
    made = flat(source, 99)
    assert len(made) == 240 and source.competence(0) == pytest.approx(0.1) and source.competence(60) == 1.0
    hard = [g.facts["failed"] for g in made]
    assert max(hard[:4]) < 0.1 and max(hard) > 0.9 and sum(hard[:80]) < sum(hard[160:])
    first = Easiest(mixed, 4, difficulty, steps=60, seed=1)
    again = flat(first, 23)
    second = Easiest(mixed, 4, difficulty, steps=60, seed=1)
    second.load(json.loads(json.dumps(first.state())))
    again += flat(second, 99)
    assert [g.prompt_text for g in again] == [g.prompt_text for g in made]
    with pytest.raises(ValueError, match="cannot resume"):
        Easiest(mixed, 4, difficulty, steps=61, seed=1).load(first.state())
    with pytest.raises(ValueError, match="no number `gone`"):
        Easiest(mixed, 4, fact_of("gone"), steps=3)


def test_loss_is_a_difficulty() -> None:
    class Known:
        def logp(self, groups: list[Group]) -> list[list[torch.Tensor]]:
            return [[torch.full((3,), -float(len(g.prompt_text))) for _ in g.responses] for g in groups]

    source = Easiest([group("long prompt", "a", "b"), group("p", "a")], 1, loss_of(Known()), steps=2)
    assert source.rank.tolist() == [1, 0]
