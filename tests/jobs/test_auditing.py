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


def test_without_out_the_audit_goes_into_the_run(reward: Path, tmp_path: Path) -> None:
    run = tmp_path / "rm"
    run.mkdir()
    (run / "model").symlink_to(reward)
    Audit(target=str(run), fast=True, n=6, tests=("T01",)).run()
    assert (run / "audit" / "report.html").is_file() and not (reward / "audit").exists()
    with pytest.raises(ValueError, match=r"is no run directory to put the audit into; name one with --out DIR"):
        Audit(target=str(reward), fast=True).run()


def test_a_run_is_held_against_its_data_its_start_and_its_log(tmp_path: Path) -> None:
    from posttrain.jobs.catalogue import build_job
    from tests.jobs.test_online_run import QUIET
    from tests.jobs.tiny_run import base, reward_run, rows_file

    rows = [{"prompt": f"What is {i} + 1?", "chosen": str(i + 1), "rejected": f"{i} or so, I think"} for i in range(40)]
    fields = {
        "model": base(tmp_path),
        "data": rows_file(tmp_path / "p.jsonl", rows),
        "steps": 2,
        "batch": 4,
        "threads": 1,
    }
    shown = {"validation": 12, "preflight": "off", "log_to": [], "samples": 0, "dtype": "fp32"}
    build_job({**fields, **shown, "method": "dpo", "out": str(tmp_path / "dpo")}).run(QUIET)
    made = Audit(target=str(tmp_path / "dpo"), fast=True, n=2, reward=reward_run(tmp_path)).run(QUIET)
    body = json.loads((tmp_path / "dpo" / "audit" / "consistency.json").read_text(encoding="utf-8"))
    ran = {r["id"] for r in body["results"] if r["verdict"] != "not_run" or r["rule"] == "information"}
    assert {"C04", "C06", "C07", "C09", "C10", "C14", "C15"} <= ran
    assert any(i["check"] == "C04" and "Remedy" in i["sentence"] for i in body["issues"]) and made.exit_code == 1
    page = (tmp_path / "dpo" / "audit" / "report.html").read_text(encoding="utf-8")
    assert "Data, reward model and policy" in page and "Chosen answers are the shorter ones" in page
    Audit(target=str(tmp_path / "dpo"), out=str(tmp_path / "bare"), fast=True, n=2, consistency=False).run(QUIET)
    assert not (tmp_path / "bare" / "consistency.json").exists()
