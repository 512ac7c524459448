"""Judges: parsing ladder, fences, both orders, planted biases found, attacks measured, PPI intervals that cover."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain.core.group import Group, answer, group
from posttrain.rewards import as_reward
from posttrain.rewards.judge import JudgeFailed, Pairwise, Pointwise, joined
from posttrain.rewards.judge_list import Listwise, generate_ai_preferences, plackett_luce
from posttrain.rewards.judge_parse import choice, ranking, scores, short_choice
from posttrain.rewards.judge_prompts import LANGUAGES, FenceBroken, asked, fenced, language
from posttrain.rewards.judge_report import attack_rate, report
from posttrain.stats.ppi import ppi_mean
from tests.rewards.judges import Scripted, by_utility, shown, worth


def pairs(n: int, seed: int = 0, by: tuple[str, str] = ("a", "b")) -> list[Group]:
    rng = random.Random(seed)
    made = []
    for i in range(n):
        texts = [f"q={rng.random():.3f} " + "word " * rng.randint(1, 30) for _ in range(2)]
        made.append(
            Group(group(f"question {i}").prompt, tuple(answer(t, by=b) for t, b in zip(texts, by, strict=True)))
        )
    return made


def truth(groups: list[Group]) -> dict[tuple[int, int, int], float]:
    return {(k, 0, 1): float(worth(g.responses[0].text) > worth(g.responses[1].text)) for k, g in enumerate(groups)}


@pytest.mark.parametrize(
    ("text", "said"),
    [("<verdict>A</verdict> quoted, then <verdict>B</verdict>", "B"), ("＜verdict＞A＜／verdict＞", "A"), ("A", None), ("", None),
     ('{"verdict": "both_bad"}', "bad"), ('```json\n{"verdict": "TIE"}\n```', "tie"), ("<verdict>C</verdict>", None),
     ("<verdict> b </verdict>", "B"), ("<verdict><verdict>A</verdict>", "A"), ('{"verdict": 3}', None), ("[" * 9999, None)],
)  # fmt: skip
def test_the_ladder_reads_the_last_tag_or_nothing(text: str, said: str | None) -> None:
    assert choice(text) == said


def test_other_verdicts() -> None:
    assert ranking("so <ranking>[0] > [2] = [1]</ranking>", 3) == [[0], [2, 1]]
    assert ranking("[0] > [2] = [1]", 3) == [[0], [2, 1]] and ranking("０＞１", 2) == [[0], [1]]
    assert all(
        ranking(bad, 3) is None for bad in ("", "[0] > [1]", "[0] > [1] > [1]", "[0] > [1] > [3]", "0 1 2", "best is 0")
    )
    assert scores("<scores>correct=5 clear: 2</scores>", ["correct", "clear"]) == {"correct": 5, "clear": 2}
    assert scores('{"correct": 4, "clear": 1}', ["correct", "clear"]) == {"correct": 4, "clear": 1}
    assert all(
        scores(bad, ["correct"]) is None
        for bad in ("<scores>correct=6</scores>", "correct=5", '{"correct": true}', "{}")
    )
    assert short_choice("A is better: B gives a wrong year.") == "A" and short_choice("Bien") is None


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_random_text_never_crashes_a_parser(text: str) -> None:
    assert choice(text) in (None, "A", "B", "tie", "bad")
    assert short_choice(text) in (None, "A", "B")
    ranking(text, 3)
    scores(text, ["x"])


@settings(max_examples=100, deadline=None)
@given(st.permutations(range(5)), st.lists(st.sampled_from([" =", "> "]), min_size=4, max_size=4))
def test_a_written_ranking_is_read_back(order: list[int], marks: list[str]) -> None:
    text = f"[{order[0]}]" + "".join(f"{m.strip()}[{i}]" for m, i in zip(marks, order[1:], strict=True))
    tiers = [[int(x) for x in re.findall(r"\d", tier)] for tier in text.split(">")]
    assert ranking(text, 5) == tiers


def test_fences_hold_in_four_languages() -> None:
    for text, lang in (("What is the capital of France?", "en"), ("Quelle est la capitale de la France ?", "fr"),
                       ("Какая столица Франции?", "ru"), ("法国的首都是哪里？", "zh")):  # fmt: skip
        assert language(text) == lang
        made = asked(text, [("A", "one"), ("B", "two")], "task", lang)
        assert shown(made) == {"A": "one", "B": "two"}
        assert len(set(re.findall(r"[0-9a-f]{32}", made))) == 1
    assert set(LANGUAGES) == {"en", "fr", "ru", "zh"}
    with pytest.raises(FenceBroken):
        fenced("ANSWER A", "text with abc in it", "abc")
    assert asked("q", [("A", "x")], "t", "en") != asked("q", [("A", "x")], "t", "en", blind=False)


def test_both_orders_as_one() -> None:
    assert joined(0, 1, "A", "B").p == 1 and joined(0, 1, "A", "B").consistent
    flipped = joined(0, 1, "A", "A")
    assert flipped.p == 0.5 and flipped.weight == 0.5 and not flipped.consistent
    assert joined(0, 1, "A", "tie").p == 0.75
    half = joined(0, 1, None, "A")
    assert half.p == 0 and half.weight == 0.5
    assert joined(0, 1, None, None).p is None and joined(0, 1, None, None).preference is None
    bad = joined(0, 1, "bad", "bad").preference
    assert bad is not None and bad.both_bad and bad.p == 0.5


def test_a_judge_is_a_reward() -> None:
    judge = Pairwise(Scripted(by_utility(worth)))
    made = group("q", "q=0.1", "q=0.9", "q=0.5")
    values = [s.value for s in as_reward(judge)([made])[0]]
    assert values == [0.0, 1.0, 0.5] and all(s.why for s in judge([made])[0])
    assert judge.prefer("q", "q=2", "q=1") == 1.0
    (told,) = judge.preferences([made])
    assert {(p.i, p.j) for p in told.pairs()} == {(1, 0), (2, 0), (1, 2)} and told.facts["judge"] == "scripted"
    one = Pairwise(Scripted(by_utility(worth)), both=False)
    assert [s.value for s in one([made])[0]] == values and one.model.asked == 3


def test_unparsed_is_never_a_tie() -> None:
    silent = Scripted(lambda _: "I would rather not say.")
    judge = Pairwise(silent)
    scored = judge([group("q", "q=0", "q=1")])
    assert (
        [s.value for s in scored[0]] == [None, None] and judge.unparsed == 1.0 and silent.asked == 4
    )  # two orders, two repairs
    with pytest.raises(JudgeFailed, match="could not be read"):
        judge.compare(pairs(40))
    turns = iter(["hm", "<verdict>A</verdict>"] * 2)
    repaired = Pairwise(Scripted(lambda q: next(turns)), both=False)
    assert repaired.compare(pairs(1))[0].p in (None, 1.0)
    fixed = Pairwise(Scripted(lambda q: "<verdict>B</verdict>" if "Write only that form" in q else "hm"), both=False)
    assert fixed.compare(pairs(1))[0].p == 0.0 and fixed.counts["repaired"] == 1 and fixed.unparsed == 0


def test_planted_biases_are_found_and_two_orders_remove_position() -> None:
    rows = pairs(300)
    fair = Pairwise(Scripted(by_utility(worth, noise=0.1)))
    told = report(fair, rows, fair.compare(rows), truth(rows))
    assert told.position is not None and 0 in told.position and told.length is not None and 0 in told.length
    assert told.agreement is not None and told.agreement.low > 0.85

    first = Pairwise(Scripted(by_utility(worth, first=0.4)))
    told = report(first, rows, first.compare(rows), truth(rows))
    assert told.position is not None and told.position.low > 0.1 and any("position" in w for w in told.warnings)
    known, gold = first.compare(rows), truth(rows)
    beside = Pairwise(Scripted(by_utility(worth, first=0.4)), both=False).compare(rows)
    effect = [np.mean([(c.p or 0.0) - gold[k, 0, 1] for k, c in enumerate(made)]) for made in (known, beside)]
    assert abs(effect[0]) < 0.05 < 0.15 < effect[1]

    long = Pairwise(Scripted(by_utility(lambda t: worth(t) + len(t) / 200)))
    told = report(long, rows, long.compare(rows), truth(rows))
    assert told.length is not None and told.length.low > 0.05 and "people" in told.against

    vain = Pairwise(Scripted(by_utility(lambda t: worth(t) + (0.5 if t in mine else 0)), by="me"))
    own = pairs(300, by=("me", "b"))
    mine = {g.responses[0].text for g in own}
    told = report(vain, own, vain.compare(own), truth(own))
    assert told.own is not None and told.own.low > 0.1 and any("own bias" in w for w in told.warnings)
    blind = report(fair, rows, fair.compare(rows))
    assert any("not human-validated" in w for w in blind.warnings) and "even split" in blind.against
    assert blind.to_json()["position"]["n"] == 300 and blind.lines()


def test_attack_rate_of_a_gullible_and_of_a_careful_judge() -> None:
    rows = pairs(120)
    weaker = [int(worth(g.responses[0].text) > worth(g.responses[1].text)) for g in rows]
    careful = attack_rate(Pairwise(Scripted(by_utility(worth))), rows, weaker)
    assert careful.high <= 0.05

    def gullible(question: str) -> str:
        found = re.search(r"<verdict>([AB])</verdict>", "\n".join(shown(question).values()))
        return found.group(0) if found else by_utility(worth)(question)

    assert attack_rate(Pairwise(Scripted(gullible)), rows, weaker).low > 0.05


def test_pointwise_and_listwise() -> None:
    marks = Scripted(lambda q: f"<scores>helpful={1 + round(4 * worth(shown(q)['A']))} correct=5</scores>")
    judge = Pointwise(marks, criteria=("helpful", "correct"))
    low, high = (s.value for s in judge([group("q", "q=0", "q=1")])[0])
    assert low == 0.5 and high == 1.0 and judge([group("q", "q=1")])[0][0].parts == {"helpful": 5.0, "correct": 5.0}

    def order(question: str) -> str:
        found = shown(question)
        return "<ranking>" + " > ".join(sorted(found, key=lambda k: -worth(found[k]))) + "</ranking>"

    many = group("q", "q=0.2", "q=0.9", "q=0.5", "q=0.1")
    values = [s.value or 0.0 for s in Listwise(Scripted(order))([many])[0]]
    assert sorted(range(4), key=lambda i: -values[i]) == [1, 2, 0, 3]
    assert generate_ai_preferences("q", ["q=1", "q=3", "q=2"], Scripted(order)) == [[1], [2], [0]]
    by_place = [s.value or 0.0 for s in Listwise(Scripted(lambda q: "[0] > [1] > [2] > [3]"), orders=64)([many])[0]]
    assert max(by_place) - min(by_place) < 1.0 < max(values) - min(values)
    with pytest.raises(ValueError, match="at most 8"):
        Listwise(Scripted(order))([group("q", *"123456789")])
    assert Listwise(Scripted(lambda q: "no"), repair=False)([many])[0][0].value is None


def test_plackett_luce_finds_strengths_and_ties() -> None:
    rng = np.random.default_rng(0)
    strength = np.array([1.5, 0.5, 0.0, -2.0])
    rows = [[[int(i)] for i in np.argsort(-(strength + rng.gumbel(size=4)))] for _ in range(500)]
    assert np.abs(plackett_luce(rows, 4) - (strength - strength.mean())).max() < 0.25
    tied = plackett_luce([[[0, 1], [2]]], 3)
    assert abs(tied[0] - tied[1]) < 1e-4 and tied[0] > tied[2]


@pytest.mark.parametrize("kind", ["useless", "biased", "perfect"])
def test_ppi_covers_the_truth_and_is_shorter(kind: str) -> None:
    rng = np.random.default_rng(3)
    covered = shorter = 0
    times = 1000
    for _ in range(times):
        y = (rng.random(1100) < 0.6).astype(float)
        judged = {"useless": rng.random(1100), "perfect": y,
                  "biased": np.clip(0.7 * y + 0.2 + 0.1 * rng.standard_normal(1100), 0, 1)}[kind]  # fmt: skip
        made = ppi_mean(y[:100], judged[:100], judged[100:])
        covered += 0.6 in made.interval
        shorter += made.interval.width < made.human.width
    assert 0.93 <= covered / times <= 0.97, covered / times
    assert kind == "useless" or shorter / times > 0.99
    with pytest.raises(ValueError, match="50 or more"):
        ppi_mean([1.0, 0.0], [1.0, 0.0], [1.0])
    with pytest.raises(ValueError, match="one each"):
        ppi_mean([1.0] * 60, [1.0] * 59, [1.0])
