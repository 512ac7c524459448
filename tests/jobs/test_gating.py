"""`posttrain gate` over audits and ratings: strict exit codes, accepted failures, and ratings that are too old or too few."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from posttrain.core.files import write_json
from posttrain.jobs.gating import GateJob
from posttrain.jobs.job import Context

QUIET = Context(bars=False)


def row(test: str, verdict: str, arm: str = "a") -> dict[str, Any]:
    numbers = {"estimate": 0.1, "bound": 0.2, "limit": 0.3, "n_needed": None, "clusters": 40}
    return {"id": test, "arm": arm, "verdict": verdict, **numbers}


def audited(run: Path, *rows: dict[str, Any], schema: str = "audit/1") -> Path:
    write_json(run / "audit" / "audit.json", {"schema": schema, "results": list(rows)})
    return run


def rated(path: Path, days: float, n: int = 60) -> Path:
    said = [{"created": time.time() - days * 86_400, "who": f"p{i}"} for i in range(n)]
    machine = [{"created": time.time(), "who": "m", "model": True}]
    path.write_text(
        json.dumps({"judgments": said}) + "\n" + json.dumps({"judgments": machine}) + "\n", encoding="utf-8"
    )
    return path


def code(run: Path, **policy: Any) -> int:
    file = run / "policy.yaml"
    write_json(file, policy)  # JSON is YAML
    return GateJob(target=str(run), policy=str(file)).run(QUIET).exit_code


def test_exit_codes_are_strict(tmp_path: Path) -> None:
    assert code(audited(tmp_path / "a", row("T01", "pass"), row("T02", "not_run"))) == 0
    assert code(audited(tmp_path / "b", row("T01", "pass"), row("T02", "inconclusive"))) == 3
    assert code(audited(tmp_path / "c", row("T02", "pass"), row("T02", "fail", "b"), row("T03", "inconclusive"))) == 1
    written = json.loads((tmp_path / "c" / "gate.json").read_text(encoding="utf-8"))
    assert written["verdict"] == "fail" and any("T02 b" in c["name"] for c in written["checks"])


def test_a_policy_accepts_by_name_and_requires_parts(tmp_path: Path) -> None:
    run = audited(tmp_path / "a", row("T04", "fail"), row("T01", "pass"))
    assert code(run) == 1 and code(run, accept=["T04"]) == 0
    assert code(run, accept=["T04"], require=["reward"]) == 0
    assert code(run, accept=["T04"], require=["reward", "sycophancy"]) == 3


def test_sycophancy_and_consistency_are_read(tmp_path: Path) -> None:
    body = {"schema": "sycophancy/1", "verdict": "fail", "sycophancy_score": 0.5, "interval": {"high": 0.6, "n": 50}}
    write_json(tmp_path / "p" / "audit" / "audit.json", body)
    assert code(tmp_path / "p") == 1
    write_json(tmp_path / "p" / "audit" / "audit.json", {**body, "verdict": "pass"})
    write_json(
        tmp_path / "p" / "audit" / "consistency.json", {"schema": "consistency/1", "results": [row("C05", "fail")]}
    )
    assert code(tmp_path / "p") == 1 and code(tmp_path / "p", accept=["C05"], require=["consistency"]) == 0


def test_an_old_or_missing_rating_fails_the_gate(tmp_path: Path) -> None:
    run = audited(tmp_path / "a", row("T01", "pass"))
    ratings = str(rated(tmp_path / "ratings.jsonl", days=10))
    assert code(run, human=ratings, human_days=30) == 0
    assert code(run, human=ratings, human_days=7) == 1
    assert code(run, human=ratings, human_ratings=61) == 1
    assert code(run, require=["human"]) == 3
    rated(run / "human.jsonl", days=1)
    assert code(run, require=["human"]) == 0


def test_bad_input_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for fields, says in (
        ({"target": str(tmp_path / "no")}, "no such directory"),
        ({"target": str(tmp_path / "empty")}, "to judge"),
        ({"target": str(audited(tmp_path / "odd", schema="x/9"))}, "schema 'x/9' is unknown"),
    ):
        with pytest.raises(ValueError, match=says):
            GateJob(**fields).run(QUIET)
    with pytest.raises(ValueError, match="humann"):
        code(tmp_path / "empty", humann="x")
