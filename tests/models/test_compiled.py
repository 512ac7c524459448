"""Compiled blocks: the same numbers and names, taken only where right and faster, undone without a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from posttrain.core.batch import layout
from posttrain.engine import fastest
from posttrain.models import compiled
from posttrain.models.trunk import shared_hidden
from tests.models.test_kernels import ticks
from tests.models.test_shared_prefix import ragged
from tests.models.tiny import tiny


@pytest.fixture(autouse=True)
def dynamo_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    yield
    torch.compiler.reset()


def gradients(model: Any) -> list[torch.Tensor]:
    batch = layout(ragged())
    states = shared_hidden(model, batch, batch.source)
    return [
        states.detach(),
        *torch.autograd.grad(states.square().mean(), list(model.parameters()), allow_unused=True),
    ]


def test_numbers_and_names_stay() -> None:
    model, _ = tiny("llama", seed=1)
    names, plain = list(dict(model.named_parameters())), gradients(model)
    assert compiled.compile_blocks(model) == model.config.num_hidden_layers
    made = gradients(model)
    assert list(dict(model.named_parameters())) == names
    assert all((a is None and b is None) or torch.allclose(a, b, atol=1e-6) for a, b in zip(plain, made, strict=True))
    compiled.plain_blocks(model)
    assert all(torch.equal(a, b) for a, b in zip(plain, gradients(model), strict=True) if a is not None)


@pytest.mark.parametrize(("seconds", "pays"), [((0.2, 0.1), True), ((0.2, 0.199), False)])
def test_it_is_taken_where_it_saves_time(seconds: tuple[float, float], pays: bool) -> None:
    model, _ = tiny("llama", seed=1)
    said: list[str] = []
    assert fastest.compiled_pays(model, layout(ragged()), "buckets", said.append, ticks(*seconds)) is pays
    assert all((b._compiled_call_impl is not None) is pays for b in compiled.blocks_of(model))
    assert said[0].startswith("blocks compiled: compiled 100 ms" if pays else "blocks as they are: compiled 199 ms")


@pytest.mark.parametrize("fault", ["wrong", "none"])
def test_a_wrong_or_missing_compiler_is_left_aside(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(graph: Any, _: Any) -> Callable[..., Any]:
        if fault == "none":
            raise RuntimeError("no compiler here")
        return lambda *a: tuple(1.01 * x if torch.is_tensor(x) and x.is_floating_point() else x for x in graph(*a))

    monkeypatch.setattr(compiled, "BACKEND", backend)
    model, _ = tiny("llama", seed=1)
    said: list[str] = []
    assert not fastest.compiled_pays(model, layout(ragged()), "buckets", said.append, ticks(0.2, 0.1))
    assert ("differ by" if fault == "wrong" else "do not compile here") in said[0]
    assert all(b._compiled_call_impl is None for b in compiled.blocks_of(model))


def test_a_model_without_known_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="compile: the blocks of Linear are not known"):
        compiled.compile_blocks(torch.nn.Linear(2, 2))
