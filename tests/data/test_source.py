"""Sources: exact resume, trained groups counted, weights that hold, and no prompt on both sides of a split."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from posttrain.core.group import Preference, answer, document, group
from posttrain.data.sanity import sanity
from posttrain.data.source import Mix, Offline
from posttrain.data.split import Split, overlap


def numbered(n, name=""):
    return [group(f"{name}{i}", "a") for i in range(n)]


def names(step):
    return [g.prompt_text for g in step]


def test_every_epoch_has_every_group_once_in_a_new_order():
    source = Offline(numbered(10), per_step=4, epochs=3, seed=5)
    steps = [names(s) for s in source.stream(None)]
    assert [len(s) for s in steps] == [4] * 7 + [2]
    flat = list(itertools.chain(*steps))
    epochs = [flat[i : i + 10] for i in (0, 10, 20)]
    assert all(sorted(e, key=int) == [str(i) for i in range(10)] for e in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [names(s) for s in Offline(numbered(10), 4, epochs=3, seed=5).stream(None)] == steps
    assert [names(s) for s in Offline(numbered(10), 4, epochs=3, seed=6).stream(None)] != steps
    assert [names(s) for s in Offline(numbered(5), 2, shuffle=False).stream(None)] == [["0", "1"], ["2", "3"], ["4"]]


@pytest.mark.parametrize("stop", range(9))
def test_resume_goes_on_exactly_and_hands_untrained_groups_out_again(stop):
    whole = [names(s) for s in Offline(numbered(10), 3, epochs=2.5, seed=1).stream(None)]
    source = Offline(numbered(10), 3, epochs=2.5, seed=1)
    stream = source.stream(None)
    for step in range(stop):
        next(stream)
        source.publish(None, step)
    next(stream, None)  # handed out, never trained
    state = source.state()
    assert state["trained"] == min(3 * stop, 25)
    after = Offline(numbered(10), 3, epochs=2.5, seed=1)
    after.load(state)
    assert [names(s) for s in after.stream(None)] == whole[stop:]


def test_a_resume_on_other_data_or_order_is_refused():
    state = Offline(numbered(10), 3, seed=1).state()
    with pytest.raises(ValueError, match="groups changed"):
        Offline(numbered(11), 3, seed=1).load(state)
    with pytest.raises(ValueError, match="seed changed"):
        Offline(numbered(10), 3, seed=2).load(state)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="no groups"):
        Offline([], 1)
    with pytest.raises(ValueError, match="both given"):
        Offline(numbered(2), 1, epochs=1, steps=3)
    assert len(list(Offline(numbered(2), 3, steps=5).stream(None))) == 5
    endless = Offline(numbered(2), 3, epochs=float("inf")).stream(None)
    assert sum(len(s) for s in itertools.islice(endless, 100)) == 300


def mix(seed=0, draws=1):
    sources = [Offline(numbered(7, f"{n}:"), 1, epochs=float("inf"), seed=3) for n in "abc"]
    return Mix(sources, (5, 3, 2), seed=seed, draws=draws)


def share(flat, name):
    return sum(x.startswith(name) for x in flat) / len(flat)


def test_weights_hold_within_one_percent_also_after_resume():
    source = mix(draws=8)
    flat = []
    for step, groups in enumerate(itertools.islice(source.stream(None), 1250)):
        flat += names(groups)
        source.publish(None, step)
        if step == 776:
            break
    state = source.state()
    assert state["drawn"] == 777 * 8
    source = mix(draws=8)
    source.load(state)
    for groups in itertools.islice(source.stream(None), 1250 - 777):
        flat += names(groups)
    unbroken = [n for groups in itertools.islice(mix(draws=8).stream(None), 1250) for n in names(groups)]
    assert flat == unbroken and len(flat) == 10_000
    for name, wanted in zip("abc", (0.5, 0.3, 0.2), strict=True):
        assert abs(share(flat, name) - wanted) < 0.01
        assert abs(share(flat[777 * 8 :], name) - wanted) < 0.01
    assert [n for g in itertools.islice(mix(seed=1, draws=8).stream(None), 10) for n in names(g)] != unbroken[:80]


def test_weight_zero_is_never_drawn_and_a_mix_ends_with_its_first_source():
    sources = [Offline(numbered(5, "a"), 1), Offline(numbered(500, "b"), 1), Offline(numbered(5, "c"), 1)]
    flat = [n for s in Mix(sources, (0.5, 0.5, 0.0), draws=4).stream(None) for n in names(s)]
    assert sum(n[0] == "a" for n in flat) == 5 and not any(n[0] == "c" for n in flat)
    with pytest.raises(ValueError, match="one positive weight per source"):
        Mix(sources, (1, 1))


def test_mixes_nest():
    outer = Mix([mix(), Offline(numbered(3, "d:"), 1, epochs=float("inf"))], (1, 1), draws=4)
    first = [names(s) for s in itertools.islice(outer.stream(None), 5)]
    outer.publish(None, 5)
    rest = [names(s) for s in itertools.islice(outer.stream(None), 5)]
    again = Mix([mix(), Offline(numbered(3, "d:"), 1, epochs=float("inf"))], (1, 1), draws=4)
    assert [names(s) for s in itertools.islice(again.stream(None), 10)] == first + rest


def test_split_never_parts_a_prompt_and_does_not_depend_on_order():
    rows = [group(f"p{i % 40}", f"answer {i}") for i in range(100)]
    split = Split.of(rows, 0.2, seed=4)
    assert len(split.train) + len(split.held_out) == 100 and 20 <= len(split.held_out) <= 23
    assert overlap(split.train, split.held_out) == []
    turned = Split.of(rows[::-1], 0.2, seed=4)
    assert {g.prompt_text for g in turned.held_out} == {g.prompt_text for g in split.held_out}
    assert {g.prompt_text for g in Split.of(rows, 0.2, seed=5).held_out} != {g.prompt_text for g in split.held_out}
    assert len(Split.of(rows, 10).held_out) >= 10
    assert len(overlap(rows, rows[:3])) == 3
    texts = Split.of([document(f"text {i}") for i in range(10)], 3)
    assert len(texts.held_out) == 3 and overlap(texts.train, texts.held_out) == []
    with pytest.raises(ValueError, match="leaves nothing to train on"):
        Split.of([group("same", "a"), group("same", "b")], 0.5)
    with pytest.raises(ValueError, match="holds out nothing"):
        Split.of(rows, 0.001)


def test_sanity_finds_each_planted_fault_and_nothing_in_clean_data():
    win = (Preference(0, 1),)
    clean = [
        group("q", "a", "b", preferences=win, facts={"where": "f:1"}),
        group("q2", answer("x", label=True), facts={"where": "f:2"}),
    ]
    assert sanity(clean).clean and sanity(clean).describe() == "2 groups, nothing found"
    identical = sanity([*clean, group("q3", "a", "a", preferences=win, facts={"where": "f:3"})])
    assert identical.identical == ["f:3"]
    assert sanity([*clean, group("q3", " \n", facts={"where": "f:3"})]).empty == ["f:3"]
    assert sanity([*clean, group(" ", "a", facts={"where": "f:3"})]).empty_prompts == ["f:3"]
    again = group("q", "a", "b", preferences=win, facts={"where": "f:9"})
    assert sanity([*clean, again]).duplicates == [("f:1", "f:9")]
    flipped = group("q", "b", "a", preferences=win, facts={"where": "f:9"})
    assert sanity([*clean, flipped]).contradictory == [("f:1", "f:9")] and sanity([*clean, flipped]).duplicates == []
    soft = group("q", "a", "b", preferences=(Preference(0, 1, p=0.2),), facts={"where": "f:9"})
    assert sanity([*clean, soft]).contradictory == [("f:1", "f:9")]
    assert sanity([*clean, group("q2", answer("x", label=False), facts={"where": "f:9"})]).contradictory == [
        ("f:2", "f:9")
    ]
    tie = group("q3", "a", "a", preferences=(Preference(0, 1, p=0.5),))
    assert sanity([*clean, tie]).identical == []


def test_reading_and_sources_do_not_load_torch():
    code = (
        "import sys, posttrain.data.source, posttrain.data.read, posttrain.data.write; sys.exit('torch' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
