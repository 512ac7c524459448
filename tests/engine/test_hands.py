"""Pieces side by side: one set of weights, gradients that meet, errors that are heard, and a cut that keeps both hands busy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import posttrain.methods  # noqa: F401  (fills the registry)
from posttrain.core.batch import Batch
from posttrain.core.group import Group, Response
from posttrain.core.method import Method
from posttrain.core.needs import Needs
from posttrain.engine import pieces
from posttrain.engine.hands import shares
from posttrain.engine.local import LocalEngine
from posttrain.jobs import threads
from posttrain.models.recompute import recompute_blocks
from posttrain.train import state_checks
from posttrain.train.loop import accumulate, learn
from tests.laws.build import apart, engine_for, gradients, tiny_model


def groups(lengths: list[tuple[int, ...]], seed: int = 0) -> list[Group]:
    """A prompt of each first length with answers of the others, all tokens trained."""
    draw = np.random.default_rng(seed)

    def ids(n: int) -> np.ndarray:
        return draw.integers(3, 64, n)

    return [
        Group(
            (), tuple(Response(tokens=ids(n), trained=np.ones(n, dtype=bool)) for n in rest), prompt_tokens=ids(first)
        )
        for first, *rest in lengths
    ]


LONG = groups([(40, 30), (20, 60), (50, 10), (30, 30), (10, 70), (60, 40), (25, 25), (44, 44)])


@pytest.fixture
def engine() -> LocalEngine:
    made = engine_for(Method.of("sft"), path="shared")
    made.token_budget = 200
    return made


def test_a_twin_holds_no_weights_of_its_own(engine: LocalEngine) -> None:
    engine.side_by_side(2)
    assert engine.hands is not None
    _, other = engine.hands.engines
    theirs, before = other.named_parameters(), engine.model.model.layers[0].mlp.up_proj.weight[0, 0].item()  # type: ignore[union-attr, index]
    for name, own in engine.named_parameters().items():
        assert own is not theirs[name] and own.data_ptr() == theirs[name].data_ptr()
    learn(engine, Method.of("sft"), LONG, 1)
    after = other.model.model.layers[0].mlp.up_proj.weight[0, 0].item()  # type: ignore[union-attr, index]
    assert after != before and all(p.grad is None for p in theirs.values())


def test_steps_are_those_of_one_hand(engine: LocalEngine) -> None:
    alone = engine_for(Method.of("sft"), path="shared")
    engine.side_by_side(2)
    for number in range(1, 4):
        one, two = (learn(e, Method.of("sft"), LONG, number) for e in (alone, engine))
        assert two.metrics == pytest.approx(one.metrics, rel=1e-4)
    assert engine.flops == pytest.approx(alone.flops)
    own, theirs = engine.named_parameters(), alone.named_parameters()
    assert apart({n: p.detach() for n, p in own.items()}, {n: p.detach() for n, p in theirs.items()}) < 1e-4


def test_a_gradient_that_does_not_meet_is_seen(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug that this could bring, planted: half of the rows would teach nothing, and the curve would look normal."""
    batch = engine.layout(LONG)
    right = gradients(engine, Method.of("sft"), batch)
    engine.side_by_side(2)
    assert apart(right, gradients(engine, Method.of("sft"), batch)) < 1e-4
    monkeypatch.setattr("posttrain.engine.hands.Hands._gather", lambda _: None)
    assert apart(right, gradients(engine, Method.of("sft"), batch)) > 0.1


