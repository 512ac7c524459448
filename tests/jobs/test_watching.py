"""What watches an online run: attribution in its log, alarms among its alerts, ratings that are too old."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from posttrain.core.files import read_lines
from posttrain.core.group import Group, Score, answer, group
from posttrain.jobs.catalogue import build_job
from posttrain.jobs.watching import Attributing, Attribution, HumanCheck, Overdue, ratings_of
from posttrain.train.loop import Step
from tests.jobs.test_online_run import QUIET
from tests.jobs.tiny_run import base, demos

PAID = {"markup": "It is **so**.", "length": "It is so, and it is so again and again.", "plain": "It is so."}


def step(number: int) -> Step:
    return Step(number, {}, {}, 0, 0.0)


def answered(pay: float, n: int = 20) -> list[Group]:
    """Every prompt answered with and without markup, which is paid `pay`."""
    out = []
    for i in range(n):
        noise = [0.01 * ((7 * i + 3 * j) % 11) for j in range(len(PAID))]
        made = [answer(t, score=Score(noise[j] + pay * (k == "markup"))) for j, (k, t) in enumerate(PAID.items())]
        out.append(group(f"is it so? ({i})", *made))
    return out


def test_attribution_alarms_when_markup_begins_to_pay_and_resumes() -> None:
    alerts: dict[str, str] = {}
    pay = {"now": 0.0}
    hook = Attributing(
        Attribution(every=2, answers=60), lambda: answered(pay["now"]), lambda a, n, t: alerts.setdefault(a, t)
    )
    for number in range(1, 5):
        hook(step(number))
        assert bool(hook.latest) == (number % 2 == 0)
    assert not alerts and "pays_markup" in hook.latest and "distinct_2" in hook.latest
    pay["now"] = 1.0
    hook(step(5))
    half = json.loads(json.dumps(hook.state()))
    again = Attributing(hook.settings, hook.fresh, lambda a, n, t: None)
    again.load(half)
    hook(step(6))
    again(step(6))
    assert again.latest == hook.latest
    hook(step(8))
    assert set(alerts) == {"pays_markup"} and "pays" in alerts["pays_markup"]


def ratings(path: Path, days: float) -> str:
    path.write_text(json.dumps({"judgments": [{"created": time.time() - days * 86_400}]}) + "\n", encoding="utf-8")
    return str(path)


def test_an_overdue_human_check_warns(tmp_path: Path) -> None:
    alerts: dict[str, str] = {}
    place = ratings(tmp_path / "r.jsonl", days=9)
    Overdue(HumanCheck(ratings=place, days=10), lambda a, n, t: alerts.setdefault(a, t))(step(1))
    assert not alerts
    Overdue(HumanCheck(ratings=place, days=8, every=3), lambda a, n, t: alerts.setdefault(a, t))(step(3))
    assert "9.0 days old" in alerts["human_check"]
    with pytest.raises(ValueError, match="no such"):
        ratings_of(str(tmp_path / "none.db"))
    (tmp_path / "bad.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="row 1 has no `judgments`"):
        ratings_of(str(tmp_path / "bad.jsonl"))


def test_the_recipe_turns_them_on(tmp_path: Path) -> None:
    node: dict[str, Any] = {
        "model": base(tmp_path), "data": demos(tmp_path / "d.jsonl", 12), "method": {"name": "grpo"},
        "reward": "tests.jobs.test_watching:long", "steps": 2, "batch": 9, "preflight": "off", "log_to": [],
        "samples": 0, "dtype": "fp32", "threads": 1,
    }  # fmt: skip
    watched = {
        "n": 3,
        "max_new_tokens": 6,
        "attribution": {"every": 2},
        "human": {"ratings": ratings(tmp_path / "r.jsonl", 9)},
    }
    build_job({**node, "rollout": watched, "out": str(tmp_path / "a")}).run(QUIET)
    rows = read_lines(tmp_path / "a" / "metrics.jsonl")
    assert "pays_length" not in rows[0] and "pays_length" in rows[1] and rows[1]["pays_length"] > 0
    assert "human_check" in json.loads((tmp_path / "a" / "manifest.json").read_text(encoding="utf-8"))["alerts"]
    build_job({**node, "rollout": {**watched, "attribution": None, "human": None}, "out": str(tmp_path / "b")}).run(
        QUIET
    )
    assert "pays_length" not in read_lines(tmp_path / "b" / "metrics.jsonl")[1]


def long(prompts: list[str], answers: list[str]) -> list[float]:
    return [float(len(a)) for a in answers]
