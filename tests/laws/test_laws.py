"""Laws that every method meets because it exists, over the registry and fed by each method's `example`."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import posttrain.methods  # noqa: F401  (fills the registry)
from posttrain.core.batch import layout
from posttrain.core.group import Group
from posttrain.core.method import Method
from posttrain.core.needs import Output
from posttrain.train import checkpoint
from posttrain.train.loop import Tally, accumulate
from tests.laws.build import Stub, apart, engine_for, gradients, outputs, prepared

METHODS = sorted(Method.members)
FP32 = 1e-4
UNITS = ("token", "row", "group", "pair")


def made(name: str, **fields: object) -> Method:
    return Method.members[name](**fields)


SETTINGS = [made(n, **fields) for n in METHODS for fields in ({}, *made(n).example().variants)]
"""Every method at its defaults, and at the variants that its example names."""


def title(method: Method) -> str:
    changed = method.model_dump(mode="json", exclude_defaults=True)
    return "-".join([method.name, *(f"{k}={v}" for k, v in changed.items())]).replace(" ", "")


@pytest.fixture(params=SETTINGS, ids=title)
def method(request: pytest.FixtureRequest) -> Method:
    return made(request.param.name, **dict(request.param))  # a fresh one: methods remember


def test_registry_is_the_documented_table() -> None:
    """Every method of docs/methods.md exists and the other way round, and each gives an example with two anchors or more."""
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    documented = {line.split("[")[1].split("]")[0] for line in text.splitlines() if line.startswith("| [")}
    assert set(METHODS) == documented
    for name in METHODS:
        assert made(name).example().groups
        assert Method.members[name].wants


def test_split(method: Method) -> None:
    """k pieces give the gradient of one batch."""
    engine = engine_for(method)
    batch = prepared(engine, method, method.example().groups)
    whole = gradients(engine, method, batch)
    engine.token_budget = 1
    assert len(engine.plan(batch, method.atom)) > 1 or method.atom == "step"
    assert apart(whole, gradients(engine, method, batch)) < FP32


def test_side_by_side(method: Method) -> None:
    """Pieces on two hands give the gradient, the metrics and the scores of one, and the same bits each time."""
    engine = engine_for(method)
    batch = prepared(engine, method, method.example().groups)
    engine.token_budget = 1
    alone, together, again = Tally(), Tally(), Tally()
    one, said = gradients(engine, method, batch, alone), engine.score(batch, method.needs())
    engine.side_by_side(2)
    two = gradients(engine, method, batch, together)
    assert apart(one, two) < FP32
    third = gradients(engine, method, batch, again)
    assert all(torch.equal(third[n], two[n]) for n in two) and again == together
    assert together.counts == pytest.approx(alone.counts) and together.sums == pytest.approx(
        alone.sums, rel=1e-4, abs=1e-6
    )
    more = engine.score(batch, method.needs())
    for name in ("logp", "score", "value", "labels", "entropy"):
        before, after = getattr(said, name), getattr(more, name)
        assert (before is None) == (after is None) and (before is None or torch.equal(before, after))


def test_share(method: Method) -> None:
    """The prompt computed once equals the prompt computed for each response, padded."""
    shared, dense = engine_for(method, path="shared"), engine_for(method, path="dense")
    groups = method.example().groups
    one, two = prepared(shared, method, groups), prepared(dense, method, groups)
    assert apart(gradients(shared, method, one), gradients(dense, method, two)) < FP32


def test_padding_changes_nothing(method: Method) -> None:
    """A longer neighbour pads the dense rows: neither what preparation reads nor the gradient sees it."""
    engine = engine_for(method, path="dense")
    groups = method.arrange(method.example().groups)
    raw = engine.layout(groups)
    needs = method.needs()
    if needs.at_ids:  # which ids is known after preparation only; the target's own log-prob stands for them
        needs = replace(needs, at_ids=None, logp=True)
    alone = Output.concat([engine.score(engine.layout([g]), needs) for g in groups])
    beside = engine.score(raw, needs)
    for name in Output.__slots__:
        if name != "heads" and getattr(alone, name) is not None:
            assert torch.allclose(getattr(alone, name), getattr(beside, name), atol=1e-5), name
    both = method.prepare(raw, engine)
    if method.atom == "step":
        return
    total = engine.total(both.counts)
    summed: dict[str, torch.Tensor] = {}
    for part in [both.groups([g]) for g in range(both.G)]:
        engine.backward(method.loss(engine.forward(part, method.needs()), part).over(total, method.sums))
    for name, parameter in engine.named_parameters().items():
        summed[name] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        parameter.grad = None
    assert apart(gradients(engine, method, both), summed) < FP32


def test_order(method: Method) -> None:
    """The order of groups changes nothing; nor does that of responses where the method is symmetric."""
    engine = engine_for(method)
    groups = method.example().groups
    straight = gradients(engine, method, prepared(engine, method, groups))
    turned = gradients(engine, method, prepared(engine, method, list(reversed(groups))))
    assert apart(straight, turned) < FP32
    if method.symmetric:
        flipped = [_flip(g) for g in groups]
        assert apart(straight, gradients(engine, method, prepared(engine, method, flipped))) < FP32


def _flip(group: Group) -> Group:
    last = len(group.responses) - 1
    turned = tuple(p._replace(i=last - p.i, j=last - p.j) for p in group.preferences)
    ranking = group.ranking and tuple(tuple(last - i for i in tier) for tier in group.ranking)
    return replace(group, responses=tuple(reversed(group.responses)), preferences=turned, ranking=ranking)


def test_mask(method: Method) -> None:
    """Untrained tokens get exactly zero gradient: the loss does not depend on what stands at the end of a response untrained."""
    engine = engine_for(method)
    groups = method.example().groups
    changed = []
    for item in groups:
        answers = []
        for r in item.responses:
            assert r.tokens is not None and r.trained is not None
            tail = np.asarray([5, 7, 9])
            offsets = r.offsets if r.offsets is None else np.concatenate([r.offsets, np.zeros((3, 2), dtype=int)])
            longer = {"tokens": np.concatenate([r.tokens, tail]), "trained": np.concatenate([r.trained, [0, 0, 0]])}
            answers.append(replace(r, **longer, offsets=offsets))
        changed.append(replace(item, responses=tuple(answers)))
    a = gradients(engine, method, prepared(engine, method, groups))
    b = gradients(engine, method, prepared(engine, method, changed))
    assert apart(a, b) < 1e-5


def test_still(method: Method) -> None:
    """`prepare` leaves no graph."""
    engine = engine_for(method)
    batch = prepared(engine, method, method.example().groups)
    assert all(not v.requires_grad and v.grad_fn is None for v in batch.data.values())
    assert all(p.grad is None for p in engine.named_parameters().values())


def test_moves(method: Method) -> None:
    """Every trainable tensor that the method uses gets a gradient that is not zero."""
    engine = engine_for(method)
    got = gradients(engine, method, prepared(engine, method, method.example().groups))
    unused = {"lm_head.weight"} if not method.needs().head_rows else set()
    assert {n for n, g in got.items() if not bool((g != 0).any())} <= unused


@pytest.mark.parametrize(("name", "anchor"), [(n, a) for n in METHODS for a in made(n).example().anchors])
def test_anchor(name: str, anchor: str) -> None:
    """Known values hold, in float64."""
    example = made(name).example()
    known = example.anchors[anchor]
    method = Method.members[name](**known.fields)
    outputs = {k: torch.tensor(v, dtype=torch.float64) for k, v in known.outputs.items()}
    batch = layout(example.groups)
    first = next(iter(known.outputs))
    size = len(known.outputs[first])
    batch = next(
        b
        for b in (batch, *(batch.groups([g]) for g in range(batch.G)))
        if size == (b.R if first in ("score", "pooled") else b.N)
    )
    data = {k: torch.tensor(v, dtype=torch.float64) for k, v in known.data.items()}
    unit = {k: batch.unit.get(k) or next(u for u in UNITS if batch.size(u) == len(v)) for k, v in data.items()}
    batch = replace(batch, data={**batch.data, **data}, unit={**batch.unit, **unit})
    sums = method.loss(Output(**outputs), batch).sums
    for key, value in known.expected.items():
        assert float(sums[key]) == pytest.approx(value, rel=2e-6, abs=1e-9), anchor


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_two_anchors(name: str) -> None:
    assert len(made(name).example().anchors) >= (1 if name == "lm" else 2)


DIFFERENTIABLE = [m for m in SETTINGS if not m.needs().log_sum_sq and m.name != "dft"]
"""Weights taken from the policy itself (WPO, DFT) are constants of the gradient but not of the loss; tests of their own hold them."""


@pytest.mark.parametrize("setting", DIFFERENTIABLE, ids=title)
def test_float64_gradcheck(setting: Method) -> None:
    """The loss's own derivative, against finite differences in float64."""
    method = made(setting.name, **dict(setting))
    batch = method.batch(method.example().groups, Stub())  # type: ignore[arg-type]
    given = outputs(method.needs(), batch, sum(map(ord, "policy")))
    wanted = [n for n in Output.__slots__ if n != "heads" and getattr(given, n) is not None]
    inputs = [getattr(given, n).requires_grad_() for n in wanted]

    def loss(*values: torch.Tensor) -> torch.Tensor:
        made = method.loss(Output(**dict(zip(wanted, values))), batch)
        return made.over(dict.fromkeys(method.sums.values(), 3.0), method.sums)

    assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-6)


