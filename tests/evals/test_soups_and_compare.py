"""Averaged weights, and the compare job from models to page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from posttrain.core.group import group
from posttrain.jobs import assembly
from posttrain.jobs.compare import Compare, most_apart, with_examples, with_fact
from posttrain.jobs.compare_models import models_of
from posttrain.jobs.evaluate import Evaluate
from posttrain.jobs.job import Context
from posttrain.jobs.soup import Soup
from posttrain.jobs.train import Train
from posttrain.models.load import load
from posttrain.models.soup import average, read_weights, shares_of
from posttrain.readingroom.room import ReadingRoom
from posttrain.report.compare import comparison_page
from tests.jobs.tiny_run import base, demos

QUIET = Context(bars=False)


def test_soup_lies_between_and_loads(tmp_path: Path) -> None:
    fields = {"method": "sft", "data": demos(tmp_path / "d.jsonl", 8), "batch": 4, "log_to": (), "preflight": "off"}
    run = Train(model=base(tmp_path), out=str(tmp_path / "r"), steps=4, checkpoint_every=2, samples=0, **fields).run(
        QUIET
    )
    made = Soup(models=(base(tmp_path), str(run.path)), shares=(0.25, 0.75), out=str(tmp_path / "s")).run(QUIET)
    one, two, mixed = (read_weights(p) for p in (Path(base(tmp_path)), run.model, made.model))
    name = next(k for k in one if not torch.equal(one[k], two[k]))
    assert torch.allclose(mixed[name], 0.25 * one[name] + 0.75 * two[name], atol=1e-6)
    assert load(made.model).model is not None
    half = Soup(models=(f"{run.path}@2", str(run.path)), out=str(tmp_path / "h")).run(QUIET)
    assert not torch.equal(read_weights(half.model)[name], two[name])
    with pytest.raises(ValueError, match="steps kept: 2, 4"):
        Soup(models=(f"{run.path}@3", str(run.path)), out=str(tmp_path / "n")).run(QUIET)
    with pytest.raises(ValueError, match="sum to 1"):
        average([one, two], (0.5, 0.7))
    with pytest.raises(ValueError, match="another shape"):
        average([one, {**two, "more": torch.ones(1)}], (0.5, 0.5))
    assert shares_of(3) == [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)]


def test_checkpoints_and_averages_join_a_comparison(tmp_path: Path) -> None:
    """Checkpoints become directories, and averages of the last two models lie between them."""
    fields = {"method": "sft", "data": demos(tmp_path / "d.jsonl", 8), "batch": 4, "log_to": (), "preflight": "off"}
    run = Train(model=base(tmp_path), out=str(tmp_path / "r"), steps=4, checkpoint_every=2, samples=0, **fields).run(
        QUIET
    )
    made = models_of((base(tmp_path), f"{run.path}@2", f"last={run.path}"), 1, tmp_path / "c", QUIET)
    assert list(made) == ["base", "r@2", "last", "0.50 r@2 + 0.50 last"]
    two, last, half = (read_weights(Path(assembly.resolve(made[n]))) for n in list(made)[1:])
    name = next(k for k in two if not torch.equal(two[k], last[k]))
    assert torch.allclose(half[name], (two[name] + last[name]) / 2, atol=1e-6)
    with pytest.raises(ValueError, match="one name"):
        models_of(("a=base", "a=base"), 0, tmp_path, QUIET)
    with pytest.raises(ValueError, match="steps kept: 2, 4"):
        models_of(("base", f"{run.path}@7"), 0, tmp_path, QUIET)


def prompts(path: Path, n: int) -> str:
    rows = [g.to_json() for g in ReadingRoom(0).prompts("held-out", n)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return str(path)


def test_compare_writes_one_page(tmp_path: Path) -> None:
    """Two models and both baselines on the shipped base's own world; the page tells verdicts, and a second call reuses the answers."""
    examples = tmp_path / "e.jsonl"
    shown = ReadingRoom(0).demonstrations(20, quality=1.0)
    examples.write_text("".join(json.dumps(g.to_json()) + "\n" for g in shown), encoding="utf-8")
    job = Compare(
        models=("base=base", "again=base"),
        data=prompts(tmp_path / "p.jsonl", 6),
        out=str(tmp_path / "c"),
        max_tokens=8,
        examples=str(examples),
        shots=1,
        fact="behaviour",
        bias=2,
        turns=(1, 2),
        turn_prompts=2,
    )
    page = job.run(QUIET).read_text(encoding="utf-8")
    told = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert set(told["models"]) == {"base", "again", "base + examples", "base + facts"} and told["main"] == "gold"
    same = next(d for d in told["duels"] if (d["model"], d["other"]) == ("again", "base"))
    assert same["tie"] == 1.0 and "could not be told apart" in page
    assert {n for n, _ in told["by_turn"]["2"]} == {"base", "again"} and set(told["by_turn"]) == {"1", "2"}
    assert told["bias"]["base"]["bias/gender"]["n"] == 2 and not told["bias"]["base + examples"]
    for words in (
        "What was found",
        "Are readers answered alike",
        "turns asked: 2",
        "Capability",
        "Who wins",
        "parameters",
        "What was forgotten",
        "untrained baseline",
    ):
        assert words in page
    assert "<script" not in page
    stamp = (tmp_path / "c" / "models" / "base" / "rows.jsonl").stat().st_mtime_ns
    job.run(QUIET)
    assert (tmp_path / "c" / "models" / "base" / "rows.jsonl").stat().st_mtime_ns == stamp
    told["models"]["<b>evil</b>"] = told["models"].pop("again")
    for key in ("lines", "about", "points", "bias"):
        told[key]["<b>evil</b>"] = told[key].pop("again")
    assert "<b>evil" not in comparison_page(told)


