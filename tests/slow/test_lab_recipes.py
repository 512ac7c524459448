"""The recipes of the labs on evaluation, from their files to their pages, in a small size; and instruction tuning on real rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posttrain.jobs import pipeline
from posttrain.jobs.job import Context
from tests.slow import real

pytestmark = pytest.mark.slow
QUIET = Context(bars=False)


def ran(recipe: str, out: Path, *changes: str) -> dict[str, Any]:
    """Run a recipe with `a.b=value` changes; returns what its comparison says."""
    plan = pipeline.load(recipe, [f"out={out}", *changes])
    page = [p for p in plan.run(QUIET).values() if str(p).endswith("report.html")][-1]
    assert "<script" not in Path(page).read_text(encoding="utf-8")
    told: dict[str, Any] = json.loads((Path(page).parent / "comparison.json").read_text(encoding="utf-8"))
    return told


def test_instruction_tuning(tmp_path: Path) -> None:
    """More rows, more gold, and more than two worked examples in the prompt give; readers are compared."""
    told = ran(
        "recipes/labs/instructions.yaml", tmp_path, "demos.n=480", "half.data.limit=160", "held_out.n=10", "page.bias=4",
        "page.turn_prompts=4",
    )  # fmt: skip
    assert list(told["models"]) == ["base", "half", "sft", "base + examples"] and told["main"] == "gold"
    assert [rows for rows, *_ in told["curve"]["sft on demos.jsonl"]] == [160, 480], "the learning curve is over rows"
    assert list(told["by_split"]) == ["held-out", "rare", "new-phrasing", "new-vocabulary", "ood"]
    assert set(told["by_turn"]) >= {"1", "2"}
    assert told["bias"]["sft"]["bias/religion"]["verdict"] in ("pass", "fail", "inconclusive")
    gain = next(d for d in told["duels"] if (d["model"], d["other"]) == ("sft", "base"))
    assert gain["difference"]["low"] > 0


def test_dpo_against_sft_only(tmp_path: Path) -> None:
    told = ran(
        "recipes/labs/dpo_vs_sft.yaml", tmp_path, "demos.n=320", "more.n=64", "asked.n=64", "held_out.n=24"
    )  # fmt: skip
    assert {"only_sft", "soup", "dpo"} <= set(told["models"]) and told["objectives"] == ["gold", "logp"]
    assert set(told["front"]) <= set(told["models"]) and told["tax"] and told["by_task"]


def test_domain_adaptation_tells_gain_and_loss(tmp_path: Path) -> None:
    told = ran(
        "recipes/domain.yaml", tmp_path, "domain.documents=400", "general.documents=100", "demos.n=160", "held_out.n=10",
        "adapt.steps=12", "domain_texts.documents=30", "general_texts.documents=30",
    )  # fmt: skip
    stages = {s for made in told["by_task"].values() for s, _ in made}
    assert stages == {"base", "adapt", "direct", "sft"}, "figures by task over the stages say what was gained and lost"
    assert {t["model"] for t in told["tax"]} == {"adapt", "direct", "sft"} and all("kept" in t for t in told["tax"])
    assert told["texts"]["domain"]["adapt"]["verdict"] == "gained"
    assert told["texts"]["general"]["direct"]["verdict"] in ("lost", "kept", "not decided")


@pytest.mark.skipif(not real.DATA.is_dir(), reason="POSTTRAIN_DATA names no directory of real rows")
def test_instruction_tuning_on_an_alpaca_type_set(tmp_path: Path) -> None:
    """Real rows of the Alpaca shape through the same recipe: held-out answers become likelier than to the base, paired by row."""
    rows = (real.DATA / "llamafactory-demo" / "alpaca_en_demo.jsonl").read_text(encoding="utf-8").splitlines()
    short = [r for r in rows if len(r) < 700]
    train, held = tmp_path / "train.jsonl", tmp_path / "held.jsonl"
    train.write_text("\n".join(short[40:]) + "\n", encoding="utf-8")
    held.write_text("\n".join(short[:40]) + "\n", encoding="utf-8")
    told = ran(
        "recipes/labs/instructions.yaml", tmp_path, f"sft.data={train}", f"half.data.path={train}", "half.data.limit=120",
        f"page.data={held}", f"page.examples={train}", "page.shots=1", "page.bias=0", "page.figure=logp", "page.max_tokens=40",
        "demos.n=2", "held_out.n=2", "sft.overlong=drop", "half.overlong=drop",
    )  # fmt: skip
    gain = next(d for d in told["duels"] if (d["model"], d["other"]) == ("sft", "base"))
    print({d["model"]: d["difference"] for d in told["duels"] if d["other"] == "base"})
    assert gain["difference"]["low"] > 0
