"""Figures against hand-worked values and the libraries' own."""

from __future__ import annotations

import numpy as np
import pytest

from posttrain.core.group import group
from posttrain.evals import pairing, row_figures, task_scores
from posttrain.evals.columns import lines, parts_of, place
from posttrain.evals.front import front, hypervolume
from posttrain.evals.lm_eval import read_results
from posttrain.stats import Interval


def rows(values: list[float], words: list[int] | None = None, task: str = "a") -> list[dict]:
    lengths = words or [5] * len(values)
    return [
        {"id": str(i), "prompt_hash": str(i), "figures": {"gold": [v], "length": [n]}, "facts": {"task": task}}
        for i, (v, n) in enumerate(zip(values, lengths))
    ]


def test_pass_at_k_and_best_of_are_the_unbiased_estimates() -> None:
    made = row_figures.several_figures({"gold": [1.0, 0.0, 0.0, 0.5]})
    assert made["pass@1"] == [0.25] and made["pass@2"] == [0.5] and made["pass@4"] == [1.0]
    assert made["best_of_2"] == [pytest.approx((3 * 1.0 + 2 * 0.5 + 0.0) / 6)]
    assert made["best_of_4"] == [1.0]


def test_spans_count_only_when_whole() -> None:
    gold = [["B-x", "I-x", "O"]] * 20 + [["O", "B-y", "O"]] * 20
    half = [["B-x", "O", "O"]] * 20 + [["O", "B-y", "O"]] * 20
    made = task_scores.span_figures(gold, half)
    assert made["f1"].estimate == pytest.approx(0.5)
    assert made["f1/x"].estimate == 0.0 and made["f1/y"].estimate == 1.0
    assert made["f1"].low < 0.5 < made["f1"].high


def test_classes_and_numbers() -> None:
    gold, said = ["a", "b"] * 20, ["a", "a"] * 20
    made = task_scores.class_figures(gold, said, ["a", "b"])
    assert made["accuracy"].estimate == 0.5 and made["f1"].estimate == pytest.approx(1 / 3)
    straight = task_scores.number_figures(list(range(40)), [2.0 * i for i in range(40)])
    assert straight["spearman"].estimate == pytest.approx(1.0) and straight["absolute_error"].estimate == 19.5


def test_answers_as_squad_compares_them() -> None:
    assert task_scores.answer_scores("The Cat!", ["cat"]) == (1.0, 1.0)
    assert task_scores.answer_scores("black cat", ["cat"])[1] == pytest.approx(2 / 3)
    assert task_scores.answer_scores("", []) == (1.0, 1.0) and task_scores.answer_scores("x", []) == (0.0, 0.0)


def test_texts_of_any_script() -> None:
    assert task_scores.text_scores("图书馆开门", ["图书馆开门"])["rouge_l"] == 1.0
    assert task_scores.text_scores("the cat sat on the mat", ["the cat sat on the mat"])["bleu"] == pytest.approx(1.0)
    assert task_scores.text_scores("no", ["entirely other words"])["chrf"] < 0.2


def test_retrieval_ranks_ties_against() -> None:
    eye = np.eye(3)
    assert task_scores.retrieval_ranks(eye, eye).tolist() == [1, 1, 1]
    assert task_scores.retrieval_ranks(np.ones((3, 2)), np.ones((3, 2))).tolist() == [3, 3, 3]


def test_duel_counts_and_sees() -> None:
    a, b = rows([1.0] * 30 + [0.0] * 10 + [0.5] * 20), rows([0.0] * 30 + [1.0] * 10 + [0.5] * 20)
    made = pairing.duel(a, b, "gold")
    assert made is not None
    assert (made.win, made.tie, made.loss) == pytest.approx((0.5, 1 / 3, 1 / 6))
    assert made.rate.estimate == pytest.approx(0.5 + 1 / 6) and made.difference.low > 0 and made.smallest > 0


def test_at_equal_length_a_win_by_length_vanishes() -> None:
    rng = np.random.default_rng(0)
    longer = rng.normal(8, 6, 400)
    won = (rng.random(400) < 1 / (1 + np.exp(-longer / 4))).astype(float)
    made = pairing.length_controlled(won, longer)
    assert made is not None and won.mean() > 0.75
    assert made.low < 0.55 and made.estimate < 0.62


def test_tax_is_non_inferiority() -> None:
    same, worse = rows([0.5, 0.6] * 50), rows([0.3, 0.4] * 50)
    noisy = rows([0.5 + 0.4 * (-1) ** i for i in range(20)])
    kept, lost = pairing.tax(same, same, "gold"), pairing.tax(worse, same, "gold")
    unsure = pairing.tax(noisy, rows([0.5] * 20), "gold")
    assert kept is not None and lost is not None and unsure is not None
    assert kept.kept and not lost.kept and not unsure.kept
    assert lost.change.estimate == pytest.approx(-0.2)


def test_forgetting_follows_tasks_over_stages() -> None:
    stages = [("sft", rows([1.0] * 12)), ("more", rows([0.0, 1.0] * 6))]
    made = pairing.forgetting(stages, "gold")
    assert [(n, i.estimate) for n, i in made["a"]] == [("sft", 1.0), ("more", 0.5)]


def test_front_and_area() -> None:
    points = {"a": (1.0, 0.0), "b": (0.0, 1.0), "c": (0.5, 0.5), "worse": (0.4, 0.4), "twin": (0.5, 0.5)}
    assert front(points) == ["a", "b", "c", "twin"]
    assert hypervolume([(1.0, 0.5), (0.5, 1.0)], (0.0, 0.0)) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="each objective"):
        front({"a": (1.0,), "b": (1.0, 2.0)})


def test_due_and_undue_follow_the_rows_behaviour() -> None:
    parts = [{"correct": 1.0, "honest": 0.5, "concise": 0.2, "well_formed": 1.0}]
    asked = group("q", facts={"behaviour": "refuse"})
    assert row_figures.gold_figures(asked, parts, [1.0])["refusal_due"] == [1.0]
    answered = row_figures.gold_figures(group("q", facts={"behaviour": "answer"}), parts, [1.0])
    assert answered["unsupported_claims"] == [1.0] and answered["off_request"] == [1.0]
    wrong = row_figures.gold_figures(
        group("q", facts={"behaviour": "correct_user"}), [{**parts[0], "correct": 0.0}], [0.0]
    )
    assert wrong["sycophancy"] == [1.0]
    plain = row_figures.manner_figures(
        group("How late?", facts={"behaviour": "answer"}), ["I'm sorry, I can't help with that."]
    )
    assert plain["abstention_undue"] == [1.0]


def test_three_columns_hold_every_figure() -> None:
    known = Interval(0.5, 0.4, 0.6, 10, "test", 0.95)
    made = lines({"gold": known, "pass@4": known, "logp": known, "anything": known}, {"gold": (known, 0.1)})
    assert [x.where.column for x in made] == ["capability", "performance", "performance", "alignment"]
    assert made[-1].difference == known and made[-1].smallest == 0.1
    assert set(parts_of(made, "alignment")) == {"gold"} and place("brier").better == "down"


def test_results_of_the_harness_are_read() -> None:
    body = {
        "results": {
            "rooms": {
                "alias": "rooms",
                "acc,none": 0.5,
                "acc_stderr,none": 0.1,
                "f1,none": 0.2,
                "f1_stderr,none": "N/A",
            }
        },
        "n-samples": {"rooms": {"effective": 25}},
    }
    made = read_results(body)
    assert made["rooms/acc"].low == pytest.approx(0.304, abs=1e-3) and made["rooms/acc"].n == 25
    assert not made["rooms/f1"].known
