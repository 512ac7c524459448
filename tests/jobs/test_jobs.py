"""Show, Sample, Chat, Evaluate, Check, Report and Methods on a tiny model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posttrain.core.group import Preference, answer, group
from posttrain.core.protocols import Event, Sampling
from posttrain.data.read import read
from posttrain.evals.row_figures import fold
from posttrain.jobs.chat import Talk
from posttrain.jobs.check import Check
from posttrain.jobs.evaluate import Evaluate, references, summary
from posttrain.jobs.job import Context
from posttrain.jobs.methods import Methods, rows
from posttrain.jobs.report import Report
from posttrain.jobs.sample import Sample, answering, keep_best
from posttrain.jobs.scoring import ModelReward
from posttrain.jobs.show import CLOSE, OPEN, Show
from tests.jobs.tiny_run import base, demos, pairs, reward_run, rows_file


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture
def quiet() -> Context:
    return Context(bars=False)


def test_show_brackets_what_is_trained(root: Path, tmp_path: Path, quiet: Context, capsys: Any) -> None:
    data = rows_file(tmp_path / "d.jsonl", [{"prompt": "[red]a\x1b[31m?", "completion": "yes"}] * 4)
    shown = Show(data=data, model=base(root), rows=2).run(quiet)
    out = capsys.readouterr().out
    assert len(shown) == 2
    assert out.count(OPEN) == 2
    assert f"{OPEN}yes<|eot_id|>{CLOSE}" in out
    assert "[red]a" in out
    assert "\x1b" not in out
    trained = shown[0].responses[0].trained
    assert trained is not None
    assert f"answer 1: {int(np.sum(trained))} of {len(trained)} tokens trained" in out
    with pytest.raises(ValueError, match="skip: 9 passes over every row"):
        Show(data=data, model=base(root), skip=9).run(quiet)


def test_sample_writes_rows_that_are_read_again_and_reuses_them(root: Path, tmp_path: Path, quiet: Context) -> None:
    out = tmp_path / "s.jsonl"
    job = Sample(model=base(root), data=demos(tmp_path / "d.jsonl", 3), out=str(out), n=2, max_tokens=4, seed=1)
    job.run(quiet)
    first = out.read_bytes()
    again = read(out)
    assert [len(g.responses) for g in again.groups] == [2, 2, 2]
    assert again.groups[0].prompt_text == "What is 0 + 1?"
    before = out.stat().st_mtime_ns
    job.run(quiet)
    assert out.stat().st_mtime_ns == before, "a finished file of the same recipe is reused"
    job.changed(seed=2).run(quiet)
    assert out.read_bytes() != first
    job.run(quiet)
    assert out.read_bytes() == first, "the seed decides"
    out.write_text("edited")
    job.run(quiet)
    assert out.read_bytes() == first, "an edited file is made again"


def test_sample_keeps_the_best_by_a_reward_run(root: Path, tmp_path: Path, quiet: Context, capsys: Any) -> None:
    data, reward = demos(tmp_path / "d.jsonl", 2), reward_run(root)
    fields = {"model": base(root), "data": data, "n": 4, "max_tokens": 4, "reward": reward}
    assert Sample(**fields).run(quiet) is None
    every = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    Sample(**fields, best=2).run(quiet)
    best = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for all_of, kept in zip(every, best, strict=True):
        values = sorted((r["score"]["value"] for r in all_of["responses"]), reverse=True)
        assert len(set(values)) > 1
        assert [r["score"]["value"] for r in kept["responses"]] == pytest.approx(values[:2], abs=1e-5)
    with pytest.raises(ValueError, match="best needs `reward`"):
        Sample(model="m", data="d", best=1)
    with pytest.raises(ValueError, match="no score head"):
        ModelReward(base(root))


def test_a_reward_run_scores_each_answer_alone(root: Path) -> None:
    reward = ModelReward(reward_run(root))
    both = reward([group("a question", "one", "another answer")])[0]
    alone = [reward([group("a question", text)])[0][0] for text in ("one", "another answer")]
    assert [s.value for s in both] == pytest.approx([s.value for s in alone], abs=1e-5)
    kept = keep_best([group("a question", "one", "another answer")], reward, 1)[0]
    assert kept.responses[0].score is not None
    assert kept.responses[0].score.value == pytest.approx(max(s.value for s in both if s.value is not None), abs=1e-5)


class Echo:
    """A Model that repeats what it heard."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def stream(self, requests: Any) -> Iterator[Event]:
        (request,) = requests
        if "refuse" in request.prompt[-1].content:
            raise ValueError("too long")
        self.asked.append(request)
        for piece in (request.prompt[-1].content, "\x1b[2J", "!"):
            yield Event("0", 0, text=piece, stop="stop" if piece == "!" else None)


