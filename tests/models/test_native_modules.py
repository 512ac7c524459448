"""Modules on the kernels against their own classes: numbers, gradients, weights that change, and everything that they must leave alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from posttrain.models.native_modules import FEWEST, NativeGated, NativeLinear, NativeNorm, adopt, plain_linear
from posttrain.native.library import library
from tests.models.tiny import tiny

pytestmark = pytest.mark.skipif(library() is None, reason="no C compiler here")
ROWS = FEWEST + 37


def small(family: str = "llama", hidden: int = 32) -> Any:
    return tiny(family, seed=1, hidden=hidden, layers=2, heads=2)[0]


def passed(model: Any, rows: int = ROWS) -> list[torch.Tensor]:
    """Hidden states of random inputs, and every gradient of their mean square."""
    torch.manual_seed(0)
    at = torch.randn(1, rows, model.config.hidden_size, requires_grad=True)
    out = model.model(inputs_embeds=at, use_cache=False).last_hidden_state
    trained = [p for p in model.model.parameters() if p.requires_grad and p is not model.model.embed_tokens.weight]
    return [out, *torch.autograd.grad(out.square().mean(), [at, *trained])]


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3", "smollm3", "granite", "olmo2", "gemma3", "phi3"])
def test_numbers_and_gradients_are_those_of_the_classes(family: str) -> None:
    plain = small(family)
    ours = copy.deepcopy(plain)
    assert adopt(ours) > 0 and adopt(ours) == 0, "a second time changes nothing"
    for a, b in zip(passed(ours), passed(plain), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)
    assert ours.state_dict().keys() == plain.state_dict().keys()


def test_what_is_adopted() -> None:
    model = small()
    adopt(model)
    kinds = [type(m).__mro__[1] for m in model.modules()]
    assert kinds.count(NativeLinear) == 2 * 7 and kinds.count(NativeNorm) == 5 and kinds.count(NativeGated) == 2
    assert all(plain_linear(m) for m in model.modules() if isinstance(m, nn.Linear))
    names = {type(m).__name__ for m in model.modules()}
    assert names == {type(m).__name__ for m in small().modules()}
    odd = nn.Sequential(nn.Linear(32, 24), nn.Linear(24, 32))
    odd.config = model.config  # type: ignore[assignment]
    assert adopt(odd) == 0


@pytest.mark.parametrize("change", ["in place", "data", "fused"])
def test_changed_weights_are_seen(change: str) -> None:
    ours = small()
    adopt(ours)
    passed(ours)
    if change == "fused":
        step = torch.optim.AdamW(ours.parameters(), lr=0.01, fused=True)
        ours.model(input_ids=torch.arange(ROWS)[None], use_cache=False).last_hidden_state.square().mean().backward()
        step.step()
        step.zero_grad()
    else:
        for p in ours.parameters():
            with torch.no_grad():
                p.mul_(1.1) if change == "in place" else p.data.mul_(1.1)
    fresh = small()
    fresh.load_state_dict(ours.state_dict())
    for a, b in zip(passed(ours), passed(fresh), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def test_frozen_weights_get_no_gradient() -> None:
    model = small()
    adopt(model)
    for name, p in model.named_parameters():
        p.requires_grad_("mlp" in name)
    out = model.model(input_ids=torch.arange(ROWS)[None], use_cache=False).last_hidden_state
    out.square().mean().backward()
    assert all((p.grad is not None) == p.requires_grad for n, p in model.model.named_parameters())


@pytest.mark.parametrize("case", ["bf16", "autocast", "threads", "few rows"])
def test_left_to_the_class(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from posttrain.models import native_modules

    model = small()
    adopt(model)
    asked: list[str] = []
    monkeypatch.setattr(native_modules, "_call", lambda name, *_: asked.append(name))
    ids, before = torch.arange(4 if case == "few rows" else ROWS)[None], torch.get_num_threads()
    if case == "bf16":
        model = model.to(torch.bfloat16)
    try:
        torch.set_num_threads(2 if case == "threads" else 1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=case == "autocast"), torch.no_grad():
            out = model.model(input_ids=ids, use_cache=False).last_hidden_state
    finally:
        torch.set_num_threads(before)
    assert out.shape[1] == ids.shape[1] and (
        set(asked) <= {"norm_forward", "swiglu_forward"} if case == "few rows" else not asked
    )


def test_gates_far_from_zero() -> None:
    from posttrain.models.native_modules import _SwiGLU

    gate = torch.tensor([-1e4, -100.0, -88.5, -20.0, 0.0, 20.0, 100.0, 1e4], requires_grad=True)
    up = torch.full((8,), 2.0, requires_grad=True)
    ours = _SwiGLU.apply(gate, up)
    theirs = nn.functional.silu(gate) * up
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(*(torch.autograd.grad(x.sum(), (gate, up)) for x in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
