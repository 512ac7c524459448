"""Parts of the labs: notices with their facts, good and bad ratings, right against wrong, what a run took; every lab's recipe builds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posttrain.core.files import read_lines
from posttrain.core.group import Group
from posttrain.jobs import online, pipeline
from posttrain.jobs.catalogue import build_job
from posttrain.jobs.job import Context
from posttrain.jobs.recipe_text import read_mapping
from posttrain.jobs.run_cost import cost_of, held, with_others
from posttrain.jobs.train import Train
from posttrain.rewards.unimarc import measure
from tests.jobs.tiny_run import base, demos

QUIET = Context(bars=False)
RECIPES = sorted([*Path("recipes").glob("*.yaml"), *Path("recipes/labs").glob("*.yaml")])


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_builds(path: Path) -> None:
    assert pipeline.build(read_mapping(str(path)), path.stem).jobs


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_no_recipe_is_refused_for_its_own_reward_model(path: Path) -> None:
    """A model that was trained a job earlier cannot have been audited: a run by it has a probe, or says that it goes without."""
    for name, job in pipeline.build(read_mapping(str(path)), path.stem).jobs.items():
        if isinstance(job, Train) and job.sampled is not None and online.models_in(job.reward):
            assert "R8" in job.accept, f"{path}: {name} would stop at R8"


def prompts(tmp: Path, **fields: object) -> list[Group]:
    out = tmp / "rows.jsonl"
    build_job({"job": "room-prompts", "n": 12, "tasks": ["catalogue"], "out": str(out), **fields}).run(QUIET)
    return [Group.from_json(r) for r in read_lines(out)]


def test_only_verifiable_rows_know_the_right_notice(tmp_path: Path) -> None:
    assert all("unimarc_gold" not in g.facts for g in prompts(tmp_path))
    rows = prompts(tmp_path, verifiable=True)
    told = [measure(g.facts["unimarc_gold"], g.facts["unimarc_gold"], g.facts["source"]) for g in rows]
    assert all(t["faithful"] == 1 and t["reward"] == 1 for t in told)


def test_right_notices_against_wrong_ones(tmp_path: Path) -> None:
    rows = prompts(tmp_path, verifiable=True)
    job = build_job({"job": "record-pairs", "data": str(tmp_path / "rows.jsonl"), "out": str(tmp_path / "pairs.jsonl")})
    pairs = [Group.from_json(r) for r in read_lines(job.run(QUIET))]
    faults = {p.responses[1].by for p in pairs}
    assert len(pairs) > len(rows) and "corruption:fact" in faults and len(faults) > 6
    by_prompt = {g.prompt_hash: g for g in rows}
    for pair in pairs:
        gold = by_prompt[pair.prompt_hash].facts["unimarc_gold"]
        assert pair.responses[0].text == gold != pair.responses[1].text
        assert pair.pairs()[0].i == 0
    worth = [measure(p.responses[1].text, p.facts["unimarc_gold"], p.facts["source"])["reward"] for p in pairs]
    assert max(worth) < 1
    bare = tmp_path / "bare.jsonl"
    bare.write_text(json.dumps({"prompt": "Catalogue it."}) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="unimarc_gold"):
        build_job({"job": "record-pairs", "data": str(bare), "out": str(tmp_path / "n.jsonl")}).run(QUIET)


def test_ratings_are_labels_above_a_line(tmp_path: Path) -> None:
    prompts(tmp_path, answers=True, quality=0.5, n=60)
    node = {"job": "room-annotate", "data": str(tmp_path / "rows.jsonl"), "labels": True, "sharpness": 200.0}

    def good(line: float) -> list[bool]:
        out = tmp_path / f"rated-{line}.jsonl"
        build_job({**node, "line": line, "out": str(out)}).run(QUIET)
        return [Group.from_json(r).responses[0].label for r in read_lines(out)]  # type: ignore[misc]

    strict, lax = good(0.95), good(0.05)
    assert len(strict) == len(lax) == 60
    assert 0 < sum(strict) < sum(lax)


def test_what_a_run_took(tmp_path: Path) -> None:
    """Labels of given rows count, prompts do not; a model trained before counts; memory is in GiB."""
    fields = {
        "data": demos(tmp_path / "d.jsonl", 6),
        "batch": 3,
        "steps": 2,
        "preflight": "off",
        "log_to": (),
        "samples": 0,
    }
    build_job({"method": "sft", "model": base(tmp_path), "out": str(tmp_path / "sft"), **fields}).run(QUIET)
    rollout = {"method": "rloo", "reward": "exact", "rollout": {"n": 2, "max_new_tokens": 3}}
    asked = tmp_path / "asked.jsonl"
    asked.write_text("".join(json.dumps({"prompt": f"{i}?", "answer": "1"}) + "\n" for i in range(6)), encoding="utf-8")
    online = {**fields, **rollout, "data": str(asked), "out": str(tmp_path / "rloo")}
    build_job({"model": base(tmp_path), **online}).run(QUIET)
    one, two = cost_of(str(tmp_path / "sft")), cost_of(str(tmp_path / "rloo"))
    assert (one["labels"], one["sampled"], one["models"]) == (6, 0, ["policy"])
    assert two["labels"] == 0 and two["sampled"] > 0 and two["models"] == ["policy", "reference"]
    assert 0.05 < one["memory"] < 8 and one["steps"] == 2 and one["alerts"] is not None
    both = with_others(two, [one])
    assert (
        both["labels"] == 6
        and both["seconds"] == pytest.approx(one["seconds"] + two["seconds"])
        and both["first"] == ["sft"]
    )
    assert cost_of(str(tmp_path))["seconds"] is None
    node = {"method": "ppo", "reward": {"name": "model", "path": "runs/rm"}}
    assert held(node) == ["policy", "reference", "reward model"] and held({**node, "lora": {}}) != held(
        {**node, "lora": {"rank": 4}}
    )
