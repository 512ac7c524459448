"""Linear layers, root-mean-square norms and gated MLPs of a model on the kernels of `native/kernels.c`: fp32 on CPUs, one thread each.

`adopt(model)` gives the modules that the kernels know a subclass of their own class; names, weights and what is saved stay the same. A
linear layer multiplies with its weight in panels, which is a sixth faster than the library's product here; the gradient of the weight is
the library's. A norm and the gate of an MLP are one pass each in place of five and two.
Wherever a tensor, a device or the number of threads is not what the kernels are for, a module does what its class does. Leaves out models
wider than WIDEST, whose products the library was made for.
"""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from posttrain.native.library import address, library

WIDEST = 1024
FEWEST = 128
"""Rows below which a product is not worth packing a weight."""
PANEL = 16
NORMS = frozenset(
    f"{family}RMSNorm" for family in ("Llama", "Mistral", "Qwen2", "Qwen3", "SmolLM3", "Granite", "Olmo2", "Phi3")
)
"""Norms that are x / sqrt(mean(x^2) + eps) * weight."""
GATED = frozenset(f"{family}MLP" for family in ("Llama", "Mistral", "Qwen2", "Qwen3", "SmolLM3", "Granite", "Olmo2"))
"""MLPs that are down(act(gate(x)) * up(x))."""
SILU = ("SiLUActivation", "SiLU")


def adopt(model: nn.Module) -> int:
    """Let the modules of a model that the kernels know use them; how many do."""
    width = getattr(getattr(model, "config", None), "hidden_size", None) or 0
    if library() is None or not 0 < width <= WIDEST:
        return 0
    count = 0
    for module in model.modules():
        mixin = _mixin(module)
        if mixin is not None:
            cls = type(module)
            module.__class__ = type(cls.__name__, (mixin, cls), {"__module__": cls.__module__})
            count += 1
    return count


def plain_linear(module: nn.Module) -> bool:
    """Is it a linear layer and nothing more?"""
    return type(module) is nn.Linear or (isinstance(module, NativeLinear) and type(module).__mro__[2] is nn.Linear)


def _mixin(module: nn.Module) -> type[nn.Module] | None:
    name = type(module).__name__
    if isinstance(module, (NativeLinear, NativeNorm, NativeGated)):
        return None
    if type(module) is nn.Linear:
        return None if module.in_features % PANEL or module.out_features % PANEL else NativeLinear
    if name in NORMS and module.weight.numel() % 8 == 0:  # type: ignore[operator,union-attr]
        return NativeNorm
    if name in GATED and type(getattr(module, "act_fn", None)).__name__ in SILU:
        return NativeGated
    return None


def _usable(*tensors: Tensor) -> bool:
    """May the kernels take these? They run on one thread, so where torch has more for an operation it keeps it."""
    fit = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
    return (
        fit
        and torch.get_num_threads() == 1
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
    )


class NativeLinear(nn.Module):
    """Before a linear layer's own class."""

    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        if x.numel() < FEWEST * x.shape[-1] or not _usable(x, weight) or not weight.is_contiguous():
            return super().forward(x)  # type: ignore[misc,no-any-return]
        made: Tensor = _Linear.apply(x, weight, bias)
        return made


class NativeNorm(nn.Module):
    """Before a norm's own class."""

    weight: Tensor
    variance_epsilon: float

    def forward(self, x: Tensor) -> Tensor:
        if not _usable(x, self.weight):
            return super().forward(x)  # type: ignore[misc,no-any-return]
        made: Tensor = _Norm.apply(x, self.weight, self.variance_epsilon)
        return made


class NativeGated(nn.Module):
    """Before a gated MLP's own class."""

    gate_proj: nn.Module
    up_proj: nn.Module
    down_proj: nn.Module
    act_fn: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        if not _usable(x):
            return super().forward(x)  # type: ignore[misc,no-any-return]
        gate, up = self.gate_proj(x), self.up_proj(x)
        if gate.numel() % 8 or not _usable(gate, up):
            return self.down_proj(self.act_fn(gate) * up)  # type: ignore[no-any-return]
        return self.down_proj(_SwiGLU.apply(gate, up))  # type: ignore[no-any-return]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias, back=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        flat = grads[0].reshape(-1, weight.shape[0])
        dx = _product(grads[0], weight, None, back=True) if ctx.needs_input_grad[0] else None
        dw = flat.t().mm(x.reshape(-1, weight.shape[1])) if ctx.needs_input_grad[1] else None
        return dx, dw, flat.sum(0) if ctx.needs_input_grad[2] else None


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x = x.contiguous()
        y, n = torch.empty_like(x), weight.numel()
        scale = x.new_empty(x.numel() // n)
        _call("norm_forward", x, weight, c_float(eps), c_int64(scale.numel()), c_int64(n), y, scale)
        ctx.save_for_backward(x, weight, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        dy, dx = grads[0].contiguous(), torch.empty_like(x)
        dw = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        _call("norm_backward", dy, x, weight, scale, c_int64(scale.numel()), c_int64(weight.numel()), dx, dw)
        return dx, dw, None


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        y = torch.empty_like(gate)
        _call("swiglu_forward", gate, up, c_int64(gate.numel()), y)
        ctx.save_for_backward(gate, up)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        dy, dgate, dup = grads[0].contiguous(), torch.empty_like(gate), torch.empty_like(up)
        _call("swiglu_backward", dy, gate, up, c_int64(gate.numel()), dgate, dup)
        return dgate, dup


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, back: bool) -> Tensor:
    """x W^T + b, or x W (`back`), for W [out, in]. Panels are made for each call: that is a fiftieth of it, and nothing can be stale."""
    n, k = weight.shape
    inner, outer, steps = (n, k, (k, 1)) if back else (k, n, (1, k))
    x, panels = x.contiguous(), x.new_empty(outer * inner)
    _call("pack", weight, *map(c_int64, (*steps, inner, outer)), panels)
    out = x.new_empty(*x.shape[:-1], outer)
    _call("linear", x, c_int64(x.numel() // inner), panels, bias, c_int64(inner), c_int64(outer), out)
    return out


def _call(name: str, *given: Any) -> None:
    """A kernel on tensors (None = not there) and numbers."""
    lib: ctypes.CDLL | None = library()
    assert lib is not None, "modules use the kernels where they are"
    getattr(lib, name)(*(x if isinstance(x, (c_int64, c_float)) else _at(x) for x in given))


def _at(tensor: Tensor | None) -> c_void_p:
    return c_void_p(address(tensor))
