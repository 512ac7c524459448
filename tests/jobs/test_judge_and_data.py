"""`posttrain judge` against a stub, resumed without a second call; `posttrain data` with duplicates and a leak."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from posttrain.core.files import read_lines
from posttrain.core.group import Group, Preference, group
from posttrain.jobs.catalogue import build_job
from posttrain.jobs.job import Context
from posttrain.jobs.judging import JudgeReward
from posttrain.rewards import Criterion
from tests.client.stub import serving
from tests.rewards.judges import by_utility, worth


def said(asked: dict[str, Any]) -> str:
    return by_utility(worth)(asked["messages"][-1]["content"])


def lines(path: Path, groups: list[Group]) -> str:
    path.write_text("".join(json.dumps(g.to_json()) + "\n" for g in groups))
    return str(path)


def test_a_judged_file_and_its_report(tmp_path: Path) -> None:
    rows = [
        group(
            f"question {i}", f"q={i % 7}.5", "q=3", preferences=(Preference(0, 1) if i % 7 >= 3 else Preference(1, 0),)
        )
        for i in range(40)
    ]
    data = lines(tmp_path / "d.jsonl", rows)
    with serving(said) as stub:
        told = {"job": "judge", "data": data, "out": str(tmp_path / "j.jsonl"), "model": "m", "url": stub.url}
        made = build_job(told).run(Context(bars=False))
        assert made.agreement.estimate == 1.0 and made.unparsed == 0 and made.flips.estimate == 0
        calls = sum(stub.tried.values())
        build_job(told).run(Context(bars=False))
        assert sum(stub.tried.values()) == calls
        first = read_lines(tmp_path / "j.jsonl")[0]
        assert first["preferences"][0][:3] == [1, 0, 1.0] and first["facts"]["judge"] == "m"
        assert json.loads((tmp_path / "j.jsonl.report.json").read_text())["counts"]["asked"] == 80
        reward = Criterion.of(
            {"name": "judge", "model": "m", "url": stub.url, "store": str(tmp_path / "j.jsonl.answers.db")}
        )
        assert isinstance(reward, JudgeReward)
        assert [s.value for s in reward(rows[:1])[0]] == [0.0, 1.0] and sum(stub.tried.values()) == calls


def test_cleaned_rows_and_what_was_dropped(tmp_path: Path) -> None:
    item = "How many books can a reader of the town library take home on a single card for three weeks at most?"
    rows = [group(f"Tell me of number {i} in words, please.", f"This is {i}.") for i in range(6)]
    rows += [rows[0], group("Please: " + item.upper(), "Five.")]
    data, exam = lines(tmp_path / "d.jsonl", rows), lines(tmp_path / "exam.jsonl", [group(item, "5")])
    told = {"job": "data", "data": data, "out": str(tmp_path / "c.jsonl"), "against": [exam], "shape": "messages"}
    made = build_job(told).run(Context(bars=False))
    assert (made.rows, made.kept) == (8, 6) and made.dropped == {"exact duplicate": 1, "leaked test item": 1}
    assert len(read_lines(tmp_path / "c.jsonl")) == 6 and len(read_lines(tmp_path / "c.jsonl.dropped.jsonl")) == 2
    assert made.record["decontamination"][exam]["rows"] == 1
    kept = build_job({**told, "against": [], "on": "answer", "near": None, "out": str(tmp_path / "e.jsonl")}).run(
        Context(bars=False)
    )
    assert kept.kept == 7


def test_a_reward_model_written_again_is_read_again(tmp_path: Path) -> None:
    from posttrain.jobs.scoring import opened
    from tests.jobs.tiny_run import reward_run

    path = reward_run(tmp_path)
    first = opened(path, "fp32", "cpu")
    assert opened(path, "fp32", "cpu") is first
    later = Path(path, "model", "config.json")
    os.utime(later, ns=(later.stat().st_mtime_ns + 10**9,) * 2)
    assert opened(path, "fp32", "cpu") is not first
