"""Linear layers, root-mean-square norms, gated MLPs and attention of a model on the kernels of `native/kernels.c`: fp32 on CPUs, one thread
each.

`adopt(model)` gives the modules that the kernels know a subclass of their own class; names, weights and what is saved stay the same. All
three products of a linear layer are the kernels'. A gated MLP is one operation that keeps its two inner products alone for the backward, a
norm keeps what it gave and not what it was given, and queries and keys are turned to their positions where attention reads them: a block
keeps six numbers per hidden dimension and two per inner one, in place of eight and three, and passes over memory half as often.
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

from posttrain.models.native_attention import NativePlan, fits
from posttrain.native.library import address, library, padded

WIDEST = 1024
FEWEST = 128
"""Rows below which a product is not worth packing a weight."""
ROWS, SPAN = 96, 192
"""Rows of a block of a large product, and of a part of a weight's gradient, as in kernels.c."""
FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3", "Granite")
"""Their attention is projections, norms of the heads where they have any, rotary positions by halves, attention, projection."""
NORMS = frozenset(f"{family}RMSNorm" for family in (*FAMILIES, "SmolLM3", "Olmo2", "Phi3"))
"""Norms that are x / sqrt(mean(x^2) + eps) * weight."""
GATED = frozenset(f"{family}MLP" for family in (*FAMILIES, "SmolLM3", "Olmo2"))
"""MLPs that are down(act(gate(x)) * up(x))."""
ATTENDING = frozenset(f"{family}Attention" for family in FAMILIES)
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
    if isinstance(module, (NativeLinear, NativeNorm, NativeGated, NativeAttention)):
        return None
    if type(module) is nn.Linear:
        return None if any(n != padded(n) for n in (module.in_features, module.out_features)) else NativeLinear
    if not type(module).__module__.startswith("transformers.models."):
        return None  # a name alone says nothing of code from elsewhere
    if name in NORMS and module.weight.numel() % 8 == 0:  # type: ignore[operator,union-attr]
        return NativeNorm
    if name in GATED and type(getattr(module, "act_fn", None)).__name__ in SILU:
        return NativeGated
    return NativeAttention if name in ATTENDING else None


def usable(*tensors: Tensor) -> bool:
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
        if x.numel() < FEWEST * x.shape[-1] or not usable(x, weight) or not weight.is_contiguous():
            return super().forward(x)  # type: ignore[misc,no-any-return]
        made: Tensor = _Linear.apply(x, weight, bias)
        return made


class NativeNorm(nn.Module):
    """Before a norm's own class."""

    weight: Tensor
    variance_epsilon: float

    def forward(self, x: Tensor) -> Tensor:
        # The backward divides what the norm gave by its weight.
        if not usable(x, self.weight) or not bool(self.weight.all()):
            return super().forward(x)  # type: ignore[misc,no-any-return]
        made: Tensor = _Norm.apply(x, self.weight, self.variance_epsilon)
        return made


class NativeGated(nn.Module):
    """Before a gated MLP's own class."""

    gate_proj: nn.Module
    up_proj: nn.Module
    down_proj: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        parts = self.gate_proj, self.up_proj, self.down_proj
        plain = all(isinstance(p, NativeLinear) and plain_linear(p) and p.bias is None for p in parts)
        weights = [p.weight for p in parts] if plain else []
        fit = plain and usable(x, *weights) and x.numel() >= FEWEST * x.shape[-1]  # type: ignore[arg-type]
        if not fit or not all(w.is_contiguous() for w in weights):  # type: ignore[operator]
            return super().forward(x)  # type: ignore[misc,no-any-return]
        made: Tensor = _Gated.apply(x, *weights)
        return made


class NativeAttention(nn.Module):
    """Before an attention's own class, whose `forward` this is for a plan of the kernels."""

    head_dim: int
    scaling: float
    config: Any
    q_proj: nn.Module
    k_proj: nn.Module
    v_proj: nn.Module
    o_proj: nn.Module

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        flat = kwargs.get("flat")
        x, shape = hidden_states, (*hidden_states.shape[1:-1], -1, self.head_dim)
        ready = isinstance(flat, NativePlan) and past_key_values is None and position_embeddings is not None
        if not ready or not all(t.dtype == x.dtype and t.shape[-1] == self.head_dim for t in position_embeddings or ()):
            return super().forward(  # type: ignore[misc,no-any-return]
                hidden_states,
                position_embeddings=position_embeddings,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                **kwargs,
            )
        q, k, v = (part(x)[0].view(shape) for part in (self.q_proj, self.k_proj, self.v_proj))
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)  # type: ignore[operator]
        assert isinstance(flat, NativePlan) and position_embeddings is not None
        turn = tuple(t[0] for t in position_embeddings)
        if not fits(q, k, v):
            q, k = (_turned(heads, *turn) for heads in (q, k))
            out = flat.attend(q, k, v, self.scaling, self._window())
        else:
            out = flat.attend(q, k, v, self.scaling, self._window(), turn)
        return self.o_proj(out.reshape(*x.shape[:-1], -1)), None

    def _window(self) -> int | None:
        own = getattr(self, "sliding_window", None)
        mistral = type(self).__name__ == "MistralAttention"
        return getattr(self.config, "sliding_window", None) if mistral else own


