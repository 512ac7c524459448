"""Generators: every row says where it came from, every drop is counted, noise and sameness give nothing."""

from __future__ import annotations

import pytest

from posttrain.core.group import Group, Score, group
from posttrain.synth.augment import augment, best_of, corrupted, generate_sft_examples
from posttrain.synth.parse import parse_instruction_response
from tests.rewards.judges import Scripted, worth

TOYS = {
    "en": ("Which city is on the river?", "The city on the river is Dol, as the map says."),
    "fr": ("Quelle ville est sur le fleuve ?", "La ville sur le fleuve est Dol, comme le dit la carte."),
    "ru": ("Какой город стоит на реке?", "На реке стоит город Дол, как сказано на карте."),
    "zh": ("河边是哪座城市？", "河边的城市是多尔，地图上是这样写的。"),
}
MARKS = {
    "en": ("Instruction: ", "Response: "),
    "fr": ("Instruction : ", "Réponse : "),
    "ru": ("Инструкция: ", "Ответ: "),
    "zh": ("指令：", "回答："),
}


@pytest.mark.parametrize("lang", TOYS)
def test_four_directions_in_four_languages(lang: str) -> None:
    question, said = TOYS[lang]
    rows = [group(question, said)]
    to_question = augment(rows, "answer_to_question", Scripted(lambda q: question if said in q else "?"))
    assert to_question.kept[0].prompt_text == question and to_question.kept[0].responses[0].text == said
    to_answer = augment(to_question.kept, "question_to_answer", Scripted(lambda q: said if q == question else "?"))
    assert to_answer.kept[0].responses[0].text == said
    end = {"en": "Answer: ", "fr": "Réponse : ", "ru": "Ответ: ", "zh": "回答："}[lang]
    reasoned = augment(rows, "question_to_reasoned_answer", Scripted(lambda q: f"{said}\n{end}{said}"))
    assert reasoned.kept[0].responses[0].turns[0].thinking == said and reasoned.kept[0].responses[0].text == said
    a, b = MARKS[lang]
    both = augment(rows, "both", Scripted(lambda q: f"{a}{question}\n{b}{said}"))
    assert (both.kept[0].prompt_text, both.kept[0].responses[0].text) == (question, said)
    for made in (to_question, to_answer, reasoned, both):
        told = made.kept[0].facts["provenance"]
        assert told["model"] == "scripted" and told["parents"] and told["prompt"] and told["checked"] == "model"
        assert made.account()["yield"] == 1.0


def test_sameness_gives_one_row_and_noise_none() -> None:
    same = Scripted(
        lambda q: "Instruction: Name a fruit that grows here.\nResponse: A pear is a fruit that grows here."
    )
    made = generate_sft_examples(["fruit"], 100, model=same)
    assert len(made.kept) == 1 and made.produced == 6 and made.account()["dropped"] == {"duplicate: seen before": 5}
    noise = generate_sft_examples(["fruit"], 10, model=Scripted(lambda q: "zzz"))
    assert not noise.kept and noise.account()["dropped"] == {"unparsed": 10} and len(noise.examples["unparsed"]) == 10
    axes = Scripted(lambda q: "x")
    generate_sft_examples(["fruit"], 4, model=axes, audiences=("a child", "a cook"))
    assert len(set(axes.seen)) == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Instruction: a",
        "Response: b\nInstruction: a",
        "Instruction: a\nInstruction: b\nResponse: c",
        "Instruction:\nResponse: b",
    ],
)
def test_the_parser_never_guesses(text: str) -> None:
    assert parse_instruction_response(text) is None


def test_checks_drop_with_their_reason() -> None:
    rows = [group(f"What does the book number {i} say about this?", "x") for i in range(5)]
    bad = iter(["I'm sorry, but I cannot help with that.", "Le livre dit que la ville est sur le fleuve et que la carte est juste.",
                "ha " * 60, "As an AI language model I say yes.", "It says that all is well."])  # fmt: skip
    made = augment(rows, "question_to_answer", Scripted(lambda q: next(bad)))
    assert [g.responses[0].text for g in made.kept] == ["It says that all is well."]
    assert {k.split(":")[0] for k in made.dropped} == {"refusal", "language", "repetition", "machinery"}
    verified = augment(
        rows, "question_to_answer", Scripted(lambda q: "It is so."), verify=lambda gs: [[Score(0.0)] for _ in gs]
    )
    assert verified.account()["dropped"] == {"not verified": 5}
    with pytest.raises(ValueError, match="accepted: question_to_answer"):
        augment(rows, "sideways", Scripted(str))  # type: ignore[arg-type]


def test_rejection_keeps_the_best_and_corruptions_name_their_fault() -> None:
    class Counting(Scripted):
        def generate(self, requests):  # type: ignore[no-untyped-def]
            return [
                Group(r.prompt, tuple(group("", f"The value is q={i}").responses[0] for i in range(r.n)))
                for r in requests
            ]

    def reward(groups: list[Group]) -> list[list[Score]]:
        return [[Score(worth(r.text)) for r in g.responses] for g in groups]

    rows = [group(f"What is the value in row {i}?") for i in range(2)]
    made = best_of(rows, Counting(str), reward, n=4)
    assert made.kept[0].responses[0].text.endswith("q=3") and made.produced == 8
    assert not best_of(rows, Counting(str), reward, n=4, least=3.0).kept
    pairs = corrupted([group(f"Question {i}?", f"There are {i + 10} books. They are red.") for i in range(60)])
    assert {g.facts["corruption"] for g in pairs.kept} == {"number", "dropped", "padding", "flattery"}
    assert (
        all(g.responses[0].text != g.responses[1].text for g in pairs.kept)
        and pairs.kept[0].facts["provenance"]["checked"] == "template"
    )
