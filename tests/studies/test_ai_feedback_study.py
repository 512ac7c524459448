"""The study ai-feedback: planted rows give planted verdicts, committed rows give the committed figures, and a toy of it runs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from posttrain.core.files import read_lines
from posttrain.core.group import Group
from posttrain.readingroom import ReadingRoom
from studies import ai_feedback as study
from studies import ai_feedback_cells as cells

GAIN = {
    "sft": 0.0,
    "dpo_ai": 0.1,
    "revised": 0.0,
    "two_stage": 0.1,
    "fifty": 0.0,
    "synth": 0.12,
    "raw": 0.0,
    "distilled": 0.1,
}


def planted() -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for seed in study.SEEDS:
        base = rng.uniform(0.1, 0.7, 300)
        for cell, gain in GAIN.items():
            golds = np.clip(base + gain + rng.normal(0, 0.05, 300), 0, 1)
            rows += [
                {"seed": seed, "cell": cell, "place": i, "id": str(i), "gold": float(g)} for i, g in enumerate(golds)
            ]
        for i in range(320):
            better = 0.2 if i % 4 == 0 else 0.0
            marks = {"mark_before": 0.5, "mark_after": 0.5 + better}
            rows.append({"seed": seed, "cell": "critique", "place": i, "before": 0.4, "after": 0.4 + better, **marks})
        rows.append({"seed": seed, "cell": "made", "produced": 10, "kept": 8, "clean": 7})
    return rows


def test_planted_rows_give_planted_verdicts() -> None:
    found = study.result(planted())
    separated = {name for name, claim in found["claims"].items() if claim["separated"]}
    assert separated == {
        "dpo_ai > sft", "two_stage > sft", "two_stage > revised", "synth > fifty", "distilled > raw", "critique: after > before",
    }  # fmt: skip
    assert set(found["claims"]) == separated | {"revised > sft"}
    assert found["critique"] == {
        "answers": 960,
        "changed": 240,
        "below_by_judge": 0,
        "below_in_gold": 0,
        "above_in_gold": 240,
    }
    assert found["synthetic"]["0"] == {"produced": 10, "kept": 8, "clean": 7}


def test_a_study_that_was_cut_still_tells_what_it_has() -> None:
    found = study.result([r for r in planted() if r["seed"] != 2 or r["cell"] == "sft"])
    assert set(found["gold"]["sft"]["by_seed"]) == {"0", "1", "2"} and set(found["gold"]["synth"]["by_seed"]) == {
        "0",
        "1",
    }


def test_the_judge_is_gold_with_noise_of_known_size() -> None:
    room = ReadingRoom(7)
    rows = room.candidates(room.prompts("train", 300), 4)
    judge, exact = cells.Judge(cells.NOISE, 7), cells.Judge(0.0, 7)
    noise = [
        a.value - b.value for x, y in zip(judge(rows), exact(rows), strict=True) for a, b in zip(x, y, strict=True)
    ]  # type: ignore[operator]
    assert np.std(noise) == pytest.approx(cells.NOISE, rel=0.1) and abs(np.mean(noise)) < 0.02
    assert judge(rows[:3]) == cells.Judge(cells.NOISE, 7)(rows[:3])
    pairs = cells.judged(rows, judge)
    assert len(pairs) > 250 and all(isinstance(g, Group) and g.responses[0].text != g.responses[1].text for g in pairs)
    right = [exact([g])[0] for g in pairs]
    assert np.mean([a.value >= b.value for a, b in right]) > 0.85  # type: ignore[operator]


@pytest.mark.skipif(
    not (study.HERE / "rows.jsonl").exists(), reason="the study has not been run: no rows are committed"
)
def test_committed_figures_follow_from_committed_rows() -> None:
    told = json.loads((study.HERE / "result.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(study.result(read_lines(study.HERE / "rows.jsonl")))) == told
    assert told["critique"]["below_by_judge"] == 0


@pytest.mark.slow
def test_a_toy_of_every_part_runs_and_goes_on(tmp_path: Path) -> None:
    rows = study.run((7,), study.SMALL, tmp_path, tmp_path / "rows.jsonl")
    counts = Counter(r["cell"] for r in rows)
    assert all(counts[cell] == study.SMALL.held_out for cell in study.CELLS)
    assert counts["critique"] == study.SMALL.criticised and counts["made"] == 1
    again = study.run((7,), study.SMALL, tmp_path / "elsewhere", tmp_path / "rows.jsonl")
    assert again == rows and not (tmp_path / "elsewhere").exists()
