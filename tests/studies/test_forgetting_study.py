"""The study of forgetting: planted rows give planted verdicts, and its committed rows the committed figures."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from posttrain.core.files import read_lines
from studies import forgetting as study


def planted(seed: int, kept: float) -> list[dict[str, Any]]:
    """Others fall by 0.4 after the one task alone, and to `kept` of what they were after the mixture."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(400):
        task = study.ONE if i < 60 else ("fines", "summary")[i % 2]
        before = float(rng.uniform(0.4, 0.6))
        gain = 0.2 + float(rng.normal(0, 0.02)) if task == study.ONE else 0.0
        others = {"alone": before - 0.4 + float(rng.normal(0, 0.02)), "mixed": before * kept}
        golds = {"before": before} | {s: before + gain if task == study.ONE else v for s, v in others.items()}
        rows += [{"seed": seed, "stage": s, "id": str(i), "task": task, "gold": g} for s, g in golds.items()]
    return rows


def test_planted_rows_give_planted_verdicts() -> None:
    found = study.result([r for s in (0, 1, 2) for r in planted(s, 1.0)])
    assert all(c["separated"] for c in found["claims"].values())
    assert found["mixture_keeps"]["kept"] and found["prompts"] == {study.ONE: 60, "others": 340}
    assert found["gold"]["others"]["alone"]["mean"] == pytest.approx(0.1, abs=0.02)
    lost = study.result([r for s in (0, 1, 2) for r in planted(s, 0.8)])
    assert not lost["mixture_keeps"]["kept"] and lost["claims"][study.CLAIMS[1][3]]["separated"]


def test_intervals_follow_from_the_rows() -> None:
    rows = read_lines(study.HERE / "rows.jsonl")
    told = json.loads((study.HERE / "result.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(study.result(rows))) == told
    assert set(told["seeds"]) <= set(study.SEEDS) and len(told["seeds"]) >= 2
    claims = told["claims"]
    for words in (study.CLAIMS[0][3], study.CLAIMS[1][3]):
        assert claims[words]["separated"] and claims[words]["interval"][0] > 0 and claims[words]["n"] >= 300
        assert min(claims[words]["by_seed"]) > 0
    assert told["gold"]["others"]["mixed"]["interval"][0] > told["gold"]["others"]["alone"]["interval"][1]
    most = -told["mixture_keeps"]["interval"][0]  # what the mixture may have lost of the others
    assert claims[study.CLAIMS[0][3]]["interval"][0] > 5 * most, "the mixture's loss is not of another size"