def test_an_adapter_is_off_in_the_reference_alone() -> None:
    """Both hands score policy and reference: the switch of one must not reach the other."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny_model(), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    made = LocalEngine(model, token_budget=120, path="shared")
    batch = made.layout(LONG)
    said = {role: made.score(batch, Needs(logp=True), role).logp for role in ("policy", "reference")}
    made.side_by_side(2)
    for _ in range(5):
        for role, logp in said.items():
            again = made.score(batch, Needs(logp=True), role).logp
            assert logp is not None and again is not None and torch.allclose(logp, again, atol=1e-6)
    assert not torch.allclose(said["policy"], said["reference"], atol=1e-3)  # type: ignore[arg-type]


def test_an_error_of_a_hand_is_heard(engine: LocalEngine) -> None:
    engine.side_by_side(2)
    cut = engine.plan(engine.layout(LONG), "row", ordered=False)

    def work(hand: LocalEngine, piece: Batch) -> None:
        raise ZeroDivisionError(f"{piece.T}") if piece is cut[-1] else ValueError("first")

    with pytest.raises((ZeroDivisionError, ValueError)):
        engine.each(cut, work)


def test_a_failed_step_leaves_nothing_with_a_twin(engine: LocalEngine) -> None:
    """What a hand had added before another failed must not reach the step after it."""
    engine.side_by_side(2)
    assert engine.hands is not None
    cut = engine.plan(engine.layout(LONG), "row", ordered=False)

    def work(hand: LocalEngine, piece: Batch) -> None:
        assert engine.hands is not None
        if hand is engine.hands.engines[0]:
            raise FloatingPointError("planted")
        logp = hand.forward(piece, Needs(logp=True)).logp
        assert logp is not None
        hand.backward(logp.sum())

    with pytest.raises(FloatingPointError):
        engine.each(cut, work)
    assert all(p.grad is None for p in engine.hands.engines[1].named_parameters().values())


def test_blocks_that_compute_themselves_again_have_one_engine(engine: LocalEngine) -> None:
    recompute_blocks(engine.model)
    with pytest.raises(ValueError, match="computed again"):
        engine.side_by_side(2)
    assert engine.hands is None


def test_pieces_are_spread_evenly(engine: LocalEngine) -> None:
    engine.side_by_side(2)
    engine.token_budget = 170
    batch = engine.layout(LONG)
    cut = engine.plan(batch, "row", ordered=False)
    assert len(cut) == 4 and sum(p.R for p in cut) == batch.R and max(p.T for p in cut) <= 170
    hands = shares(cut, 2)
    loads = [sum(cut[i].T for i in mine) for mine in hands]
    assert sorted(i for mine in hands for i in mine) == list(range(4)) and max(loads) <= 1.05 * min(loads)
    assert sum(int(p.counts["token"]) for p in cut) == batch.counts["token"]
    in_order = engine.plan(batch, "row")
    assert torch.equal(torch.cat([p.target for p in in_order]), batch.target)


def test_a_group_too_large_is_cut_in_order() -> None:
    batch = engine_for(Method.of("sft"), path="shared").layout(groups([(100, 100, 100), (10, 10)]))
    assert pieces.spread(batch, 250, 2) is None
    cut = pieces.in_order(batch, "row", 250, 2)
    assert [p.R for p in cut] == [1, 1, 1] and max(p.T for p in cut) <= 250


def test_the_choice_is_measured_once_and_remembered(
    engine: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "cores", lambda: 2)
    before = torch.get_num_threads()
    seen: list[tuple[int, int]] = []

    def counted(made: LocalEngine, method: Method, batch: Batch) -> None:
        seen.append((torch.get_num_threads(), 1 if made.hands is None else made.hands.count))
        accumulate(made, method, batch)

    monkeypatch.setattr(threads, "accumulate", counted)
    try:
        first = threads.choose_threads(engine, Method.of("sft"), LONG, None, tmp_path)
        assert {(1, 1), (2, 1), (2, 2)} == set(seen) and len(first["seconds"]) == 3
        told: dict[str, Any] = json.loads((tmp_path / "threads.json").read_text())
        (tmp_path / "threads.json").write_text(json.dumps({**told, "threads": 2, "share": threads.WAYS[True]}))
        seen.clear()
        again = threads.choose_threads(engine, Method.of("sft"), LONG, None, tmp_path)
        assert not seen and again["threads"] == 2 and engine.hands is not None and torch.get_num_threads() == 2
        given = threads.choose_threads(engine, Method.of("sft"), LONG, 1, tmp_path)
        assert given["threads"] == 1 and engine.hands is None and torch.get_num_threads() == 1
        assert all(p.grad is None for p in engine.named_parameters().values())
    finally:
        torch.set_num_threads(before)


def test_no_memory_for_a_second_hand(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    one, before, ways = sum(state_checks.estimate(engine, LONG, 8).values()), torch.get_num_threads(), {}
    for free in (1.5 * one, 4 * one):
        monkeypatch.setattr(state_checks, "free_bytes", lambda _, free=free: free)
        ways[free] = set(threads.measured(engine, Method.of("sft"), LONG, {1, 2})["seconds"])
    torch.set_num_threads(before)
    few, many = ways.values()
    assert many - few == {"2, pieces side by side"} and len(few) == 2


def test_noted_once(engine: LocalEngine) -> None:
    """The path is decided by the first engine, before the hands begin."""
    made = LocalEngine(tiny_model(), token_budget=100)
    made.side_by_side(2)
    batch = replace(made.layout(LONG))
    made.score(batch, Needs(logp=True))
    assert made.path == "shared" and len(made.notes) == 1
