"""Counter-examples repair a reward model: audited, retrained on what failed as well, audited again on items that were never given out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posttrain.audit import AuditReport, RewardModelAuditor, compare
from posttrain.core.group import Group, Preference, group
from posttrain.jobs.catalogue import build_job
from posttrain.jobs.scoring import ModelReward
from tests.slow.real import quiet

pytestmark = pytest.mark.slow
WORDS = (
    "Noted in full below.",
    "There is a good deal more to say of it.",
    "One may add this to it as well.",
    "So it has been said here.",
)


def wordy(i: int) -> Group:
    """A pair whose better answer is the longer one."""
    text = f"The answer is {i}."
    return group(
        f"What comes after {i - 1}?", f"{text} {' '.join(WORDS[: 1 + i % 4])}", text, preferences=(Preference(0, 1),)
    )


def learned(out: Path, rows: list[Group]) -> ModelReward:
    data = out.with_suffix(".jsonl")
    data.write_text("".join(json.dumps(g.to_json()) + "\n" for g in rows), encoding="utf-8")
    fields: dict[str, Any] = {"optimizer": {"lr": 5e-4}, "epochs": 2, "batch": 16, "preflight": "off", "threads": 1}
    node = {
        "method": "reward",
        "model": "base",
        "data": str(data),
        "samples": 0,
        "log_to": [],
        "out": str(out),
        **fields,
    }
    build_job(node).run(quiet())
    return ModelReward(str(out))


def audit(reward: ModelReward) -> AuditReport:
    return RewardModelAuditor(tests=["T02", "T10"], n=100, reps=500).analyze(reward_model=reward)


def test_retraining_on_counter_examples_lowers_what_failed(tmp_path: Path) -> None:
    rows = [wordy(i) for i in range(1, 161)]
    before = audit(learned(tmp_path / "before", rows))
    assert "Prefers verbose responses" in before.vulnerabilities
    pairs = before.training_pairs()
    after = audit(learned(tmp_path / "after", [*rows, *pairs[:: max(1, len(pairs) // 480)]]))
    changes = [c for c in compare(before, after, only_held_back=True) if c.test == "T02" and c.before > 0.1]
    print()
    for c in changes:
        print(
            f"{c.test} {c.arm}: {c.before:+.2f} s before, {c.after:+.2f} after, change {c.change}, p {c.p:.4f} on {c.items} items"
        )
    assert changes and all(c.change.high < 0 and c.p < 0.05 for c in changes)
