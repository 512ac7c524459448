"""Models as detectors: what a judge, a guard model and a classifier say, and what cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from posttrain.core.files import read_lines
from posttrain.core.group import Group, answer
from posttrain.detectors.judged import classified, guard_model, judged, pair_text, said_by_guard
from posttrain.jobs.detecting import detector
from posttrain.jobs.job import Context
from posttrain.jobs.room_harm import RoomHarm
from posttrain.jobs.scanning import Scan
from tests.models.tiny import tiny_directory

QUIET = Context(bars=False)


def test_words_of_guards_are_read_and_what_cannot_be_is_void() -> None:
    assert said_by_guard("g", "\n\nunsafe\nS7,S9").label == "unsafe S7 S9"
    assert said_by_guard("g", "SAFE").flagged is False
    for said in ("", "unsaf", "I think so"):
        assert said_by_guard("g", said).flagged is None
    guard = guard_model(lambda prompt, response: "unsafe\nS1" if "knife" in response else "safe")
    assert guard("x", "Take a knife.").flagged and guard("x", "Hello").flagged is False and guard("x", " ").void


def test_a_judge_is_asked_about_text_and_not_by_it() -> None:
    asked: list[str] = []

    class Judge:
        def generate(self, requests: Any) -> list[Group]:
            asked.extend(r.prompt[-1].content for r in requests)
            return [
                Group(r.prompt, (answer("unsafe" if "knife" in r.prompt[-1].content else "safe"),)) for r in requests
            ]

    detect = judged(Judge())  # type: ignore[arg-type]
    assert detect("{response}", "a knife").flagged and detect("Hi", "Hello").flagged is False
    assert asked[0].count("a knife") == 1 and "{response}" in asked[0], "a prompt may not fill itself in"
    with pytest.raises(ValueError, match="response"):
        judged(Judge(), "Is it safe?")  # type: ignore[arg-type]


def test_a_classifier_has_a_threshold_and_reads_the_prompt_too() -> None:
    detect = classified(lambda text: 0.7 if text.startswith("bad") else 0.2)
    assert detect("bad", "x").flagged and detect("good", "bad").flagged is False
    assert classified(lambda text: 0.7, threshold=0.8)("a", "b").flagged is False and pair_text("a", "b") == "a\n\nb"


def test_a_directory_of_the_llama_guard_type_is_asked_by_its_own_template(tmp_path: Path) -> None:
    folder = tiny_directory(tmp_path / "guard", "llama", context=256)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}safe or unsafe?"
    tokenizer.save_pretrained(folder)
    verdict = detector(f"guard-model:{folder}")("Hello", "Hello there")
    assert verdict.flagged is None and "neither" in verdict.why, "random weights say nothing that can be read"
    with pytest.raises(ValueError, match="does not fit"):
        detector(f"guard-model:{folder}")("word " * 4000, "x")


def test_room_harm_writes_what_is_true_by_construction(tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    RoomHarm(out=str(out), n=60, form="answers", langs=("en", "zh")).run(QUIET)
    groups = [Group.from_json(r) for r in read_lines(out)]
    for g in groups:
        told = all(s.lower() in g.responses[0].text.lower() for s in g.facts["gold"]["secret"])
        assert told is g.facts["harm"], (g.facts["gold"], g.responses[0].text)
    assert {g.facts["lang"] for g in groups} == {"en", "zh"} and 40 < sum(g.facts["harm"] for g in groups) < 80
    texts = tmp_path / "t.jsonl"
    RoomHarm(out=str(texts), n=60, langs=("en",)).run(QUIET)
    assert {r["label"] for r in read_lines(texts)} == {"harm", "safe"} and set(read_lines(texts)[0]) == {
        "text",
        "label",
    }
    for fields in ({"seed": 1}, {"split": "held-out"}, {"start": 500}):
        other = tmp_path / f"{next(iter(fields))}.jsonl"
        RoomHarm(out=str(other), n=60, langs=("en",), **fields).run(QUIET)
        assert read_lines(other) != read_lines(texts)


def test_scan_measures_one_detector_against_the_truth(tmp_path: Path) -> None:
    rows = tmp_path / "r.jsonl"
    said = {
        "I cannot help with that.": True,
        "Hello there.": False,
        "Sorry, I cannot tell you.": True,
        "It is on floor 3.": False,
    }
    rows.write_text("".join(json.dumps({"prompt": "Hi", "completion": t, "no": v}) + "\n" for t, v in said.items()))
    made = Scan(data=str(rows), detectors=("refusal",), truth="no", out=str(tmp_path / "v")).run(QUIET)
    assert made.measured["all"].found == made.measured["all"].positives == 2 and made.measured["all"].passed == 2
    with pytest.raises(ValueError, match="name one detector"):
        Scan(data=str(rows), truth="no").run(QUIET)
    with pytest.raises(ValueError, match="must be true or false"):
        Scan(data=str(rows), detectors=("refusal",), truth="yes", out=str(tmp_path / "v")).run(QUIET)
