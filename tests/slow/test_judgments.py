"""Ten thousand judgments against a server that misbehaves, killed three times: no answered call is sent again, the budget holds, unparsed
replies are counted, and the file does not depend on timing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from posttrain.client import Store
from posttrain.core.files import read_lines
from posttrain.core.group import group
from tests.client.stub import Faults, Stub, serving
from tests.rewards.judges import by_utility, worth

pytestmark = pytest.mark.slow
ROWS, TOKENS = 5000, 60_000_000
JOB = """
import sys
from posttrain.jobs.catalogue import build_job
from posttrain.jobs.job import Context
data, out, url, tokens = sys.argv[1:]
fields = {"job": "judge", "data": data, "out": out, "model": "m", "url": url, "max_tokens": 64, "max_spent_tokens": int(tokens)}
build_job(fields).run(Context(bars=False))
"""


def said(asked: dict[str, Any]) -> str:
    """By utility; three replies of a hundred cannot be read, also when asked again."""
    text = asked["messages"][0]["content"]
    if random.Random(text).random() < 0.03:
        return "Es kommt darauf an."
    return by_utility(worth)(text)


def start(data: Path, out: Path, stub: Stub) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", JOB, str(data), str(out), stub.url, str(TOKENS)]
    return subprocess.Popen(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def answered(out: Path) -> set[str]:
    """Keys of the calls whose answers are kept."""
    store = Store(str(out) + ".answers.db")
    try:
        return {row[0] for row in store._db.execute("SELECT key FROM answer")}
    finally:
        store.close()


def test_ten_thousand_judgments_survive_three_kills(tmp_path: Path) -> None:
    data, out = tmp_path / "d.jsonl", tmp_path / "j.jsonl"
    rows = [group(f"question {i}", f"q={i % 7}.5", "q=3") for i in range(ROWS)]
    data.write_text("".join(json.dumps(g.to_json()) + "\n" for g in rows))
    with serving(said, Faults(busy=0.02, server=0.02, cut=0.01, retry_after="0")) as stub:
        last = 0
        for kill in range(3):
            job = start(data, out, stub)
            goal = (kill + 1) * ROWS // 2
            while sum(stub.billed.values()) < goal and job.poll() is None:
                time.sleep(0.05)
            assert job.poll() is None, "the job ended before it could be killed"
            job.send_signal(signal.SIGKILL)
            job.wait()
            kept = answered(out)
            assert kept
            time.sleep(0.3)
            with stub.lock:
                before = {key: stub.tried[key] for key in kept}
            assert len(kept) > last
            last = len(kept)
        assert start(data, out, stub).wait() == 0
        assert all(stub.tried[key] == n for key, n in before.items()), "an answered call was sent again"
        assert stub.tokens <= TOKENS
    made, told = read_lines(out), json.loads(Path(str(out) + ".report.json").read_text())
    assert len(made) == ROWS and told["counts"]["asked"] == 2 * ROWS and 0.02 < told["unparsed"] < 0.04
    assert [r["prompt"][0]["content"] for r in made] == [g.prompt_text for g in rows]
    with serving(said) as calm:
        assert start(data, tmp_path / "calm.jsonl", calm).wait() == 0
    assert (tmp_path / "calm.jsonl").read_bytes() == out.read_bytes()


def test_a_small_budget_stops_the_job_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    from posttrain.client import BudgetExceeded
    from posttrain.jobs.catalogue import build_job
    from posttrain.jobs.job import Context

    data = tmp_path / "d.jsonl"
    data.write_text(
        "".join(json.dumps(group(f"question {i}", f"q={i % 7}.5", "q=3").to_json()) + "\n" for i in range(200))
    )
    fields = {"job": "judge", "data": str(data), "out": str(tmp_path / "j.jsonl"), "model": "m", "max_tokens": 64}
    with serving(said, Faults(cut=0.05)) as stub:
        for budget in (60_000, 100_000):
            with pytest.raises(BudgetExceeded):
                build_job({**fields, "url": stub.url, "max_spent_tokens": budget}).run(Context(bars=False))
            assert stub.tokens <= budget
        calls = sum(stub.billed.values())
        build_job({**fields, "url": stub.url}).run(Context(bars=False))
        assert 0 < calls < sum(stub.billed.values())
