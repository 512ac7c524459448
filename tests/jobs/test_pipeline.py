"""Recipes and pipelines: what `$name` means, order, overrides, mistakes in one line, and build(dump(r)) == r."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from posttrain.core.recipe import RecipeError
from posttrain.jobs.catalogue import build_job, dump_job
from posttrain.jobs.pipeline import build, dump, load, override
from posttrain.jobs.recipe_text import parse, read_mapping

RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))
PIPE = """
version: 1
out: runs/x
seed: 5
jobs:
  dpo: {method: {name: dpo, beta: 0.2, link: ipo}, model: $sft, data: [prefs.jsonl, {path: $best, weight: 2}], steps: 3}
  best: {job: sample, model: $sft, data: prompts.jsonl, n: 4, reward: $rm, best: 1, out: best.jsonl}
  rm: {method: reward, model: $sft/model, data: prefs.jsonl, seed: 9}
  sft: {method: sft, model: base, data: demos.jsonl, lora: {rank: 4}, optimizer: {lr: 1e-4}}
  score: {job: eval, model: $dpo, data: held.jsonl}
"""


def pipe(**changes: Any) -> dict[str, Any]:
    body = parse(PIPE, "test")
    body["jobs"].update(changes)
    return body


def test_references_order_prefix_and_seed() -> None:
    made = build(pipe())
    assert list(made.jobs) == ["sft", "rm", "best", "dpo", "score"]
    sft, rm, best, dpo, score = (made.jobs[n] for n in ("sft", "rm", "best", "dpo", "score"))
    assert (sft.out, dpo.out, best.out) == ("runs/x/sft", "runs/x/dpo", "best.jsonl")
    assert dpo.model == "runs/x/sft"
    assert rm.model == "runs/x/sft/model"
    assert [d.path for d in dpo.data] == ["prefs.jsonl", "best.jsonl"]
    assert (best.reward, score.model) == ("runs/x/rm", "runs/x/dpo")
    assert (sft.seed, rm.seed, best.seed) == (5, 9, 5)
    assert sft.optimizer.lr == 1e-4
    assert made.waits["dpo"] == ("sft", "best")


def test_without_prefix_the_recipe_names_the_directory(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text("jobs: {a: {method: sft, model: m, data: d}}")
    assert load(file).jobs["a"].out == "runs/small/a"


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_build_dump_of_every_recipe(path: Path) -> None:
    made = load(path)
    again = build(dump(made))
    assert again.jobs == made.jobs


def test_build_dump_of_a_pipeline_and_of_single_jobs() -> None:
    made = build(pipe())
    assert build(dump(made)).jobs == made.jobs
    for job in made.jobs.values():
        assert build_job(dump_job(job)) == job
    single = build({"method": "dpo", "model": "m", "data": "d", "out": "o"})
    assert build(dump(single)).jobs == single.jobs


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"rm": {"method": "reward", "model": "$sfft", "data": "d"}},
            "rm: '$sfft' names no job of this recipe; did you mean `$sft`?",
        ),
        (
            {"rm": {"method": "reward", "model": "$dpo", "data": "d"}},
            "jobs wait for each other: dpo -> best -> rm -> dpo",
        ),
        ({"rm": {"method": "reward", "model": "$rm", "data": "d"}}, "jobs wait for each other: rm -> rm"),
        ({"rm": {"method": "reward", "model": "m", "data": "d", "out": "runs/x/sft"}}, "both write to runs/x/sft"),
        ({"rm": {"method": "rewrd", "model": "m", "data": "d"}}, "unknown method 'rewrd'; did you mean `reward`?"),
        ({"rm": {"job": "trian", "model": "m"}}, "rm: unknown job 'trian'; did you mean `train`?"),
        (
            {"rm": {"method": "reward", "model": "m", "data": "d", "stepz": 1}},
            "rm.stepz: unknown field; did you mean `steps`?",
        ),
        ({"rm": {"method": "reward", "data": "d"}}, "rm.model: this field is required"),
        ({"rm": "reward"}, "rm: a job is a mapping of fields, found 'reward'"),
        ({"rm": {"model": "m"}}, "needs `method` (to train) or `job`"),
        (
            {"page": {"job": "report", "directory": "$sft"}, "z": {"job": "eval", "model": "$page", "data": "d"}},
            "writes no output",
        ),
        ({"a/b": {"method": "sft", "model": "m", "data": "d"}}, "'a/b' cannot be a job's name"),
    ],
)
def test_mistakes_are_one_line_before_anything_runs(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError) as error:
        build(pipe(**changes))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_versions() -> None:
    assert build({**pipe(), "version": 1}).jobs
    with pytest.raises(RecipeError, match=r"version: 2 is newer than this posttrain reads .*upgrade"):
        build({**pipe(), "version": 2})
    with pytest.raises(RecipeError, match="version: a whole number"):
        build({**pipe(), "version": "new"})
    with pytest.raises(RecipeError, match="jobz: unknown field of a pipeline"):
        build({**pipe(), "jobz": {}})


def test_overrides_reach_short_forms_lists_and_absent_nodes() -> None:
    body = pipe()
    for text in (
        "sft.steps=50",
        "dpo.method.beta=0.5",
        "rm.method.centring=0.01",
        "sft.lora.rank=8",
        "rm.optimizer.lr=1e-4",
        "rm.data.limit=7",
        "dpo.data.1.weight=3",
        "rm.accept=[M3]",
        "out=runs/y",
    ):
        override(body, text)
    jobs = build(body).jobs
    assert jobs["sft"].steps == 50
    assert jobs["sft"].lora.rank == 8
    assert jobs["dpo"].method.beta == 0.5
    assert jobs["rm"].method.centring == 0.01
    assert jobs["rm"].optimizer.lr == 1e-4
    assert jobs["rm"].data[0].limit == 7
    assert jobs["dpo"].data[1].weight == 3
    assert jobs["rm"].accept == ("M3",)
    assert jobs["sft"].out == "runs/y/sft"
    single = {"method": "dpo", "model": "m", "data": "d", "out": "o"}
    override(single, "method.beta=0.2")
    assert build(single).jobs["train"].method.beta == 0.2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("steps", "write field=value"),
        (".=1", "write field=value"),
        ("sfft.steps=1", "no such job; did you mean `sft`?"),
        ("sft.steps.x=1", "has no fields"),
        ("dpo.data.7.weight=1", "not one of the 2 entries"),
        ("sft.steps=[1", "override sft.steps: not valid YAML"),
    ],
)
def test_overrides_that_cannot_be(text: str, says: str) -> None:
    body = pipe()
    override(body, "sft.steps=3")
    with pytest.raises(RecipeError) as error:
        override(body, text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_an_override_of_an_unknown_field_names_the_nearest() -> None:
    body = pipe()
    override(body, "dpo.method.bta=1")
    with pytest.raises(RecipeError, match="did you mean `beta`"):
        build(body)


def test_yaml_is_read_as_people_mean_it(tmp_path: Path) -> None:
    assert parse("{a: 1e-4, b: 2E3, c: off, d: true, e: no, f: 1_000}", "t") == {
        "a": 1e-4,
        "b": 2000.0,
        "c": "off",
        "d": True,
        "e": "no",
        "f": 1000,
    }
    with pytest.raises(RecipeError, match="`a` is given twice"):
        parse("{a: 1, a: 2}", "t")
    with pytest.raises(RecipeError, match="not valid YAML"):
        parse("!!python/object/apply:os.system ['true']", "t")
    file = tmp_path / "r.yaml"
    for text, says in (
        ("- a", "found list"),
        ("a: 1\nb: [", "line 2: not valid"),
        ("1: a", "field names are text"),
        ("", "found NoneType"),
    ):
        file.write_text(text)
        with pytest.raises(RecipeError, match=says):
            read_mapping(file)
    file.write_bytes(b"a: \xff")
    with pytest.raises(RecipeError, match="not UTF-8"):
        read_mapping(file)


def test_a_plain_dollar_sign() -> None:
    made = build({"jobs": {"a": {"method": "sft", "model": "m", "data": {"path": "d", "template": "$$5 for {x}"}}}})
    assert made.jobs["a"].data[0].template == "$5 for {x}"
