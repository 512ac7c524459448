"""The online study: planted cells give planted verdicts, and the committed rows the committed result."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from studies import online


def cells(gain: float, kl: float = 1.1) -> list[dict[str, Any]]:
    """300 prompts of three seeds and of the tuning seed; GRPO is better than SFT by `gain`, the others are not."""
    rng = np.random.default_rng(0)
    made: list[dict[str, Any]] = []
    for seed in (online.TUNING, *online.SEEDS):
        start = rng.random(300)
        for name in ("sft", *online.METHODS):
            more = gain if name == "grpo" else 0.0
            golds = np.clip(start[:, None] + more + rng.normal(0, 0.05, (300, 4)), 0, 2)
            rows = [{"place": i, "golds": g.tolist()} for i, g in enumerate(golds)]
            made.append({"seed": seed, "name": name, "rows": rows[::-1]})
        curve = [9.0] * 50 + [kl] * 50
        made += [
            {"seed": seed, "name": n, "curves": {"kl_sequence": curve, "beta": [0.5, 0.05]}} for n in online.KL_CELLS
        ]
    return made


def test_a_planted_gain_is_found_and_no_other() -> None:
    found = online.result(cells(0.05))
    assert found["claims"]["grpo > sft"]["separated"] and set(found["gold"]["grpo"]) == {"1", "2", "3"}
    assert abs(found["claims"]["grpo > sft"]["difference"] - 0.05) < 0.01
    assert not any(
        c["separated"] for n, c in found["claims"].items() if n != "grpo > sft" and abs(c["difference"]) < 1e-3
    )
    assert set(found["claims"]) == {f"{m} > sft" for m in online.METHODS}
    assert "| grpo |" in online.page(found)


def test_a_loss_is_no_gain() -> None:
    assert not online.result(cells(-0.05))["claims"]["grpo > sft"]["separated"]


def test_adaptive_kl_counts_the_second_half_alone() -> None:
    for kl, near in ((1.1, True), (0.85, True), (1.3, False), (0.7, False)):
        held = online.result(cells(0.0, kl))["adaptive_kl"]
        assert len(held) == 6 and {h["near"] for h in held.values()} == {near}


def test_the_tuning_seed_is_not_reported() -> None:
    assert online.TUNING not in online.SEEDS


if (online.HERE / "result.json").is_file():

    def test_the_committed_result_follows_from_the_committed_rows() -> None:
        told = json.loads((online.HERE / "result.json").read_text(encoding="utf-8"))
        assert json.loads(json.dumps({"command": online.COMMAND, **online.result(online.cells())})) == told
        assert told["gold"]["sft"].keys() == {"1", "2", "3"}
