"""`posttrain audit`: a reward run gets the reward's audit, other models the policy's; files, exit codes, clear refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from posttrain.core.needs import Needs
from posttrain.jobs.assembly import resolve
from posttrain.jobs.auditing import Audit
from posttrain.models.heads import for_needs
from posttrain.models.load import load, save


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped base with a random score head: bad enough to fail."""
    torch.manual_seed(0)
    loaded = load(resolve("base"))
    heads = for_needs(loaded, Needs(score=1))
    path = tmp_path_factory.mktemp("audit") / "reward"
    save(loaded, path, heads=torch.nn.ModuleDict(heads).state_dict())
    return path


def test_a_reward_is_audited_on_one_page(reward: Path, tmp_path: Path) -> None:
    found = Audit(target=str(reward), out=str(tmp_path / "a"), fast=True, n=16, tests=("T01", "T02")).run()
    body = json.loads((tmp_path / "a" / "audit.json").read_text(encoding="utf-8"))
    assert body["verdict"] == found.verdict and {r["id"] for r in body["results"]} >= {"T01", "T02"}
    assert found.exit_code == {"pass": 0, "fail": 1, "inconclusive": 3}[found.verdict]
    page = (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    assert "orders pairs" in page and "<script" not in page
    assert (tmp_path / "a" / "pairs.jsonl").exists()


def test_fields_change_the_audit(reward: Path, tmp_path: Path) -> None:
    def rows(name: str, **fields: object) -> list[dict[str, object]]:
        settings = {"fast": True, "n": 12, "tests": ("T01",), **fields}
        Audit(target=str(reward), out=str(tmp_path / name), **settings).run()  # type: ignore[arg-type]
        return list(json.loads((tmp_path / name / "audit.json").read_text(encoding="utf-8"))["results"])

    plain = rows("plain")
    assert {r["lang"] for r in rows("french", langs=("fr",))} == {"all", "fr"} != {r["lang"] for r in plain}
    assert rows("fewer", n=6)[0]["n"] != plain[0]["n"]
    assert rows("seed", seed=5) != plain
    assert len(rows("slow", fast=False)) > len(plain)
    cases = tmp_path / "cases.jsonl"
    row = {"prompt": "Who wrote it?", "chosen": "Paul Durwick wrote it.", "rejected": "I cannot say."}
    cases.write_text(
        "".join(json.dumps(row | {"prompt": f"{i}: who wrote it?"}) + "\n" for i in range(5)), encoding="utf-8"
    )
    assert rows("own", cases=str(cases))[0]["n"] == 5


def test_a_policy_is_audited_for_sycophancy(tmp_path: Path) -> None:
    found = Audit(target="base", out=str(tmp_path / "p"), fast=True, n=4).run()
    assert 0 <= found.body["sycophancy_score"] <= 1 and "stubbornness" in found.body
    assert "Audit of a policy" in (tmp_path / "p" / "report.html").read_text(encoding="utf-8")


def test_an_unknown_test_is_named(reward: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'T99' is unknown"):
        Audit(target=str(reward), out=str(tmp_path / "x"), tests=("T99",)).run()
