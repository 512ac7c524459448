"""The study of preferences: its data readings, its verdicts on planted rows, and one small cell from start to end."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from posttrain.core.chat import user
from posttrain.core.files import read_lines
from posttrain.core.group import Group, answer
from studies import preferences as study


def ranked(n: int) -> list[Group]:
    made = tuple(answer(f"answer {i}") for i in range(4))
    return [Group((user(f"q{i}"),), made, ranking=((2,), (0, 1), (3,))) for i in range(n)]


def test_the_readings_of_one_annotation() -> None:
    pairs = list(study.pairs_of(ranked(1000)))
    assert [r.text for r in pairs[0].responses] == ["answer 2", "answer 3"]
    turned = sum(g.preferences[0].i == 1 for g in study.flipped(pairs, 0))
    assert 160 < turned < 240
    labels = Counter((g.responses[0].text, g.responses[0].label) for g in study.labels_of(ranked(1000), 0))
    assert set(labels) == {("answer 2", True), ("answer 0", True), ("answer 1", True), ("answer 3", False)}
    assert all(len(g.responses) == 1 for g in study.labels_of(ranked(3), 0))


def test_planted_rows_give_planted_verdicts() -> None:
    """DPO gains a tenth in every seed, KTO gains nothing; disagreement is planted on the wrong comparisons."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in (0, 1, 2):
        base = rng.uniform(0, 0.8, 320)
        for name, gain in (("sft", 0.0), ("dpo", 0.1), ("kto", 0.0)):
            golds = np.clip(base + gain + (0 if name == "sft" else rng.normal(0, 0.05, 320)), 0, 1)
            rows += [
                {"seed": seed, "cell": name, "place": i, "id": str(i), "gold": float(g)} for i, g in enumerate(golds)
            ]
        for i in range(400):
            truth, doubt = rng.normal(), i % 2
            margin = truth + doubt * rng.normal(0, 2)
            rows.append(
                {
                    "seed": seed,
                    "cell": "ensemble",
                    "margin": margin,
                    "spread": 0.1 + doubt,
                    "won": float(truth > 0),
                    "prompt": str(i),
                }
            )
    found = study.result(rows, {"0": {"ipo": {"margin_nats": 4.0}}})
    assert set(found["claims"]) == {"dpo > sft", "kto > sft"}
    assert found["claims"]["dpo > sft"]["separated"] and not found["claims"]["kto > sft"]["separated"]
    assert found["ipo_margin_nats"] == [4.0] and found["ipo_target_nats"] == 2.0
    assert all(e["auroc"] > 0.65 and abs(e["excess_ece_after"]) < 0.15 for e in found["ensemble"].values())


def test_every_claim_of_the_issue_has_its_cell() -> None:
    assert {a for a, b in study.CLAIMS if b == "sft"} == {
        "dpo",
        "ipo",
        "cdpo",
        "robust",
        "kto",
        "orpo",
        "simpo",
        "listwise",
    }
    assert study.CELLS["kto"].data == "labels" and study.CELLS["listwise"].data == "ranked"
    assert all(study.CELLS[a].data == study.CELLS[b].data == "flipped" for a, b in study.FLIPPED)


@pytest.mark.slow
def test_a_small_cell_runs(tmp_path: Path) -> None:
    rows, told = study.run((0,), study.SMALL, ["ipo"], tmp_path)
    assert Counter(r["cell"] for r in rows)["sft"] == Counter(r["cell"] for r in rows)["ipo"] == study.SMALL.held_out
    assert any(r["cell"] == "ensemble" for r in rows) and "margin_nats" in told["runs"]["0"]["ipo"]


def test_committed_rows_give_the_committed_figures() -> None:
    told = json.loads((study.HERE / "run.json").read_text(encoding="utf-8"))
    again = json.loads(json.dumps(study.result(read_lines(study.HERE / "rows.jsonl"), told["runs"])))
    assert again == json.loads((study.HERE / "result.json").read_text(encoding="utf-8"))
    assert all(again["claims"][f"{name} > sft"]["separated"] for name in study.CELLS if not name.endswith("_flipped"))
