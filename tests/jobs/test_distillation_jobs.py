"""A teacher's answers with and without their traces, and the share of the gap that a student closed."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from posttrain.core.chat import user
from posttrain.core.group import Group, answer
from posttrain.jobs.gap import Gap, closed, share_of_gap
from posttrain.jobs.job import Context
from posttrain.jobs.pipeline import load
from posttrain.jobs.sample import Sample
from posttrain.jobs.traces import taught, trace_and_answer
from tests.jobs.tiny_run import demos
from tests.models.tiny import tiny_directory

ROOT = Path(__file__).parents[2]


def quiet() -> Context:
    return Context(Console(file=io.StringIO(), width=200), bars=False)


def teacher_said() -> list[Group]:
    def one(text: str, stop: str = "stop") -> Group:
        return Group((user("6 x 7?"),), (answer(text, stop=stop, tokens=np.ones(3)),))

    return [
        one("<think>six sevens</think>\n\n42"),
        one("the opening mark stands in the prompt</think>42"),
        one("42"),
        one("<think>on and on"),
        one("<think>late</think>4", stop="length"),
    ]


def test_traces_are_kept_apart_stripped_or_left() -> None:
    gone: Counter[str] = Counter()
    kept = taught(teacher_said(), "keep", True, gone)
    assert [(g.responses[0].turns[0].thinking, g.responses[0].text) for g in kept] == [
        ("six sevens", "42"),
        ("the opening mark stands in the prompt", "42"),
        (None, "42"),
    ]
    assert gone == {
        "traces without an end": 1,
        "answers longer than max_tokens": 1,
        "prompts without an answer left": 2,
    }
    assert all(g.responses[0].tokens is None for g in kept), "the tokens are of the text before"
    stripped = taught(teacher_said(), "strip", False, Counter())
    assert [g.responses[0].text for g in stripped] == ["42", "42", "42", "4"]
    assert all(g.responses[0].turns[0].thinking is None for g in stripped)
    assert taught(teacher_said(), "text", False, gone) != []
    assert len(taught(teacher_said(), "text", False, Counter())) == 5
    with pytest.raises(ValueError, match="no end"):
        trace_and_answer("<thinking>and")


def test_sampling_a_teacher_counts_what_was_left_out(tmp_path: Path) -> None:
    model = str(tiny_directory(tmp_path / "m", "llama", context=256))
    data, out = demos(tmp_path / "d.jsonl", 6), str(tmp_path / "answers.jsonl")
    Sample(model=model, data=data, out=out, max_tokens=6, complete=True, thinking="strip", seed=3).run(quiet())
    told = json.loads(Path(out + ".manifest.json").read_text())
    rows = Path(out).read_text().splitlines()
    assert told["left_out"]["answers longer than max_tokens"] == 6 - len(rows) > 0


def test_the_share_is_that_of_the_planted_numbers() -> None:
    """200 prompts: teacher 0.8, before 0.2, after 0.5 on average is half of the gap, and the interval is paired."""
    rng = np.random.default_rng(0)
    ease = rng.normal(0, 0.3, 200)  # shared by all three: a paired interval does not see it
    noise = rng.normal(0, 0.02, (200, 3))
    three = [{str(i): base + ease[i] + noise[i, c] for i in range(200)} for c, base in enumerate((0.8, 0.2, 0.5))]
    found = closed(three)
    assert found["share"].estimate == pytest.approx(0.5, abs=0.01)
    assert found["share"].low < 0.5 < found["share"].high and found["share"].high - found["share"].low < 0.03
    assert found["gap"].low > 0.58
    assert found["before"].high - found["before"].low > 0.05, "unpaired intervals are wide here"
    assert share_of_gap(np.asarray([[1.0, 1.0, 2.0]])) == 0.0


def test_the_page_puts_all_three_side_by_side(tmp_path: Path) -> None:
    before, teacher = (str(tiny_directory(tmp_path / n, "llama", context=256, seed=s)) for n, s in (("b", 0), ("t", 1)))
    fields = {"teacher": teacher, "before": before, "after": teacher, "max_tokens": 4}
    data = demos(tmp_path / "d.jsonl", 12)
    job = Gap(**fields, data=data, out=str(tmp_path / "gap"), figure="logp")
    body = job.run(quiet())
    assert body["figure"] == "logp" and body["prompts"] == 12
    assert body["share"]["estimate"] == pytest.approx(1.0) or not body["sure_gap"]
    page = (tmp_path / "gap" / "report.html").read_text()
    assert "student before" in page and "share of the gap closed" in page and "What is 3 + 1?" in page
    with pytest.raises(ValueError, match="these prompts give no gold"):
        Gap(**fields, data=data, out=str(tmp_path / "gap"), figure="gold").run(quiet())


def test_the_recipe_builds() -> None:
    jobs = load(ROOT / "recipes" / "distill.yaml").jobs
    assert list(jobs)[-1] == "gap_tokens" and jobs["student_tokens"].teacher.endswith("teacher")  # type: ignore[attr-defined]