def test_eval_pairs_with_an_earlier_one(tmp_path: Path) -> None:
    data = prompts(tmp_path / "p.jsonl", 10)
    fields = {"model": "base", "data": data, "max_tokens": 6, "logp": False}
    Evaluate(out=str(tmp_path / "a"), **fields).run(QUIET)
    Evaluate(out=str(tmp_path / "b"), against=str(tmp_path / "a"), **{**fields, "max_tokens": 9}).run(QUIET)
    body = json.loads((tmp_path / "b" / "eval.json").read_text())
    assert body["against"]["differences"]["length"]["estimate"] > 0
    assert body["model"]["layers"] == 5 and body["model"]["flops"] > 2 * 1_000_000


def test_harness_figures_join_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for lm_eval that writes a results file shows what is handed over and read back."""
    program = tmp_path / "lm_eval"
    program.write_text(
        "#!/usr/bin/env python3\nimport json, sys, pathlib\na = sys.argv\n"
        "out = pathlib.Path(a[a.index('--output_path') + 1]) / 'm'\nout.mkdir()\n"
        "task = a[a.index('--tasks') + 1]\nwhere = a[a.index('--include_path') + 1]\n"
        "body = {'results': {task: {'acc,none': 0.5, 'acc_stderr,none': 0.1, 'n,none': float(len(where))}}}\n"
        "(out / 'results_1.json').write_text(json.dumps(body))\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("POSTTRAIN_LM_EVAL", str(program))
    fields = {"model": "base", "data": prompts(tmp_path / "p.jsonl", 2), "max_tokens": 2, "logp": False}
    made = Evaluate(out=str(tmp_path / "a"), lm_eval=("rooms",), lm_eval_tasks="here", **fields).run(QUIET)
    assert made.metrics["lm_eval/rooms/acc"].estimate == 0.5 and made.metrics["lm_eval/rooms/n"].estimate == 4
    monkeypatch.setenv("POSTTRAIN_LM_EVAL", "")
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="not installed"):
        Evaluate(out=str(tmp_path / "b"), lm_eval=("rooms",), **fields).run(QUIET)


def test_baselines_show_others_never_the_row_itself() -> None:
    rows = [group(f"q{i}", f"a{i}", facts={"task": "t"}) for i in range(4)]
    made = with_examples(rows[0], rows, 2)
    said = [m.content for m in made.prompt]
    assert len(said) == 5 and said[-1] == "q0" and "a0" not in said and made.id == rows[0].id
    assert with_fact(group("q", facts={"gloss": "known"}), "gloss").prompt[-1].content == "known\n\nq"
    with pytest.raises(ValueError, match="has no 'gloss'"):
        with_fact(group("q"), "gloss")


def test_most_apart_comes_first() -> None:
    def rows(values: list[float]) -> list[dict]:
        return [
            {
                "id": str(i),
                "prompt": [{"content": f"q{i}"}],
                "answers": ["x"],
                "figures": {"gold": [v]},
                "references": [],
            }
            for i, v in enumerate(values)
        ]

    made = most_apart({"a": rows([0.0, 1.0, 0.5]), "b": rows([0.1, 0.0, 0.5])}, "gold")
    assert [m["id"] for m in made] == ["1", "0"]
