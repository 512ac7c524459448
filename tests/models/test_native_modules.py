"""Modules on the kernels against their own classes: numbers, gradients, weights that change, and everything that they must leave alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from posttrain.models.native_modules import (
    FEWEST,
    NativeAttention,
    NativeGated,
    NativeLinear,
    NativeNorm,
    adopt,
    plain_linear,
    weight_gradient,
)
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
    model = small(hidden=64)
    adopt(model)
    kinds = [type(m).__mro__[1] for m in model.modules()]
    assert kinds.count(NativeLinear) == 2 * 7 and kinds.count(NativeNorm) == 5 and kinds.count(NativeGated) == 2
    assert kinds.count(NativeAttention) == 2
    assert all(plain_linear(m) for m in model.modules() if isinstance(m, nn.Linear))
    names = {type(m).__name__ for m in model.modules()}
    assert names == {type(m).__name__ for m in small(hidden=64).modules()}
    odd = nn.Sequential(nn.Linear(32, 24), nn.Linear(24, 32))
    odd.config = model.config  # type: ignore[assignment]
    assert adopt(odd) == 0
    alike = small(hidden=64)
    alike.model.norm.__class__ = type("LlamaRMSNorm", (type(alike.model.norm),), {"__module__": "somewhere"})
    adopt(alike)
    assert not isinstance(alike.model.norm, NativeNorm) and isinstance(
        alike.model.layers[0].input_layernorm, NativeNorm
    )


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
    monkeypatch.setattr(native_modules, "call", lambda name, *_: asked.append(name))
    ids, before = torch.arange(4 if case == "few rows" else ROWS)[None], torch.get_num_threads()
    if case == "bf16":
        model = model.to(torch.bfloat16)
    try:
        torch.set_num_threads(2 if case == "threads" else 1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=case == "autocast"), torch.no_grad():
            out = model.model(input_ids=ids, use_cache=False).last_hidden_state
    finally:
        torch.set_num_threads(before)
    assert out.shape[1] == ids.shape[1] and (set(asked) <= {"norm_forward"} if case == "few rows" else not asked)


def test_gates_far_from_zero() -> None:
    ours, plain = small(), small()
    adopt(ours)
    for model in (ours, plain):
        with torch.no_grad():
            model.model.layers[0].mlp.gate_proj.weight.mul_(1e4)
    assert torch.isfinite(torch.cat([t.flatten() for t in passed(ours)])).all()
    for a, b in zip(passed(ours), passed(plain), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


def test_a_second_backward_gives_the_same() -> None:
    model = small()
    adopt(model)
    out = model.model(input_ids=torch.arange(ROWS)[None], use_cache=False).last_hidden_state.square().mean()
    weights = [p for p in model.model.parameters() if p is not model.model.embed_tokens.weight]
    first, second = (torch.autograd.grad(out, weights, retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_norm_with_a_weight_of_zero_is_its_class() -> None:
    ours, plain = small(), small()
    adopt(ours)
    for model in (ours, plain):
        with torch.no_grad():
            model.model.layers[0].input_layernorm.weight[3] = 0.0
    for a, b in zip(passed(ours), passed(plain), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def test_an_mlp_with_biases_or_an_adapter_is_its_class() -> None:
    for change in ("bias", "adapter"):
        ours = small()
        mlp = ours.model.layers[0].mlp
        if change == "bias":
            mlp.up_proj.bias = nn.Parameter(torch.randn(mlp.up_proj.out_features))
        else:
            mlp.up_proj = nn.Sequential(mlp.up_proj)
        plain = copy.deepcopy(ours)
        adopt(ours)
        for a, b in zip(passed(ours), passed(plain), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("rows", [0, 1, 5, 191, 192, 193, 500])
def test_the_gradient_of_a_weight(rows: int) -> None:
    torch.manual_seed(0)
    dy, x = torch.randn(rows, 37), torch.randn(rows, 96)
    torch.testing.assert_close(weight_gradient(dy, x), dy.t() @ x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3", "granite"])
@pytest.mark.parametrize("kernels", [True, False])
def test_attention_turns_queries_and_keys_itself(family: str, kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the class's own forward with the same plan, whose rotation is the library's; heads that do not fit are turned before."""
    from posttrain.core.batch import layout
    from posttrain.models import native_attention, native_modules
    from posttrain.models.trunk import shared_hidden
    from tests.models.test_shared_prefix import ragged

    plain = small(family, hidden=64)
    ours = copy.deepcopy(plain)
    adopt(ours)
    batch = layout(ragged())
    turned: list[bool] = []
    own = native_attention.NativePlan.attend
    monkeypatch.setattr(
        native_attention.NativePlan,
        "attend",
        lambda self, *given: turned.append(len(given) > 5) or own(self, *given),
    )
    if not kernels:
        for module in (native_attention, native_modules):
            monkeypatch.setattr(module, "fits", lambda *_: False)
    made = []
    for model in (ours, plain):
        states = shared_hidden(model, batch, batch.source, "native")
        weights = [p for p in model.model.parameters() if p is not model.model.embed_tokens.weight]
        made.append([states, *torch.autograd.grad(states.square().mean(), weights)])
    for a, b in zip(*made, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)
    assert turned == [kernels] * 2 + [False] * 2
