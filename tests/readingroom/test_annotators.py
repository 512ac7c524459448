"""Simulated annotators: Bradley-Terry frequencies, each bias moves what it names, ties, labels."""

from __future__ import annotations

import math
from statistics import fmean

import pytest

from posttrain.core.group import answer
from posttrain.readingroom import SIMULATION_NOTE, Annotator, ReadingRoom, annotate, gold_answer

ROOM = ReadingRoom(2)


def pairs(n: int, good: str, bad: str, **fields):
    """n rows whose responses are made from the gold answer by two templates."""
    found = ROOM.prompts("train", n, ["ask_notice"], ["en"])
    return [g.with_responses([answer(good.format(gold_answer(g))), answer(bad.format(gold_answer(g)))]) for g in found]


def share(groups, who: Annotator) -> float:
    """How often the second response wins."""
    return fmean(g.pairs()[0].i == 1 for g in annotate(groups, [who], seed=3))


def test_bradley_terry_frequency():
    groups = [g for g in pairs(900, "{}", "I think so: {}") if g.facts["behaviour"] == "answer"]
    values = [ROOM.gold.score(groups[0], r).value for r in groups[0].responses]
    for sharpness in (0.0, 4.0):
        wanted = 1 / (1 + math.exp(sharpness * (values[0] - values[1])))
        assert abs(share(groups, Annotator(sharpness=sharpness)) - wanted) < 0.06
    assert share(groups, Annotator(sharpness=math.inf)) == 0.0


@pytest.mark.parametrize(
    ("bias", "bad"),
    [
        ({"length": 3.0}, "{} Have a good day among the books of our house, and come back to the desk soon."),
        ({"hedging": 3.0}, "I think so: {}"),
        ({"keyword": 3.0, "favourite": "garden"}, "{} Garden."),
        ({"markup": 3.0}, "**{}**"),
        ({"agreement": 3.0}, "Yes, you are right. {}"),
    ],
)
def test_each_bias_prefers_what_it_names(bias, bad):
    groups = pairs(200, "{}", bad)
    assert share(groups, Annotator(sharpness=20)) < 0.6
    assert share(groups, Annotator(sharpness=20, **bias)) > 0.9


def test_position_bias_prefers_the_answer_shown_first_wherever_it_stands():
    groups = pairs(600, "{}", "{}")
    assert 0.42 < share(groups, Annotator(position=5.0)) < 0.58
    who = Annotator(position=0.3)
    same = groups[0].responses[0]
    assert who.utility(groups[0], same, 0) - who.utility(groups[0], same, 1) == pytest.approx(0.3)


def test_rankings_ties_both_bad_and_labels():
    rows = ROOM.candidates(ROOM.prompts("train", 120), k=4, seed=1)
    assert all(len({r.text for r in g.responses}) == len(g.responses) for g in rows)
    four = [g for g in rows if len(g.responses) == 4]
    assert len(four) > 60
    for g in annotate(four, [Annotator(sharpness=math.inf)], seed=0):
        values = [ROOM.gold.score(g, r).value for r in g.responses]
        assert sorted(i for tier in g.ranking for i in tier) == [0, 1, 2, 3]
        best_first = [values[i] for tier in g.ranking for i in tier]
        assert best_first == sorted(values, reverse=True)
    tied = annotate(pairs(20, "{}", "{}"), [Annotator(ties=0.05)])
    assert {g.preferences[0].p for g in tied} == {0.5}
    bad = annotate(pairs(20, "Hm.", "Hm, hm."), [Annotator(both_bad=0.2)])
    assert all(g.preferences[0].both_bad for g in bad)
    clean = annotate(ROOM.demonstrations(200, quality=1.0), [Annotator(sharpness=12)])
    assert fmean(g.responses[0].label for g in clean) > 0.95


def test_annotation_is_labelled_a_simulation_and_is_deterministic():
    groups = pairs(50, "{}", "I think so: {}")
    crowd = [Annotator("a"), Annotator("b", length=0.5)]
    once, twice = annotate(groups, crowd, seed=1), annotate(groups, crowd, seed=1)
    assert [g.to_json() for g in once] == [g.to_json() for g in twice]
    assert annotate(groups[::-1], crowd, seed=1)[0].to_json() == once[-1].to_json()
    assert {g.facts["annotator"] for g in once} == {"simulated:readingroom-2:a", "simulated:readingroom-2:b"}
    assert all(g.facts["simulation"] == SIMULATION_NOTE for g in once)


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda: annotate(pairs(1, "a", "b"), []), "at least one annotator"),
        (lambda: annotate(ROOM.prompts("train", 1), [Annotator()]), "no responses"),
        (lambda: Annotator(sharpness=-1), "sharpness must be at least 0"),
        (lambda: Annotator(favourite=" "), "must be a word"),
    ],
)
def test_bad_input(call, hint):
    with pytest.raises(ValueError, match=hint):
        call()
