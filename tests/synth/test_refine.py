"""Critique and revise: never worse than the start, stops when satisfied, and says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from posttrain.core.group import Group, Score, group
from posttrain.rewards.judge import Pairwise
from posttrain.synth import Constitution, Refiner, critique_and_refine
from tests.rewards.judges import Scripted, by_utility, worth


def critic(step: float) -> Scripted:
    def says(text: str) -> str:
        if "Revise the answer" in text:
            return f"q={worth(text.split('Answer:')[1]) + step:.1f}"
        return "The answer is right." if worth(text.split("Answer:")[1]) >= 3 else "It could say more."

    return Scripted(says, by="critic")


JUDGE = Pairwise(Scripted(by_utility(worth)))


def test_it_climbs_keeps_the_best_and_stops_when_satisfied() -> None:
    (made,) = Refiner(critic(1.0), JUDGE, k=9).refine([group("What is said?", "q=0.5")])
    assert (
        made.best == "q=3.5"
        and made.reason == "passed"
        and [r.verdict for r in made.rounds] == ["accepted"] * 3 + ["passed"] * 2
    )
    assert made.sft.responses[0].text == "q=3.5" and made.sft.responses[0].by == "critic"
    assert made.pair is not None and made.pair.responses[1].text == "q=0.5" and len(made.critiques) == 5
    (short,) = Refiner(critic(1.0), JUDGE, k=1).refine([group("What is said?", "q=0.5")])
    assert short.best == "q=1.5" and short.reason == "rounds"


def test_a_reviser_that_worsens_everything_returns_the_start() -> None:
    (made,) = Refiner(critic(-1.0), JUDGE, k=9).refine([group("What is said?", "q=0.5")])
    assert (
        made.best == made.start == "q=0.5" and made.reason == "rejected" and made.pair is None and len(made.rounds) == 2
    )
    assert critique_and_refine("What is said?", "q=0.5", 3, model=critic(-1.0), judge=JUDGE.model) == "q=0.5"


def test_bars_and_rewards_as_acceptors() -> None:
    def fixed(text: str) -> Scripted:
        return Scripted(lambda q: text if "Revise" in q or "Corrigez" in q else "It is wrong.")

    def liking(groups: list[Group]) -> list[list[Score]]:
        return [[Score(float(len(r.text))) for r in g.responses] for g in groups]

    asked = group(
        "Where is the book that I have asked for?", "The book is on the second shelf.", facts={"benign": True}
    )
    for text, why in (("Le livre est sur la deuxième étagère, dans la salle.", "another language"), ("word " * 40, "too long"),
                      ("I'm sorry, but I cannot help with that.", "a new refusal"), ("", "unchanged")):  # fmt: skip
        (made,) = Refiner(fixed(text), liking, k=1).refine([asked])
        assert made.best == made.start and made.rounds[0].verdict == why, text
    (made,) = Refiner(fixed("The book is on the second shelf, at the left."), liking, k=1).refine([asked])
    assert made.rounds[0].verdict == "accepted"
    one = Scripted(lambda q: "x")
    assert Refiner(one, Pairwise(one)).warning and not Refiner(one, JUDGE).warning
    with pytest.raises(ValueError, match="nothing to revise"):
        Refiner(one, JUDGE).refine([group("q")])


def test_constitutions_are_read_and_checked(tmp_path: Path) -> None:
    import random

    shipped = Constitution.read()
    assert len(shipped.principles) >= 5 and len({p.id for p in shipped.draw(random.Random(0), "fr", 3)}) == 3
    for body, why in (("{}", "a list"), ("- {id: 3, text: x}", "both texts"), ("- {id: a, text: x, severity: 9}", "severity"),
                      ("- {id: a, text: x}\n- {id: a, text: y}", "same id"), ("- [", "cannot read")):  # fmt: skip
        (tmp_path / "c.yaml").write_text(body)
        with pytest.raises(ValueError, match=why):
            Constitution.read(tmp_path / "c.yaml")
