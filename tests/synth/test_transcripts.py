"""Tasks by a base model: what it is shown, what is read of its words, and through the job with a model that sees no template."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posttrain.core.files import read_lines
from posttrain.core.group import group
from posttrain.jobs.catalogue import build_job
from posttrain.jobs.job import Context
from posttrain.synth.generators import GENERATORS
from posttrain.synth.teacher import Teacher, Wanted
from posttrain.synth.transcripts import MARKERS, transcripts
from tests.jobs.tiny_run import base
from tests.rewards.judges import Scripted

SEEDS = [
    group("How long may I keep a book?", "Three weeks, and three more if nobody waits."),
    group("Combien de livres puis-je emprunter à la fois ?", "Vous pouvez emprunter cinq livres à la fois."),
]


def test_each_seed_is_shown_alone_and_the_next_task_is_read() -> None:
    asked: list[str] = []

    def says(text: str) -> str:
        asked.append(text)
        n = len(asked)
        if text.startswith("Question : "):
            return f"Question : Où se trouve le rayon numéro {n} de la salle ?\nRéponse : Il se trouve au fond de la salle, à gauche."
        return (
            "I have nothing to add."
            if n == 1
            else f"Question: Where is shelf number {n} of the room?\nAnswer: At the back, row {n}."
        )

    made = transcripts(SEEDS, Teacher(Scripted(says)), Wanted(n=2))
    assert asked[0] == "Question: How long may I keep a book?\nAnswer: Three weeks, and three more if nobody waits.\n\n"
    assert made.account()["produced"] == 4 and made.dropped["unparsed"] == 1
    assert {g.facts["provenance"]["generator"] for g in made.kept} == {"transcript"} and made.kept[0].facts[
        "provenance"
    ]["parents"]
    assert any(g.prompt_text.startswith("Où se trouve le rayon") for g in made.kept)
    assert set(MARKERS) == {"en", "fr", "ru", "zh"} and GENERATORS["transcript"] is transcripts
    with pytest.raises(ValueError, match="has no answer; a seed row is a task with its answer"):
        transcripts([group("q")], Teacher(Scripted(says)), Wanted())


def test_a_base_model_sees_the_words_alone(tmp_path: Path) -> None:
    data = tmp_path / "seeds.jsonl"
    data.write_text("".join(json.dumps(g.to_json()) + "\n" for g in SEEDS), encoding="utf-8")
    fields = {"job": "synth", "generator": "transcript", "model": base(tmp_path), "data": str(data), "max_tokens": 6}
    made = build_job({**fields, "raw": True, "out": str(tmp_path / "raw.jsonl")}).run(Context(bars=False))
    chat = build_job({**fields, "out": str(tmp_path / "chat.jsonl")}).run(Context(bars=False))
    assert made.produced == chat.produced == 2 and read_lines(tmp_path / "raw.jsonl") == []
    assert made.examples != chat.examples, "the template made no difference"
