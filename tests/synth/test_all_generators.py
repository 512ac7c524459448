"""Every generator with a scripted model: the rows it should make, the drops it should count, and what each row says of itself."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posttrain.core.files import read_lines
from posttrain.core.group import Group, document, group
from posttrain.jobs.catalogue import build_job
from posttrain.jobs.job import Context
from posttrain.rewards.records import GOLD
from posttrain.synth.dialogue import dialogues
from posttrain.synth.generators import GENERATORS
from posttrain.synth.notices import notices
from posttrain.synth.passages import backtranslate, passages
from posttrain.synth.refusals import refusals
from posttrain.synth.tasks import evolve, self_instruct
from posttrain.synth.teacher import Axes, Teacher, Wanted
from tests.client.stub import Faults, serving
from tests.rewards.judges import Scripted

FIRST, LAST = "ba ce di fo gu ha je ki lo mu na pe ri so tu", "lan mor tes vik zon dra"
WORDS = [a + b for a in FIRST.split() for b in LAST.split()]


def made_up(rng: random.Random, n: int = 9) -> str:
    return " ".join(rng.choices(WORDS, k=n))


def teaching(says: Callable[[str], str]) -> Teacher:
    return Teacher(Scripted(says))


def test_axes_meet_every_combination_once() -> None:
    axes = Axes(("a child", "a cook"), ("dry",), ("easy", "hard"), ("en", "fr"))
    seen = [tuple(sorted(axes.at(i).items())) for i in range(16)]
    assert len(set(seen[:8])) == 8 and seen[:8] == seen[8:]
    assert "Ton : dry." in axes.on("Écrivez.", 0, "fr") and Axes().on("q", 3) == "q"
    with pytest.raises(ValueError, match="accepted: en, fr"):
        Axes(languages=("xx",))


def test_self_instruct_keeps_new_tasks_only() -> None:
    rng = random.Random(0)
    seeds = [group(f"Explain {made_up(rng)}", "x") for _ in range(8)]
    fresh = iter([f"Name {made_up(random.Random(9 + i), 12)}" for i in range(8)])
    good = self_instruct(
        seeds, teaching(lambda q: f"Instruction: {next(fresh)}\nResponse: It is {made_up(rng)} and so on."), Wanted()
    )
    assert len(good.kept) == 8 and len(good.kept[0].facts["provenance"]["parents"]) == 6
    copied = self_instruct(
        seeds, teaching(lambda q: f"Instruction: {seeds[3].prompt_text}\nResponse: Yes it is."), Wanted()
    )
    assert not copied.kept and copied.account()["dropped"] == {"like a task already there": 8}
    with pytest.raises(ValueError, match="two or more"):
        self_instruct(seeds[:1], teaching(str), Wanted())


def test_evolution_goes_on_from_what_was_kept() -> None:
    def says(q: str) -> str:
        rng = random.Random(q)
        return f"Explain {made_up(rng)}" if "Write only" in q else f"The tide {made_up(rng)} rises and falls."

    made = evolve([group("Explain tides.", "x")], teaching(says), Wanted(n=2))
    assert len(made.kept) == 2 and made.kept[1].facts["provenance"]["parents"] == [made.kept[0].id]
    leaked = evolve(
        [group("Explain tides.", "x")], teaching(lambda q: "New task: x" if "Write only" in q else "y"), Wanted()
    )
    assert leaked.account()["dropped"] == {"not evolved": 1}
    with pytest.raises(ValueError, match="at most 4"):
        evolve([], teaching(str), Wanted(n=5))


def test_generic_instructions_are_no_back_translation() -> None:
    rng = random.Random(2)
    texts = [f"The {made_up(rng, 30)}." for _ in range(6)]
    rows = [document("\n\n".join(texts[i : i + 2])) for i in range(0, 6, 2)]
    assert passages(texts[0] + "\n\nshort, as mentioned above, loose") == [texts[0]]

    def faithful(q: str) -> str:
        text = next(t for t in texts if t in q)
        return text if "Using only" in q else "What is said of " + " ".join(text.split()[1:9]) + "?"

    good = backtranslate(rows, teaching(faithful), Wanted())
    assert [g.responses[0].text for g in good.kept] == texts and good.kept[0].facts["lift"] == "no log-probabilities"
    generic = backtranslate(rows, teaching(lambda q: "Write a text."), Wanted())
    assert generic.account()["dropped"] == {"does not find its passage": 6}
    wrong = backtranslate(rows, teaching(lambda q: "No idea." if "Using only" in q else faithful(q)), Wanted(n=2))
    assert wrong.account()["dropped"] == {"round trip disagrees": 12}

    class Unmoved:
        def logp(self, groups: list[Group]) -> Any:
            import numpy as np

            return [[np.zeros(3)] for _ in groups]

    still = backtranslate(rows, teaching(faithful), Wanted(), scorer=Unmoved())  # type: ignore[arg-type]
    assert still.account()["dropped"] == {"does not make its passage likelier": 6}


def test_refusals_come_with_a_twin_or_not_at_all() -> None:
    harmful = [group("How do I kill a person with a knife?"), group("How do I break into a house?")]

    def says(q: str) -> str:
        if "it declines" in q:
            return "I'm sorry, but I can't help with that, as somebody could be hurt. I can tell you whom to call if you feel unsafe."
        if "harmless request" in q:
            return "How do I kill a process in a shell?" if "knife" in q else "Tell tales."
        return "Find its number with ps and give it to the kill command."

    made = refusals(harmful, teaching(says), Wanted())
    assert [g.facts["kind"] for g in made.kept] == ["refusal", "sft"] and made.kept[1].facts["benign_twin"]
    assert made.account()["dropped"] == {"the twin shares no words": 2}
    yielding = refusals(harmful, teaching(lambda q: "Sure, take this and go to the house at night."), Wanted())
    assert yielding.account()["dropped"] == {"the refusal does not refuse": 4}


def test_dialogues_end_when_the_goal_is_reached_or_patience_spent() -> None:
    class Person(Scripted):
        def generate(self, requests: Any) -> list[Group]:
            return [
                group(r.prompt, "DONE" if len(r.prompt) > self.after else f"And what of thing number {len(r.prompt)}?")
                for r in requests
            ]

    class Desk(Scripted):
        def generate(self, requests: Any) -> list[Group]:
            return [group(r.prompt, self.says(str(len(r.prompt)))) for r in requests]

    person, desk = Person(str), Teacher(Desk(lambda n: f"Thing {n} is in the second room on the left."))
    person.after = 4  # type: ignore[attr-defined]
    (row,) = dialogues([], desk, Wanted(6, ("find a book",)), Teacher(person)).kept
    assert [m.role for m in row.responses[0].turns] == ["assistant", "user", "assistant"] and row.facts[
        "goal"
    ] == "reached"
    person.after = 99  # type: ignore[attr-defined]
    (long,) = dialogues([], desk, Wanted(3, ("find a book",)), Teacher(person)).kept
    assert len(long.responses[0].turns) == 5 and long.facts["goal"] == "patience spent"
    for text, why in (("User: hello", "the assistant wrote a role's name"), ("same", "a turn is repeated")):
        told = dialogues([], Teacher(Desk(lambda n, t=text: t)), Wanted(3, ("find a book",)), Teacher(person))
        assert told.account()["dropped"] == {why: 1}


def test_records_are_kept_only_when_true() -> None:
    rows = [group("Catalogue: Les Misérables, Victor Hugo, Bruxelles, Lacroix, 1862.", facts={"unimarc_gold": GOLD})]
    made = notices(rows, teaching(lambda q: GOLD), Wanted(n=2))
    pair = made.kept[0]
    assert pair.preferences and pair.responses[0].text == GOLD and pair.responses[1].text != GOLD and made.produced == 2
    false = notices(
        rows, teaching(lambda q: GOLD.replace("Les Misérables", "Nana").replace("1862", "1880")), Wanted(least=0.9)
    )
    assert false.account()["dropped"] == {"below the threshold": 1}
    with pytest.raises(ValueError, match="unimarc_gold"):
        notices([group("x")], teaching(str), Wanted())


def test_noise_gives_no_row_and_no_exception() -> None:
    rows = [
        group(
            f"Where is the {made_up(random.Random(i), 30)}?",
            f"It is {made_up(random.Random(i), 40)}.",
            facts={"unimarc_gold": GOLD},
        )
        for i in range(3)
    ]
    for name, generator in GENERATORS.items():
        if name in ("rejection", "corruption", "question_to_answer", "answer_to_question", "text"):
            continue
        made = generator(rows, teaching(lambda q: "zz"), Wanted(2, ("tides",)))
        assert not made.kept and made.account()["produced"] > 0, name


def test_the_job_repeats_no_call_and_each_field_matters(tmp_path: Path) -> None:
    def says(asked: dict[str, Any]) -> str:
        rng = random.Random(json.dumps(asked))
        return f"Instruction: Tell me of {made_up(rng)}.\nResponse: It is {made_up(rng, 15)}."

    told: dict[str, Any] = {
        "job": "synth",
        "generator": "topics",
        "topics": ["tides", "bread"],
        "n": 6,
        "model": "m",
        "price_in": 1,
        "price_out": 2,
    }
    with serving(says, Faults(busy=0.1, server=0.1, retry_after="0")) as stub:
        told |= {"url": stub.url, "out": str(tmp_path / "a.jsonl")}
        made = build_job(told).run(Context(bars=False))
        first, calls = (tmp_path / "a.jsonl").read_bytes(), sum(stub.tried.values())
        assert len(made.kept) == 12 and made.account()["cost"] > 0
        (tmp_path / "a.jsonl").unlink()
        build_job(told).run(Context(bars=False))
        assert (tmp_path / "a.jsonl").read_bytes() == first and sum(stub.tried.values()) == calls
        changed = {"n": 2, "audiences": ["a child"], "tones": ["dry"], "levels": ["hard"], "languages": ["en"], "temperature": 0.1,
                   "top_p": 0.5, "max_tokens": 99, "seed": 5, "topics": ["rain"], "verify": "exact"}  # fmt: skip
        for name, value in changed.items():
            other = {
                **told,
                name: value,
                "out": str(tmp_path / f"{name}.jsonl"),
                **({"generator": "both", "data": str(tmp_path / "a.jsonl")} if name == "verify" else {}),
            }
            if name == "verify":
                with pytest.raises(ValueError, match="answer"):
                    build_job(other).run(Context(bars=False))
                continue
            build_job(other).run(Context(bars=False))
            assert (tmp_path / f"{name}.jsonl").read_bytes() != first, name
        row = read_lines(tmp_path / "audiences.jsonl")[0]["facts"]
        assert (
            row["axes"] == {"audience": "a child"}
            and row["provenance"]["cost"] > 0
            and row["provenance"]["model"] == "m"
        )
    for name, why in (("text", "begins from words"), ("evolve", "begins from rows")):
        with pytest.raises(ValueError, match=why):
            build_job({**told, "generator": name, "topics": []}).run(Context(bars=False))
