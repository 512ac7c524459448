"""The labs' recipes run as `posttrain run` with tiny steps, and end in the pages that they promise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from posttrain.cli import main

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def tiny(recipe: str, *overrides: str) -> None:
    """Run a recipe of the repository from the current directory."""
    assert main(["run", str(ROOT / "recipes" / recipe), *overrides]) == 0


def jobs(names: str, *fields: str) -> list[str]:
    return [f"{job}.{field}" for job in names.split() for field in fields]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_dpo_against_ppo_on_one_page(here: Path) -> None:
    small = [
        "demos.n=48",
        "asked.n=40",
        "held_out.n=6",
        "sft.batch=16",
        "reward.epochs=1",
        "page.kl_prompts=3",
        "page.max_tokens=24",
    ]
    online = jobs(
        "ppo grpo", "batch=2", "steps=2", "rollout.n=2", "rollout.max_new_tokens=12", "samples=0", "preflight=off"
    )
    plain = jobs("sft reward dpo", "samples=0", "preflight=off")
    tiny("labs/dpo_vs_ppo.yaml", *small, *online, *plain, "answers.max_tokens=24")
    told = json.loads((here / "runs/dpo_vs_ppo/page/comparison.json").read_text())
    assert list(told["models"]) == ["sft", "dpo", "ppo", "grpo"] and set(told["kl"]) == {"dpo", "ppo", "grpo"}
    cost = told["cost"]
    assert cost["ppo"]["first"] == ["reward"] and cost["ppo"]["labels"] == cost["dpo"]["labels"] > 0
    assert (
        cost["grpo"]["models"] == ["policy", "reference", "reward model"]
        and cost["dpo"]["sampled"] == 0 < cost["grpo"]["sampled"]
    )
    page = (here / "runs/dpo_vs_ppo/page/report.html").read_text()
    for words in (
        "Methods side by side",
        "KL spent, nats an answer",
        "peak memory",
        "stability",
        "labels it learned from",
        "wins against sft",
    ):
        assert words in page


def test_the_librarians_three_variants_on_one_page(here: Path) -> None:
    """They share their SFT run: the second and third recipe reuse it."""
    small = ["demos.n=64", "asked.n=16", "held_out.n=6", "sft.batch=16", *jobs("sft", "samples=0", "preflight=off")]
    online = ("batch=2", "steps=2", "rollout.n=2", "rollout.max_new_tokens=16", "samples=0", "preflight=off")
    rated = ["answers.max_tokens=24", *jobs("reward", "samples=0", "preflight=off", "epochs=1")]
    tiny("labs/unimarc_ppo.yaml", *small, *jobs("ppo", *online), *rated)
    made = (here / "runs/unimarc/sft/manifest.json").stat().st_mtime_ns
    tiny("labs/unimarc_dpo.yaml", *small, *jobs("dpo", "batch=8", "samples=0", "preflight=off"))
    tiny("labs/unimarc_grpo.yaml", *small, *jobs("grpo", *online))
    assert (here / "runs/unimarc/sft/manifest.json").stat().st_mtime_ns == made
    tiny("labs/unimarc.yaml", "kl_prompts=3", "max_tokens=24")
    told = json.loads((here / "runs/unimarc/page/comparison.json").read_text())
    assert list(told["models"]) == ["sft", "ppo", "dpo", "grpo"] and told["main"] == "faithful"
    assert told["cost"]["grpo"]["labels"] == 0 < told["cost"]["ppo"]["labels"]
    figures = {x["name"] for x in told["lines"]["grpo"]}
    assert {"faithful", "valid", "invented", "notice_f1", "length"} <= figures


def test_reasoning_and_its_effort(here: Path) -> None:
    small = ["demos.n=48", "asked.n=16", "held_out.n=4", "sft.batch=16", "page.kl_prompts=2", "page.max_tokens=16"]
    online = jobs(
        "grpo", "batch=2", "steps=2", "rollout.n=2", "rollout.max_new_tokens=16", "samples=0", "preflight=off"
    )
    effort = jobs("effort_before effort_after", "n=2", "budgets=[4]", "max_tokens=16", "result_tokens=8")
    tiny("reasoning.yaml", *small, *online, *effort, *jobs("sft", "samples=0", "preflight=off"))
    for name in ("effort_before", "effort_after"):
        told = json.loads((here / f"runs/reasoning/{name}/effort.json").read_text())
        assert {p["way"] for p in told["points"]} == {"vote", "best", "any", "budget"}
        assert (here / f"runs/reasoning/{name}/report.html").is_file()
    shutil.rmtree(here / "runs")
