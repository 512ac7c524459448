"""Values of written results, where a result stands in an answer, and what people may hand over in place of a reward."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.core.group import Group, Score, group
from posttrain.rewards import Criterion, Math, Regex, as_reward, each
from posttrain.rewards.answers import value_of
from posttrain.rewards.final_answer import final_answer
from posttrain.rewards.math_value import Unreadable, equal, parse

SAME = [
    (r"\frac{1}{2}", "0.5"), ("1,234.5 km", "1234.5"), ("1 234 567,5", "1234567.5"), ("50 %", "50"), ("(x+1)^2", "x^2+2x+1"),
    ("$1,000", "1000"), (r"2\frac{1}{2}", "2.5"), (r"\sqrt{8}", r"2\sqrt{2}"), ("x = 5", "5"), ("(1, 2)", "(1,2)"),
    (r"\{1,2\}", r"\{2,1\}"), ("3,14", "3.14"), (r"90^\circ", "90"), ("-3", "−3"), ("1/3", "2/6"), (r"\dfrac{\pi}{2}", "pi/2"),
    ("1, 2 and 3", "3,2,1"), ("5 meters", "5 m"), ("2^10", "1024"), (r"\frac12", "0.5"), (r"12\%", "12"), ("1'234", "1234"),
    ("3 euros", "3"), ("1{,}234", "1234"), (r"\text{Paris}", "paris"), ("12 км", "12 km"), (r"\left(1, \infty\right)", "(1,inf)"),
]  # fmt: skip
APART = [
    ("1", "2"), ("(1,2)", "(2,1)"), ("(1,2]", "[1,2]"), ("x+1", "x+2"), ("5 km", "5 m"), ("1/3", "0.33"), ("12,5", "125"), ("x", "y"),
    ("Paris", "Rome"), ("", "0"), ("10", "1 0 0"),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), SAME)
def test_same_worth(a: str, b: str) -> None:
    assert Math().same(a, b) and Math().same(b, a)


@pytest.mark.parametrize(("a", "b"), APART)
def test_other_worth(a: str, b: str) -> None:
    assert not Math().same(a, b) and not Math().same(b, a)


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**6))
def test_spellings_of_a_fraction(top: int, bottom: int) -> None:
    written = [f"{top}/{bottom}", rf"\frac{{{top}}}{{{bottom}}}", f"${top:,}/{bottom}$", f"x = {top} / {bottom}"]
    assert all(equal(parse(written[0]), parse(w)) for w in written)
    assert not equal(parse(written[0]), parse(f"{top + bottom}/{bottom}"), tolerance=1e-15)


@given(st.text(max_size=120))
def test_hostile_text_never_raises_another_error(text: str) -> None:
    value_of(text)
    final_answer(text)


@pytest.mark.parametrize("text", ["9^9^9^9^9", "(" * 400, "1" * 501, "2^(10^9)", "sqrt(-1)", "1/0", "1e999999"])
def test_sizes_are_bounded(text: str) -> None:
    assert not Math().same(text, "1")


def test_no_value() -> None:
    with pytest.raises(Unreadable):
        parse("the cat")


@pytest.mark.parametrize(
    ("text", "result", "how"),
    [
        (r"first \boxed{1}, then \boxed{\frac{1}{2}}", r"\frac{1}{2}", "box"),
        ("<think>maybe <answer>3</answer></think><answer> 4 </answer>", "4", "tag"),
        ("reasoning\n#### 1,200", "1,200", "hashes"),
        ("So the answer is 42.\n", "42.", "phrase"),
        ("La réponse est 7", "7", "phrase"),
        ("答案是12", "12", "phrase"),
        ("just 5", "just 5", "text"),
    ],
)
def test_where_the_result_stands(text: str, result: str, how: str) -> None:
    assert final_answer(text) == (result, how)


def test_math_reads_running_text() -> None:
    asked = group(
        "?", "It takes 3 trips of 4, so 12 in all", "It is 12, not 13", r"12 \boxed{13}", facts={"answer": 12}
    )
    assert [s.value for s in Math()([asked])[0]] == [1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="facts\\['answer'\\] is missing"):
        Math()([group("?", "12")])


def test_a_pattern_that_hangs_gives_no_score() -> None:
    (score,) = Regex(pattern=r"(a|aa)+\1b$", seconds=0.1)([group("?", "a" * 60)])[0]
    assert score.value is None and "longer than" in score.why
    with pytest.raises(ValueError, match="no regular expression"):
        Regex(pattern="(")


# What stands for a reward


def lengths(prompts: list[str], responses: list[str]) -> list[float]:
    return [len(r) for r in responses]


class Judge:
    def prefer(self, prompt: str, a: str, b: str) -> float | None:
        return None if len(a) == len(b) else float(len(a) > len(b))


class First:
    """A judge of places: always the first."""

    def prefer(self, prompt: str, a: str, b: str) -> bool:
        return True


def own(groups: list[Group]) -> list[list[Score]]:
    return [[Score(1.0, {"own": 1.0}, "mine") for _ in g.responses] for g in groups]


ASKED = [group("p", "a", "bbb", "cc"), group("q", "dddd")]


def test_plain_functions() -> None:
    assert [[s.value for s in row] for row in as_reward(lengths)(ASKED)] == [[1.0, 3.0, 2.0], [4.0]]
    assert as_reward(each(lambda prompt, response: len(prompt + response)))(ASKED)[1][0].value == 5.0
    assert as_reward(each(lambda prompt, response, facts: float(len(facts))))(ASKED)[1][0].value == 0.0
    assert as_reward(own)(ASKED)[0][0].why == "mine"
    assert as_reward("think") == Criterion.of("think")
    (nan, nothing) = as_reward(lambda prompts, responses: [float("nan"), None])([group("p", "a", "b")])[0]
    assert nan.value is None and nothing.value is None and nan.why and nothing.why


def test_preferring_objects() -> None:
    scores = as_reward(Judge())([group("p", "a", "bbb", "cc")])[0]
    assert [s.value for s in scores] == [0.0, 1.0, 0.5]
    assert [s.value for s in as_reward(First())([group("p", "a", "b")])[0]] == [0.5, 0.5]  # a place earns nothing
    assert as_reward(Judge())([group("p", "alone")])[0][0].value is None


@pytest.mark.parametrize("wrong", [3, lambda text: 1.0, lambda a, b, c: 1.0, object(), [1.0]])
def test_anything_else_is_refused_with_the_hint(wrong: Any) -> None:
    with pytest.raises(
        ValueError, match=r"is not a reward: a reward is a function of \(prompts, responses\).*each\(f\).*prefer"
    ):
        as_reward(wrong)


def test_wrong_numbers_of_values() -> None:
    with pytest.raises(ValueError, match="gave 1 values for 4 responses"):
        as_reward(lambda prompts, responses: [1.0])(ASKED)
    with pytest.raises(ValueError, match="must give a number, or None"):
        as_reward(lambda prompts, responses: ["high"] * len(responses))(ASKED)


def test_python_rewards_as_nodes() -> None:
    node = Criterion.of(lengths)
    assert node(ASKED)[0][1].value == 3.0 and node.function == "lengths"
    with pytest.raises(ValueError, match="was given in Python and is not in the recipe"):
        Criterion.of({"name": "given", "function": "lengths"})(ASKED)


# Algebra


def test_sum_gate_and_ensembles() -> None:
    asked = [group("2+2?", "<think>so</think>4", "4", "<think>so</think>5", facts={"answer": "4"})]
    total = Criterion.of({"name": "sum", "terms": [{"reward": "math"}, {"reward": "think", "weight": 0.2}]})(asked)[0]
    assert [s.value for s in total] == pytest.approx([1.2, 1.0, 0.2]) and total[0].parts == {"math": 1.0, "think": 1.0}
    gated = Criterion.of({"name": "gate", "condition": "think", "then": "math", "closed": -1.0})(asked)[0]
    assert [s.value for s in gated] == [1.0, -1.0, 0.0]
    pair = ["math", {"name": "length", "limit": 1, "per": 1}]
    bare = Criterion.of({"name": "ensemble", "rewards": pair})([group("?", "4 4 4", facts={"answer": "4"})])[0][0]
    wary = Criterion.of({"name": "ensemble", "rewards": pair, "k": 2.0})([group("?", "4 4 4", facts={"answer": "4"})])[
        0
    ][0]
    worst = Criterion.of({"name": "worst", "rewards": pair})([group("?", "4 4 4", facts={"answer": "4"})])[0][0]
    a, b = bare.parts["math"], bare.parts["length"]
    spread = abs(a - b) / 2
    assert bare.value == pytest.approx((a + b) / 2) and wary.value == pytest.approx((a + b) / 2 - 2 * spread)
    assert worst.value == min(a, b) and bare.parts["spread"] == pytest.approx(spread)


def test_what_cannot_be_scored_stays_so() -> None:
    blind = Criterion.of(lambda prompts, responses: [None] * len(responses))
    asked = [group("?", "4", facts={"answer": "4"})]
    for node in (
        {"name": "sum", "terms": [{"reward": blind}, {"reward": "math"}]},
        {"name": "gate", "condition": blind, "then": "math"},
        {"name": "ensemble", "rewards": [blind, "math"]},
    ):
        assert Criterion.of(node)(asked)[0][0].value is None
