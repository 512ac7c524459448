"""Drills repeat and look up what they said, from the seed alone."""

from __future__ import annotations

from posttrain.readingroom.drills import coined_twice, drills, looked_up
from posttrain.readingroom.world import Draw


def test_drills_depend_on_the_seed_alone() -> None:
    assert list(drills(1, 20)) == list(drills(1, 20))
    assert list(drills(1, 20)) != list(drills(2, 20))
    assert list(drills(1, 30))[:20] == list(drills(1, 20))


def test_a_list_is_said_twice() -> None:
    text = coined_twice(Draw(4, "train", "en"))
    half = len(text) // 2
    assert text[:half] == text[half + 1 :]


def test_every_key_gets_its_thing_again() -> None:
    for seed in range(20):
        first, again = looked_up(Draw(seed, "train", "fr")).split("\n\n")
        assert sorted(first.split("\n")) == sorted(again.split("\n"))