def test_resume(method: Method) -> None:
    """k steps + save + load + k steps = 2k steps, bitwise."""
    groups = method.example().groups

    def steps(engine: object, method: Method, count: int) -> None:
        for _ in range(count):
            accumulate(engine, method, prepared(engine, method, groups))  # type: ignore[arg-type]
            method.after(engine.done + 1, engine.step(), engine)  # type: ignore[attr-defined, arg-type]

    straight = engine_for(method)
    steps(straight, method, 6)
    first, fresh = engine_for(method), made(method.name, **dict(method))
    steps(first, fresh, 3)
    state = checkpoint.join(*checkpoint.split({"engine": first.state(), "method": fresh.state()}))
    second, other = engine_for(method, seed=0), made(method.name, **dict(method))
    second.load(state["engine"])
    other.load(state["method"])
    steps(second, other, 3)
    for name, value in straight.named_parameters().items():
        assert torch.equal(value, second.named_parameters()[name]), name


def test_first_loss_is_the_anchor_at_reference() -> None:
    """DPO at policy = reference is log 2, through model, layout and head."""
    method = made("dpo")
    engine = engine_for(method, apart=False)
    batch = prepared(engine, method, method.example().groups)
    loss = method.loss(engine.forward(batch, method.needs()), batch).over(batch.counts, method.sums)
    assert float(loss.detach()) == pytest.approx(math.log(2), rel=1e-6)
