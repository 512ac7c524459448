"""Attribution: the slope of a paid feature is found within prompts, growth alarms at two looks, a share names what explains the gain."""

from __future__ import annotations

import json
import math

import numpy as np

from posttrain.audit.attribution import FEATURES, Growth, Look, attribute, features_of
from posttrain.core.group import Group, Score, answer, group

TEXTS = (
    "It is four.",
    "It is four, and I say it at some length here.",
    "Certainly, it is four.",
    "It is **four**.",
    "I'm sorry, but I can't help with that.",
)


def scored(pay: dict[str, float], prompts: int = 30, seed: int = 0, first: str = "") -> list[Group]:
    """Five answers to each prompt; the reward is noise plus what each feature is paid."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(prompts):
        offset = 10 * float(rng.normal())  # prompts differ much more than their answers
        made = []
        for text in TEXTS:
            found = dict(zip(FEATURES, features_of("2+2?", first + text), strict=True))
            value = offset + float(rng.normal()) + sum(pay.get(k, 0.0) * v for k, v in found.items())
            made.append(answer(first + text, score=Score(value)))
        out.append(group(f"2+2? ({i})", *made))
    return out


def look(pay: dict[str, float], seed: int = 0, first: str = "") -> Look:
    found = attribute(scored(pay, seed=seed, first=first))
    assert found is not None
    return found


def test_features_are_those_of_the_text() -> None:
    assert [features_of("2+2?", t)[1:] for t in TEXTS[2:]] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert features_of("2+2?", "one two three four")[0] == 2.0


def test_the_paid_feature_has_the_slope_and_others_have_none() -> None:
    found = look({"markup": 3.0})
    assert found.slope["markup"] > 0.3 and found.slope["markup"] > 4 * found.se["markup"]
    assert all(abs(found.slope[k]) < 4 * found.se[k] for k in FEATURES if k != "markup")
    assert abs(found.raw["markup"] - 3.0) < 1.0 and found.prompts == 30 and found.answers == 150


def test_a_slope_that_grows_alarms_at_the_second_look_and_a_steady_one_never() -> None:
    growth = Growth()
    said = [growth.note(look({"refusal": pay}, seed)) for seed, pay in enumerate((0, 0, 3, 3))]
    assert said[:3] == [{}, {}, {}] and set(said[3]) == {"refusal"} and "pays" in said[3]["refusal"]
    steady = Growth()
    assert not any(steady.note(look({"refusal": 3}, seed)) for seed in range(6))
    again = Growth()
    again.load(json.loads(json.dumps(growth.state())))
    assert again.note(look({"refusal": 3}, 9)).keys() == growth.note(look({"refusal": 3}, 9)).keys()


def test_a_feature_that_explains_the_gain_is_named() -> None:
    growth = Growth()
    for seed in range(2):
        growth.note(look({"length": 2.0}, seed))
    longer = look({"length": 2.0}, 5, first="Well now, let me see what this one may be about, then. ")
    shifted = Look(
        **{
            **vars(longer),
            "reward": growth.looks[0].reward + 2.0 * (longer.mean["length"] - growth.looks[0].mean["length"]),
        }
    )
    assert "length" in growth.note(shifted) and math.isclose(growth.share("length") or 0, 1.0, abs_tol=0.4)


def test_too_little_gives_no_look() -> None:
    assert attribute([]) is None and attribute(scored({}, prompts=3)) is None
