"""S8: no field without effect. Every field of every node is read by code, and changing it changes something that is not the recipe.

Static: the name is read as an attribute outside its own declaration, in the rooms that the node belongs to. Dynamic: a table says, per
field, a changed value and what to look at; a field without a row in the table fails the test (training: test_train_fields.py).
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from posttrain.core.method import Method
from posttrain.core.recipe import Spec
from posttrain.engine.optimizer import Optimizer
from posttrain.jobs.chat import Chat
from posttrain.jobs.check import Check
from posttrain.jobs.evaluate import Evaluate
from posttrain.jobs.job import Context, Data, Job, Selection
from posttrain.jobs.methods import Methods
from posttrain.jobs.pipeline import RunRecipe
from posttrain.jobs.sample import Sample
from posttrain.jobs.show import Show
from posttrain.models.adapters import Lora
from posttrain.objectives.links import Link
from tests.jobs.tiny_run import base, demos, pairs, reward_run

SOURCE = Path(__file__).parents[2] / "src" / "posttrain"
NODES: list[type[Spec]] = [
    *Job.members.values(),
    *Method.members.values(),
    *Link.members.values(),
    *(Optimizer, Lora, Data, Selection, Check, RunRecipe, Methods),
]


@cache
def reads() -> dict[str, set[str]]:
    """Attribute names that are loaded, with the files that load them."""
    found: dict[str, set[str]] = {}
    rooms = ("jobs", "methods", "objectives", "models", "engine")
    for file in (f for room in rooms for f in (SOURCE / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.setdefault(node.attr, set()).add(file.relative_to(SOURCE).as_posix())
    return found


def rooms_of(node: type[Spec]) -> tuple[str, ...]:
    """Where a node's fields may be read: its own file; for a job also the jobs' room."""
    own = node.__module__.removeprefix("posttrain.").replace(".", "/") + ".py"
    return (
        ("jobs/", own)
        if issubclass(node, Job) or node.__module__.startswith("posttrain.jobs")
        else (own, "jobs/", "models/", "engine/")
    )


@pytest.mark.parametrize("node", NODES, ids=lambda n: n.__name__)
def test_every_field_is_read(node: type[Spec]) -> None:
    wanted = set(node.model_fields)
    unread = [f for f in wanted if not any(file.startswith(rooms_of(node)) for file in reads().get(f, set()))]
    assert not unread, f"{node.__name__}: nothing reads {unread}"


# Sampling jobs: every field changes what is written


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fields")


def sampled(fields: dict[str, Any], out: Path) -> Any:
    made = Sample(**{**fields, "out": str(out / "s.jsonl")}).run(Context(bars=False))
    return made and made.read_text(encoding="utf-8")


def evaluated(fields: dict[str, Any], out: Path) -> Any:
    made = Evaluate(**{"out": str(out / "e"), **fields}).run(Context(bars=False))
    return [{k: r[k] for k in ("answers", "figures", "references")} for r in made.rows]


def shown(fields: dict[str, Any], out: Path) -> Any:
    return [
        g.to_json() | {"tokens": [[r.tokens.tolist(), r.trained.tolist()] for r in g.responses]}
        for g in Show(**fields).run(Context(bars=False))
    ]


Probe = Callable[[dict[str, Any], Path], Any]
PROBES: dict[type[Job], Probe] = {Sample: sampled, Evaluate: evaluated, Show: shown}
ELSEWHERE: dict[type[Job], dict[str, str]] = {
    Sample: {
        "device": "cpu and auto agree where there is no GPU",
        "out": "tests/jobs: where the file is",
        "thinking": "tests/jobs/test_distillation_jobs: traces kept, stripped or left",
        "workers": "tests/rollout/test_workers: processes are started, the bits stay",
    },
    Evaluate: {
        "device": "cpu and auto agree where there is no GPU",
        "workers": "tests/rollout/test_workers: processes are started, the bits stay",
        "out": "tests/jobs: where the files are",
        "against": "tests/evals/test_evaluation: paired differences in eval.json",
        "lm_eval": "tests/evals/test_soups_and_compare: figures of the harness",
        "lm_eval_tasks": "tests/evals/test_soups_and_compare: handed to the harness",
        "texts": "tests/evals/test_apart: likelihood of raw texts, source by source",
        "seen": "tests/evals/test_apart: figures by novelty",
        "ledger": "tests/evals/test_values: how often people put the model's answers first",
        "bias_margin": "tests/evals/test_values: in the verdicts of eval.json",
    },
    Show: {},
}


def changes(root: Path, tmp: Path) -> dict[type[Job], tuple[dict[str, Any], dict[str, Any]]]:
    """Per job: the fields to begin with, and for each field what else to set."""
    data, more = demos(tmp / "d.jsonl", 2), pairs(tmp / "p.jsonl", 3)
    reward = reward_run(root)
    drawn = {"model": base(root), "data": data, "n": 2, "max_tokens": 6, "temperature": 1.0, "seed": 1}
    sampling = {
        "model": {"model": qwen(root)},
        "data": {"data": more},
        "n": {"n": 3},
        "temperature": {"temperature": 0.0},
        "top_p": {"top_p": 0.05},
        "max_tokens": {"max_tokens": 3},
        "seed": {"seed": 2},
        "reward": {"reward": reward},
        "template": {"template": "chatml"},
    }
    talk = [
        {"role": r, "content": c} for r, c in (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    ]
    rows = tmp / "talk.jsonl"
    rows.write_text(
        "".join(
            json.dumps({"messages": [*talk, {"role": "user", "content": str(i)}, talk[1]]}) + "\n" for i in range(4)
        )
    )
    return {
        Sample: (drawn, {**sampling, "best": {"reward": reward, "best": 1}, "complete": {"complete": True}}),
        Evaluate: (drawn, {**sampling, "logp": {"logp": False}, "verify": {"verify": ["think"]}, "bias": {"bias": 1}}),
        Show: (
            {"model": base(root), "data": str(rows), "rows": 2},
            {
                "data": {"data": more},
                "model": {"model": qwen(root)},
                "rows": {"rows": 3},
                "skip": {"skip": 1},
                "mask": {"mask": "last"},
                "template": {"template": "chatml"},
                "max_tokens": {"max_tokens": 30},
            },
        ),
    }


@cache
def qwen(root: Path) -> str:
    from tests.models.tiny import tiny_directory

    return str(tiny_directory(root / "qwen", "qwen3", context=256))


@pytest.mark.parametrize("job", list(PROBES), ids=lambda j: j.__name__)
def test_every_field_changes_something(job: type[Job], root: Path, tmp_path: Path) -> None:
    start, table = changes(root, tmp_path)[job]
    untold = set(job.model_fields) - set(table) - set(ELSEWHERE[job])
    assert not untold, f"{job.__name__}: give {untold} a row here"
    first, again = (PROBES[job](start, fresh(tmp_path, n)) for n in ("first", "again"))
    assert first == again, "the probe itself must be deterministic"
    dead = [n for n, other in table.items() if PROBES[job]({**start, **other}, fresh(tmp_path, n)) == first]
    assert not dead, f"{job.__name__}: changing {dead} changed nothing"


def fresh(at: Path, name: str) -> Path:
    out = at / f"probe-{name}"
    out.mkdir()
    return out


def test_chat_fields_reach_the_request(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from posttrain.jobs import chat

    asked: list[Any] = []

    class Model:
        def stream(self, requests: Any) -> Any:
            asked.extend(requests)
            return iter(())

    told: list[Any] = []

    def answering(model: str, template: str | None, device: str) -> Any:
        told.append((model, template, device))
        loaded = type("L", (), {"notes": (), "template": type("T", (), {"name": "t"})()})()
        return loaded, None, Model()

    lines = iter(["hello", "/quit"])
    monkeypatch.setattr(chat, "answering", answering)
    monkeypatch.setattr(chat, "_ask", lambda: next(lines))
    fields = {
        "model": "m",
        "system": "s",
        "temperature": 0.3,
        "top_p": 0.4,
        "max_tokens": 5,
        "seed": 6,
        "template": "t",
        "device": "cpu",
    }
    assert set(fields) == set(Chat.model_fields)
    Chat(**fields).run(Context(bars=False))
    (request,) = asked
    assert told == [("m", "t", "cpu")]
    assert request.prompt[0].content == "s"
    assert (request.sampling.temperature, request.sampling.top_p, request.sampling.max_tokens, request.seed) == (
        0.3,
        0.4,
        5,
        6,
    )
