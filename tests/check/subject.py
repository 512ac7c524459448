"""A run that is about to start, small and clean: what the planted bugs of D, L and S are planted into."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from torch import nn

import posttrain.methods  # noqa: F401
from posttrain.core.finding import Finding
from posttrain.core.group import Group, Preference, group
from posttrain.core.method import Method
from posttrain.data.source import Offline
from posttrain.engine.local import LocalEngine
from posttrain.engine.optimizer import Optimizer
from posttrain.models.load import Loaded, load
from posttrain.models.render import Renderer
from posttrain.train.preflight import Subject, inspect
from tests.models.tiny import tiny_directory

WORDS = ("rain", "sun", "brown fox", "two plus two", "Paris", "a short answer", "the dog", "hello", "lazy", "write")


@cache
def _loaded() -> Loaded:
    return load(tiny_directory(Path(mkdtemp()) / "model", "smollm3", hidden=16), dtype="fp32", device="cpu")


def loaded() -> Loaded:
    """A tiny SmolLM3 with weights of its own."""
    once = _loaded()
    return replace(once, model=copy.deepcopy(once.model))


def pairs(count: int = 12) -> list[Group]:
    """Preference pairs of various lengths, none equal."""
    out = []
    for i in range(count):
        good, bad = " ".join(WORDS[: 1 + i % 5]), " ".join(WORDS[4 : 5 + i % 4])
        prompt = f"Question {i} {WORDS[i % len(WORDS)]}?"
        out.append(group(prompt, f"{good} {i}", f"{bad} {i}!", preferences=(Preference(0, 1),), facts={"id": f"r{i}"}))
    return out


def renderer(model: Loaded, max_tokens: int | None = None, overlong: Any = "stop") -> Renderer:
    return Renderer.of(model, "all", max_tokens, overlong)


def account(groups: Sequence[Group], rows: int | None = None, **dropped: int) -> dict[str, Any]:
    total = len(groups) + sum(dropped.values()) if rows is None else rows
    return {"name": "rows.jsonl", "rows": total, "kept": len(groups), "dropped": dropped, "truncated": 0}


def subject(
    method: str | Method = "dpo",
    rows: Sequence[Group] | None = None,
    held_out: Sequence[Group] = (),
    model: Loaded | None = None,
    heads: dict[str, nn.Module] | None = None,
    roles: dict[str, nn.Module] | None = None,
    read: Renderer | None = None,
    path: Any = None,
    engine_type: type[LocalEngine] = LocalEngine,
    job: dict[str, Any] | None = None,
) -> Subject:
    """Everything that a run has before step 1, around `rows` (pairs by default; sft imitates both answers)."""
    member = Method.of(method)
    model = model or loaded()
    read = read or renderer(model)
    done = [g for g in read.render_many(pairs() if rows is None else rows) if g is not None]
    kept = [g for g in read.render_many(held_out) if g is not None]
    torch.manual_seed(0)
    if heads is None and member.needs().score:
        heads = {"score": nn.Linear(16, 1, bias=False)}
    engine = engine_type(model.model, heads, roles, member.needs(), path=path)
    engine.optimize(Optimizer(warmup=0.0), 1e-3, 10)
    return Subject(
        job={"batch": 4, "threads": 1, "seed": 0, **(job or {})},
        method=member,
        loaded=model,
        renderer=read,
        engine=engine,
        parts=[(account(done, len(done) + len(kept)), done)],
        held_out=kept,
        inputs=[],
        source=lambda seed: Offline(done, 4, epochs=float("inf"), seed=seed),
    )


def fired(found: Sequence[Finding]) -> set[str]:
    """Ids that a user would have to do something about."""
    return {f.id for f in found if f.severity != "info"}


def fires(made: Subject) -> set[str]:
    return fired(inspect(made))