def test_chat_commands_and_history(capsys: Any) -> None:
    said: list[str] = []
    model = Echo()
    talk = Talk(model, Sampling(temperature=0.5, top_p=0.9, max_tokens=7), 3, said.append)
    assert talk.hear("/system be brief")
    assert talk.hear("hello")
    assert talk.hear("/temperature 0.1")
    assert talk.hear("more")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "hello" in out
    assert [t.role for t in model.asked[1].prompt] == ["system", "user", "assistant", "user"]
    assert model.asked[1].sampling == Sampling(temperature=0.1, top_p=0.9, max_tokens=7)
    assert talk.hear("please refuse")
    assert said[-1] == "too long"
    assert talk.turns[-1].role == "assistant"
    assert talk.hear("/temperature warm")
    assert "takes a number" in said[-1]
    assert talk.hear("/nonsense")
    assert "unknown command /nonsense" in said[-1]
    assert talk.hear("/reset")
    assert [t.content for t in talk.turns] == ["be brief"]
    assert not talk.hear("/quit")


def test_eval_measures_and_reuses(root: Path, tmp_path: Path, quiet: Context) -> None:
    data = demos(tmp_path / "d.jsonl", 12)
    job = Evaluate(model=base(root), data=data, out=str(tmp_path / "e"), max_tokens=3, reward=reward_run(root))
    made = job.run(quiet)
    assert {"exact_match", "chrf", "brier", "reward", "logp", "length"} <= set(made.metrics)
    body = json.loads((tmp_path / "e" / "eval.json").read_text())
    assert body["metrics"]["logp"]["low"] < body["metrics"]["logp"]["estimate"] < 0
    assert body["metrics"]["exact_match"]["n"] == 12
    _, renderer, sampler = answering(base(root), None, "cpu")
    rendered = renderer.render(group("What is 0 + 1?", "1"))
    assert rendered is not None
    assert made.rows[0]["figures"]["logp"][0] == pytest.approx(float(sampler.logp([rendered])[0][0].mean()), abs=1e-4)
    stamp = (tmp_path / "e" / "rows.jsonl").stat().st_mtime_ns
    again = job.run(quiet)
    assert (tmp_path / "e" / "rows.jsonl").stat().st_mtime_ns == stamp
    assert {k: v.estimate for k, v in again.metrics.items()} == {k: v.estimate for k, v in made.metrics.items()}
    asked = rows_file(tmp_path / "p.jsonl", [{"prompt": "hi"}] * 2)
    with pytest.raises(ValueError, match="nothing to measure"):
        Evaluate(model=base(root), data=asked, out=str(tmp_path / "f"), max_tokens=2).run(quiet)