def _turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Heads [T, H, D] at their positions, cosine and sine [T, D]."""
    left, right = x.chunk(2, -1)
    return x * cosine[:, None] + torch.cat([-right, left], -1) * sine[:, None]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias, back=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dx = product(grads[0], weight, None, back=True) if ctx.needs_input_grad[0] else None
        dw = weight_gradient(grads[0], x) if ctx.needs_input_grad[1] else None
        flat = grads[0].reshape(-1, weight.shape[0])
        return dx, dw, flat.sum(0) if ctx.needs_input_grad[2] else None


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x = x.contiguous()
        y, n = torch.empty_like(x), weight.numel()
        scale = x.new_empty(x.numel() // n)
        call("norm_forward", x, weight, c_float(eps), c_int64(scale.numel()), c_int64(n), y, scale)
        ctx.save_for_backward(y, weight, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        y, weight, scale = ctx.saved_tensors
        dy, dx = grads[0].contiguous(), torch.empty_like(y)
        dw = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        sizes = c_int64(scale.numel()), c_int64(weight.numel())
        call("norm_backward", dy, y, weight, weight.reciprocal(), scale, *sizes, dx, dw)
        return dx, dw, None


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, wg: Tensor, wu: Tensor, wd: Tensor) -> Tensor:
        x = x.contiguous()
        inner, k = wg.shape
        rows, kept = x.numel() // k, any(ctx.needs_input_grad)
        gate, up = (x.new_empty(rows, inner) if kept else None for _ in range(2))
        out, block = torch.empty_like(x), x.new_empty(3 * ROWS * inner)
        weights = [panels(w, back=False) for w in (wg, wu, wd)]
        call("mlp_forward", x, c_int64(rows), *weights, c_int64(k), c_int64(inner), gate, up, block, out)
        ctx.save_for_backward(x, wg, wu, wd, gate, up)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, wg, wu, wd, gate, up = ctx.saved_tensors
        dy, (inner, k) = grads[0].contiguous(), wg.shape
        dgate, dup, act = (torch.empty_like(gate) for _ in range(3))
        block, dx = x.new_empty(ROWS * inner), torch.empty_like(x)
        sizes = c_int64(k), c_int64(inner)
        weights = [panels(w, back=True) for w in (wg, wu, wd)]
        call("mlp_backward", dy, c_int64(len(gate)), *weights, *sizes, gate, up, dgate, dup, act, block, dx)
        needed = ctx.needs_input_grad
        dw = [
            weight_gradient(g, h) if n else None
            for g, h, n in ((dgate, x, needed[1]), (dup, x, needed[2]), (dy, act, needed[3]))
        ]
        return dx, *dw


def panels(weight: Tensor, back: bool) -> Tensor:
    """A weight [out, in] packed for x W^T, or back for dy W. Made for each call: that is a fiftieth of it, and nothing can be stale."""
    n, k = weight.shape
    inner, outer, steps = (n, k, (k, 1)) if back else (k, n, (1, k))
    made = weight.new_empty(padded(outer) * inner)
    call("pack", weight, *map(c_int64, (*steps, inner, outer)), made)
    return made


def product(x: Tensor, weight: Tensor, bias: Tensor | None, back: bool) -> Tensor:
    """x W^T + b, or x W (`back`), for W [out, in]."""
    n, k = weight.shape
    inner, outer = (n, k) if back else (k, n)
    x, out = x.contiguous(), x.new_empty(*x.shape[:-1], outer)
    call("linear", x, c_int64(x.numel() // inner), panels(weight, back), bias, c_int64(inner), c_int64(outer), out)
    return out


def weight_gradient(dy: Tensor, x: Tensor) -> Tensor:
    """dy^T x [out, in] of dy [..., out] and x [..., in], summed over spans of rows in their order. `in` fills its panels."""
    dy, x = dy.contiguous(), x.contiguous()
    n, k = dy.shape[-1], x.shape[-1]
    made, room = x.new_empty(n, k), x.new_empty(SPAN * padded(1))
    call("weight_gradient", dy, x, *map(c_int64, (x.numel() // k, n, k, 0)), made, room)
    return made


def call(name: str, *given: Any) -> None:
    """A kernel on tensors (None = not there) and numbers."""
    lib: ctypes.CDLL | None = library()
    assert lib is not None, "modules use the kernels where they are"
    getattr(lib, name)(*(x if isinstance(x, (c_int64, c_float)) else c_void_p(address(x)) for x in given))
