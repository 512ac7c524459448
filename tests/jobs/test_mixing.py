"""Mixtures of a recipe: each field changes what is drawn, weights hold over 10,000 draws and after a resume, the run tells what it drew."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from posttrain.core.group import Group, group
from posttrain.data.source import Mix, Offline
from posttrain.jobs import mixing
from posttrain.jobs.assembly import Part
from posttrain.jobs.job import Context
from posttrain.jobs.mixing import Mixture
from posttrain.jobs.train import Train
from tests.jobs.tiny_run import base, rows_file

LESSON = {"qa": 0.3, "summarization": 0.2, "code": 0.2, "reasoning": 0.15, "creative": 0.15}


def part(name: str, n: int, weight: float = 1.0) -> Part:
    rows = [group(f"{name} {i}", "word " * (i + 1), facts={"task": name, "hard": float(n - i)}) for i in range(n)]
    return Part(name, rows, n, weight=weight)


PARTS = [part("qa", 60), part("code", 30), part("creative", 6)]


def taken(source: Any, steps: int) -> list[Group]:
    out = []
    for number, groups in enumerate(itertools.islice(source.stream(None), steps)):
        out += groups
        source.publish(None, number)
    return out


def shares(mixture: Mixture, parts: list[Part] = PARTS, steps: int = 400) -> dict[str, float]:
    source = mixing.source_of(parts, 5, 0, None, mixture, steps)
    taken(source, steps)
    return {row["task"]: row["share"] for row in mixing.drawn(parts, mixture, source)}


def test_the_lessons_weights_hold_over_10000_draws_and_after_a_resume() -> None:
    parts, mixture = [part(name, 40) for name in LESSON], Mixture(weights=LESSON)
    first = mixing.source_of(parts, 8, 3, None, mixture)
    made = taken(first, 517)
    second = mixing.source_of(parts, 8, 3, None, mixture)
    second.load(json.loads(json.dumps(first.state())))
    made += taken(second, 1250 - 517)
    assert len(made) == 10_000
    told = {row["task"]: row for row in mixing.drawn(parts, mixture, second)}
    for name, weight in LESSON.items():
        assert sum(g.facts["task"] == name for g in made) / 10_000 == pytest.approx(weight, abs=0.01)
        assert told[name]["rows"] == sum(g.facts["task"] == name for g in made) and told[name]["weight"] == weight
    whole = taken(mixing.source_of(parts, 8, 3, None, mixture), 1250)
    assert [g.id for g in whole] == [g.id for g in made]


def test_every_field_changes_what_is_drawn() -> None:
    usual = shares(Mixture())
    assert usual["qa"] == pytest.approx(60 / 96, abs=0.01) and usual["creative"] == pytest.approx(6 / 96, abs=0.01)
    flat = shares(Mixture(temperature=1e9))
    assert all(v == pytest.approx(1 / 3, abs=0.01) for v in flat.values())
    assert shares(Mixture(cap=6)) == pytest.approx(flat, abs=0.01)
    assert shares(Mixture(weights={"qa": 0.1, "code": 0.1, "creative": 0.8}))["creative"] == pytest.approx(
        0.8, abs=0.01
    )
    joined = [Part("all", [g for p in PARTS for g in p.groups], 96)]
    assert shares(Mixture(by="task", temperature=1e9), joined) == pytest.approx(flat, abs=0.01)
    source = mixing.source_of(PARTS, 5, 0, None, Mixture(epochs={"creative": 2}))
    told = mixing.drawn(PARTS, Mixture(epochs={"creative": 2}), source)
    taken(source, 400)
    told = mixing.drawn(PARTS, Mixture(epochs={"creative": 2}), source)
    assert [row["rows"] for row in told if row["task"] == "creative"] == [12] and sum(
        row["rows"] for row in told
    ) == 2000


def test_curricula_go_from_easy_to_hard_inside_each_task_and_do_not_end() -> None:
    for alone in ([PARTS[0]], PARTS):
        for curriculum, easy in (("length", "qa 0"), ("hard", "qa 59")):
            mixture = Mixture(curriculum=curriculum)
            made = [g for g in taken(mixing.source_of(alone, 5, 0, None, mixture, 40), 60) if g.facts["task"] == "qa"]
            first = {g.prompt_text for g in made[:8]}
            near = {f"qa {abs(i - int(easy.split()[1]))}" for i in range(20)}
            assert len(first & near) >= 0.9 * len(first) and len({g.prompt_text for g in made[-60:]}) > 25


def test_steps_follow_from_passes() -> None:
    each = Mixture(epochs={"qa": 1, "code": 2, "creative": 4})
    assert mixing.longest(PARTS, each) == 144 and mixing.steps_of(PARTS, each, 10, None, None) == 15
    source = mixing.source_of(PARTS, 10, 0, None, each)
    assert len(taken(source, 99)) == 144 and isinstance(source, Mix) and set(source.ended) == {0, 1, 2}
    assert (
        mixing.steps_of(PARTS, Mixture(), 10, None, 2.0) == 19 and mixing.steps_of(PARTS, Mixture(), 10, 7, None) == 7
    )
    assert isinstance(mixing.source_of(PARTS[:1], 4, 0), Offline)
    with pytest.raises(ValueError, match="all tasks end after 144 rows; 16 steps of 10 need more"):
        mixing.steps_of(PARTS, each, 10, 16, None)


@pytest.mark.parametrize(
    ("mixture", "parts", "why"),
    [
        (Mixture(weights={"qa": 1.0}), PARTS, "without a weight"),
        (Mixture(weights={"qa": 0.5, "code": 0.4, "creative": 0.4}), PARTS, "sum to 1"),
        (Mixture(epochs={"none": 1}), PARTS, "no task is called 'none'; there are qa, code, creative"),
        (Mixture(by="level"), PARTS, "has no fact `level`"),
        (Mixture(cap=3), [part("a", 3, 2.0), part("b", 3)], "not in both places"),
        (
            Mixture(epochs={"a": 1}),
            [part("a", 3), part("a", 3)],
            "two sources are called 'a'; give each its own `task`",
        ),
        (Mixture(curriculum="gone"), PARTS, "no number `gone`"),
        (Mixture(), [part("a", 3, 0.0), part("b", 3, 0.0)], "are 0"),
    ],
)
def test_what_cannot_be_mixed_is_said(mixture: Mixture, parts: list[Part], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        mixing.source_of(parts, 2, 0, None, mixture)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"weights": {"a": 1.0}, "cap": 3}, "leave them out where weights are given"),
        ({"curriculum": "length", "epochs": {"a": 1}}, "a curriculum has no passes"),
    ],
)
def test_settings_that_contradict_each_other(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Mixture(**given)


def test_a_run_tells_what_it_drew(tmp_path: Path) -> None:
    for name in ("sums", "words"):
        rows_file(tmp_path / f"{name}.jsonl", [{"prompt": f"{name} {i}?", "completion": f"{i}"} for i in range(12)])
    data = [
        {"path": str(tmp_path / "sums.jsonl"), "task": "sums"},
        {"path": str(tmp_path / "words.jsonl"), "task": "words"},
    ]
    run = Train(
        model=base(tmp_path), method="sft", data=data, out=str(tmp_path / "run"), steps=5, batch=8, samples=0, preflight="off",
        mixture={"weights": {"sums": 0.75, "words": 0.25}}, log_to=(),
    ).run(Context(bars=False))  # fmt: skip
    drawn = json.loads(run.manifest.read_text(encoding="utf-8"))["drawn"]
    assert [(d["task"], d["weight"]) for d in drawn] == [("sums", 0.75), ("words", 0.25)]
    assert sum(d["rows"] for d in drawn) == 40 and drawn[0]["share"] == pytest.approx(0.75, abs=0.03)
    assert drawn[0]["passes"] == pytest.approx(drawn[0]["rows"] / 12)
    page = run.report.read_text(encoding="utf-8")
    assert "What was drawn" in page and "75.0%" in page