def test_references_and_what_counts_as_one_prompt() -> None:
    assert references(group("q", "good", "bad", preferences=(Preference(0, 1),))) == ["good"]
    assert references(group("q", "bad", "good", preferences=(Preference(0, 1, p=0.0),))) == ["good"]
    assert references(group("q", "a", "b", preferences=(Preference(0, 1, both_bad=True),))) == []
    assert references(group("q", answer("no", label=False))) == []
    assert fold(" a\n b ") == "a b"
    made = [{"prompt_hash": str(i // 2), "figures": {"x": [float(i % 2), None]}} for i in range(40)]
    assert summary(made)["x"].n == 20
    assert summary(made)["x"].estimate == 0.5


def test_check_says_what_would_stop_and_trains_nothing(root: Path, tmp_path: Path, capsys: Any) -> None:
    recipe = tmp_path / "r.yaml"
    good = {
        "method": "sft",
        "model": base(root),
        "data": demos(tmp_path / "d.jsonl"),
        "batch": 4,
        "steps": 2,
        "seed": 0,
    }
    later = {"method": "dpo", "model": "$sft", "data": pairs(tmp_path / "p.jsonl")}
    recipe.write_text(json.dumps({"out": str(tmp_path / "runs"), "jobs": {"sft": good, "dpo": later}}))
    verdict = Check(recipe=str(recipe)).run(Context(bars=False))
    told = capsys.readouterr().err
    assert verdict.exit_code == 0, told
    assert "dpo: the recipe is well formed; it waits for sft" in told
    assert not (tmp_path / "runs" / "sft" / "model").exists()
    assert not (tmp_path / "runs" / "sft" / "recipe.yaml").exists()
    wrong = {
        **good,
        "data": rows_file(tmp_path / "w.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "b" * 900}] * 3),
    }
    recipe.write_text(json.dumps({"out": str(tmp_path / "runs2"), "jobs": {"sft": wrong}}))
    verdict = Check(recipe=str(recipe)).run(Context(bars=False))
    assert verdict.exit_code == 1
    assert "would stop this recipe" in capsys.readouterr().err


def test_report_and_methods(tmp_path: Path, capsys: Any, quiet: Context) -> None:
    with pytest.raises(ValueError, match="no run directory"):
        Report(directory=str(tmp_path)).run(quiet)
    (tmp_path / "recipe.yaml").write_text("job: train\n")
    assert Report(directory=str(tmp_path)).run(quiet).read_text().startswith("<!doctype html>")
    Methods().run(quiet)
    text = capsys.readouterr().out
    assert all(r.name in text for r in rows())
    Methods(method="dpo").run(quiet)
    text = capsys.readouterr().out
    assert "beta" in text
    assert "2305.18290" in text
    with pytest.raises(ValueError, match="did you mean `dpo`"):
        Methods(method="dpoo").run(quiet)


def test_a_reference_among_the_facts_is_a_right_answer() -> None:
    assert references(group("2 + 2?", facts={"answer": 4})) == ["4"]
    assert references(group("2 + 2?", "four", facts={"answer": 4})) == ["four"]
    assert references(group("2 + 2?")) == []


def test_a_place_that_cannot_be_written_is_told_before_any_work(tmp_path: Path) -> None:
    """The model is not there either: nothing was loaded when the refusal came."""
    data = demos(tmp_path / "d.jsonl", 2)
    (tmp_path / "file").write_text("")
    for out, match in (
        (tmp_path / "file" / "s.jsonl", "file is a file, and a directory is needed"),
        (tmp_path, "is a directory; name a file"),
    ):
        with pytest.raises(ValueError, match=match):
            Sample(model="no/model/here", data=data, out=str(out)).run()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"against: .* holds no eval \(eval.json\)"):
        Evaluate(model="no/model/here", data=data, out=str(tmp_path / "e"), against=str(tmp_path)).run()  # type: ignore[arg-type]


def test_a_field_of_two_kinds_gives_one_line() -> None:
    from posttrain.core.recipe import RecipeError, build_spec

    with pytest.raises(RecipeError) as told:
        build_spec(Sample, {"model": "m", "data": "d.jsonl", "workers": 0})
    assert str(told.value) == "workers: Input should be 'auto' or greater than 0 (got 0)"


def test_no_rows_have_no_duplicates() -> None:
    from posttrain.data.dedup import deduplicate

    assert deduplicate([]).duplicates == []


def test_a_disk_that_fills_under_a_model_is_an_error_of_the_system(tmp_path: Path) -> None:
    """safetensors has an error class of its own for it; the command line prints one line for OSError alone."""
    from safetensors import SafetensorError

    from posttrain.core.files import whole_directory

    with (
        pytest.raises(OSError, match=r"model could not be written \(No space left"),
        whole_directory(tmp_path / "model") as beside,
    ):
        (beside / "part").write_text("x")
        raise SafetensorError("No space left on device")
    assert list(tmp_path.iterdir()) == []
