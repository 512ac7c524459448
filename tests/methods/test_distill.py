"""Distillation: the divergences against float64 lines of their own, the bucket of the rest, and a student that nears its teacher."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from posttrain.core.needs import EVERY, Needs
from posttrain.core.recipe import RecipeError
from posttrain.data.source import Offline
from posttrain.jobs.catalogue import build_job
from posttrain.jobs.job import Context
from posttrain.methods.distill import Distill, Match, lessons, with_rest
from posttrain.train.loop import train
from tests.jobs.tiny_run import demos
from tests.laws.build import engine_for
from tests.models.tiny import tiny_directory


def quiet() -> Context:
    return Context(Console(file=io.StringIO(), width=200), bars=False)


def distributions(rows: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(5)
    q, p = (torch.from_numpy(rng.normal(0, 2, (rows, width))).log_softmax(-1) for _ in range(2))
    return q, p


def test_divergences_against_lines_of_probabilities() -> None:
    q, p = distributions(4, 9)
    a, b = q.exp().numpy(), p.exp().numpy()
    m = 0.3 * a + 0.7 * b
    wanted = {
        "forward_kl": (a * np.log(a / b)).sum(-1),
        "reverse_kl": (b * np.log(b / a)).sum(-1),
        "jsd": 0.3 * (a * np.log(a / m)).sum(-1) + 0.7 * (b * np.log(b / m)).sum(-1),
    }
    for name, value in wanted.items():
        made = Match.of({"name": name, **({"b": 0.3} if name == "jsd" else {})})
        assert np.allclose(made(q, p).numpy(), value, atol=1e-12), name


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "jsd"])
def test_k_likeliest_and_the_rest_bound_the_whole_from_below(name: str) -> None:
    """Merging outcomes loses information and nothing else: the bound grows with k, and is the whole at k = V."""
    q, p = distributions(6, 12)
    match = Match.of(name)
    order = q.argsort(-1, descending=True)
    whole, last = match(q, p), torch.zeros(6, dtype=torch.float64)
    for k in (1, 3, 6, 11):
        ids = order[:, :k]
        part = match(with_rest(q.gather(-1, ids)), with_rest(p.gather(-1, ids)))
        assert bool((part >= last - 1e-12).all()) and bool((part <= whole + 1e-12).all())
        last = part
    assert torch.allclose(last, whole, atol=1e-12)


def test_the_engine_tells_the_likeliest_tokens_and_the_student_learns_them() -> None:
    method = Distill(k=8)
    engine = engine_for(method)
    batch = engine.layout(lessons())
    every = engine.score(batch, Needs(topk=EVERY), "teacher")
    best = engine.score(batch, Needs(topk=3), "teacher")
    assert every.topk_logp is not None and best.topk_logp is not None and every.topk_ids is not None
    assert torch.equal(every.topk_ids[0], torch.arange(64))
    assert torch.equal(every.topk_logp.sort(-1, descending=True).values[:, :3], best.topk_logp)
    steps = list(train(engine, method, Offline(lessons(), 2, epochs=float("inf"), shuffle=False), 40))
    assert steps[-1].metrics["match"] < 0.1 * steps[0].metrics["match"]


def test_the_job_reads_its_teacher_and_says_what_it_kept(tmp_path: Path) -> None:
    student, teacher = (
        str(tiny_directory(tmp_path / n, "llama", context=256, seed=s)) for n, s in (("s", 0), ("t", 1))
    )
    recipe = {
        "job": "train",
        "method": {"name": "distill", "k": 16},
        "model": student,
        "teacher": teacher,
        "data": demos(tmp_path / "d.jsonl"),
        "out": str(tmp_path / "run"),
        "steps": 6,
        "batch": 4,
        "samples": 0,
        "dtype": "fp32",
        "log_to": [],
        "preflight": "off",
        "optimizer": {"lr": 0.01, "schedule": "constant", "warmup": 0.0},
    }
    run = build_job(recipe).run(quiet())
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert lines[-1]["match"] < lines[0]["match"]
    manifest = json.loads(run.manifest.read_text())
    assert manifest["kept_scores"] == {"hits": 12, "misses": 12}
    assert [i["name"] for i in manifest["inputs"]] == ["model", "teacher", "data"]


def test_a_teacher_is_asked_for_where_it_is_needed_and_only_there(tmp_path: Path) -> None:
    usual = {"job": "train", "model": "m", "data": "d.jsonl", "out": "o"}
    with pytest.raises(RecipeError, match="teacher: distill needs one"):
        build_job({**usual, "method": "distill"})
    with pytest.raises(RecipeError, match="teacher: sft has no use for one"):
        build_job({**usual, "method": "sft", "teacher": "t"})


def test_another_vocabulary_is_refused_in_one_line(tmp_path: Path) -> None:
    student = str(tiny_directory(tmp_path / "s", "llama", context=256))
    job = build_job(
        {
            "job": "train",
            "method": "distill",
            "model": student,
            "teacher": "base",
            "data": demos(tmp_path / "d.jsonl"),
            "out": str(tmp_path / "run"),
        }
    )
    with pytest.raises(ValueError, match="has another vocabulary") as error:
        job.run(quiet())
    assert "\n" not in str(error.value)
