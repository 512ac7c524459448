"""The consistency checker on planted faults: each is named by the check that owns it, and clean inputs name nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from posttrain.audit import RLHFConsistencyChecker
from posttrain.audit.steadiness import alike, reworded
from posttrain.core.chat import user
from posttrain.core.group import Group, Preference, Score, answer, group
from posttrain.core.protocols import Request

CHECKER = RLHFConsistencyChecker(reps=200, samples=60)


def pairs(n: int = 60, longer: float = 0.5, first: float = 0.5, **facts: Any) -> list[Group]:
    """Pairs of a right and a wrong number; `longer` of the chosen ones are the longer text, `first` stand first."""
    rng = np.random.default_rng(0)
    out = []
    for i in range(n):
        texts = [f"It is {i}, as asked.", f"Wrong: {i + 1}."]
        if rng.random() >= longer:
            texts = [f"It is {i}.", f"I say it is {i + 1}, as asked."]
        ahead = rng.random() < first
        shown = texts if ahead else texts[::-1]
        pair = Preference(0, 1) if ahead else Preference(1, 0)
        out.append(group(f"what number is {i}?", *shown, preferences=(pair,), facts={"n": i, **facts}))
    return out


def right(groups: Sequence[Group]) -> list[list[Score]]:
    """1 for the asked number."""
    return [
        [Score(float(re.findall(r"\d+", r.text)[:1] == re.findall(r"\d+", g.prompt_text)[:1])) for r in g.responses]
        for g in groups
    ]


class Planted:
    """A policy with log-probabilities and answers of our making. lift: nats added to the right answer, sink: to the wrong one."""

    def __init__(self, lift: float = 0.0, sink: float = 0.0, says: str = "It is {n}.", steady: bool = True) -> None:
        self.lift, self.sink, self.says, self.steady = lift, sink, says, steady

    def logp(self, groups: Sequence[Group]) -> list[list[np.ndarray]]:
        return [
            [np.asarray([-5.0 + (self.lift if s.value else self.sink) + 0.01 * (len(g.prompt_text) % 7)]) for s in row]
            for g, row in zip(groups, right(groups), strict=True)
        ]

    def generate(self, requests: Sequence[Request]) -> list[Group]:
        return [Group(r.prompt, tuple(answer(self._say(r)) for _ in range(r.n))) for r in requests]

    def _say(self, request: Request) -> str:
        text = request.prompt[-1].content
        found = re.findall(r"\d+", text)
        wild = not self.steady and text.startswith("Please")
        return "No idea at all" if wild else self.says.format(n=(found or ["0"])[0])


def issues(**given: Any) -> set[str]:
    return {i.check for i in CHECKER.analyze(**given).issues}


def test_clean_pairs_name_nothing_and_what_did_not_run_says_why() -> None:
    found = CHECKER.analyze(data=pairs(800), held_out=[group("something else, entirely of its own kind?", "a", "b")])
    assert found.issues == () and found.verdict == "pass"
    told = {r.id: r.note for r in found.results if r.verdict == "not_run"}
    assert "three compared answers" in told["C01"] and "reward_model" in told["C07"] and "logs" in told["C12"]
    assert json.loads(json.dumps(found.to_json()))["schema"] == "consistency/1"


def test_circles_contradictions_and_annotators_who_turn() -> None:
    triples = [
        group(f"q{i}?", f"a{i}", f"b{i}", f"c{i}", preferences=(Preference(0, 1), Preference(1, 2), Preference(2, 0)))
        for i in range(20)
    ]
    assert "C01" in issues(data=triples)
    turned = [
        group(f"q{i}?", "a", "b", preferences=(p,), facts={"annotator": "ann"})
        for i in range(30)
        for p in (Preference(0, 1), Preference(1, 0))
    ]
    assert {"C02", "C03"} <= issues(data=turned)


def test_length_and_side() -> None:
    assert "C04" in issues(data=pairs(100, longer=0.95))
    assert "C05" in issues(data=pairs(100, first=0.9))
    named = pairs(60, first=0.95, annotator="left") + pairs(60, annotator="fair")
    sides = {r.arm: r.verdict for r in CHECKER.analyze(data=named).of("C05")}
    assert sides["left"] == "fail" and sides["fair"] != "fail"
    (side,) = CHECKER.analyze(data=pairs(50, first=1.0)).of("C05")
    assert side.verdict == "not_run" and "better answer first" in side.note


def test_a_copied_and_a_nearly_copied_prompt_leak() -> None:
    words = " ".join(f"word{i}" for i in range(40))
    test = [group(words, "x")]
    for copy in (words, words.replace("word20 ", "other "), f"Now read: {words[:120]}"):
        assert issues(data=[group(copy, "y", "z", preferences=(Preference(0, 1),))], held_out=test) == {"C06"}
    assert not issues(data=[group("word1 word2 word9", "y", "z", preferences=(Preference(0, 1),))], held_out=test)


def test_a_reward_model_that_is_wrong_on_new_pairs() -> None:
    assert "C07" in issues(reward_model=lambda p, a: [-float(len(x)) for x in a], held_out=pairs(80, longer=0.9))
    assert not issues(reward_model=right, held_out=pairs(80))


def test_a_policy_against_the_reward_model_and_chosen_answers_that_sink() -> None:
    data, plain = pairs(80), Planted()
    upside_down = CHECKER.analyze(data=data, reward_model=right, policy=Planted(-1.0, 1.0), reference=plain)
    assert "C09" in {i.check for i in upside_down.issues} and "Remedy:" in upside_down.issues[0]
    agrees = CHECKER.analyze(data=data, reward_model=right, policy=Planted(1.0, -1.0), reference=plain)
    assert {r.verdict for r in agrees.of("C09")} == {"pass"}
    assert "C14" in issues(data=data, policy=Planted(-1.0, -3.0), reference=plain)
    assert "C14" not in issues(data=data, policy=Planted(1.0, -3.0), reference=plain)


class Hidden:
    """A reward with features and two votes; far from its data its votes part."""

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        return right(groups)

    def features(self, groups: Sequence[Group]) -> list[list[float]]:
        return [[float(len(r.text)), float("zz" in r.text)] for g in groups for r in g.responses]

    def opinions(self, groups: Sequence[Group]) -> list[list[list[float]]]:
        return [[[0.0, 0.1 + 0.9 * ("zz" in r.text)] for r in g.responses] for g in groups]


def test_samples_unlike_the_preference_data() -> None:
    data = pairs(40)
    strange = [g.with_responses([answer(f"zz zz {i}")]) for i, g in enumerate(data)]
    assert "C10" in issues(data=data, reward_model=Hidden(), samples=strange)
    same = [g.with_responses(g.responses[:1]) for g in data]
    assert "C10" not in issues(data=data, reward_model=Hidden(), samples=same)


def test_a_reward_that_rises_alone_is_hacked() -> None:
    def wordy(prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        return [float(len(a)) for a in answers]

    long = Planted(says="It is {n}, it is, it is, it is.")
    found = issues(data=pairs(40), reward_model=wordy, gold=right, policy=long, reference=Planted())
    assert "C11" in found
    better = issues(
        data=pairs(40), reward_model=right, gold=right, policy=Planted(), reference=Planted(says="None 77.")
    )
    assert "C11" not in better


def test_kl_that_the_log_does_not_show() -> None:
    data, told = pairs(40), [{"kl_sequence": 2.0, "step": i} for i in range(10)]
    assert "C12" not in issues(data=data, policy=Planted(lift=2.0), reference=Planted(), logs=told)
    assert "C12" in issues(data=data, policy=Planted(lift=4.0), reference=Planted(), logs=told)


def test_drift_of_a_log() -> None:
    rng = np.random.default_rng(1)
    steady = [{"length": 50 + float(rng.normal()), "entropy": 1 + 0.1 * float(rng.normal())} for _ in range(60)]
    found = CHECKER.analyze(logs=steady)
    assert not found.issues and {r.arm for r in found.of("C13") if r.verdict == "pass"} == {"length", "entropy"}
    grown = [{**row, "length": row["length"] + max(0, i - 30)} for i, row in enumerate(steady)]
    assert [i.result.arm for i in CHECKER.analyze(logs=grown).issues] == ["length"]


def test_answers_that_change_with_the_wording_and_lost_capability() -> None:
    data = pairs(40)
    assert "C15" in issues(data=data, policy=Planted(steady=False), reference=Planted())
    assert alike("a b c", "a b d") == pytest.approx(2 / 3) and reworded((user("Hi there?"),))[0].content != "Hi there?"
    tasks = {"numbers": (data, right)}
    assert "C16" in issues(policy=Planted(says="None 77."), reference=Planted(), capabilities=tasks)
    kept = CHECKER.analyze(policy=Planted(), reference=Planted(), capabilities=tasks)
    assert kept.of("C16")[0].verdict == "pass"


def test_nothing_at_all_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match="nothing to check: give at least one of data"):
        CHECKER.analyze()
