"""A decoding step of the fused path in one call without the interpreter's lock: the kernels of `native/kernels.c` over packed weights.

A step of a small model is a hundred operations of some microseconds each; in torch their starting costs a third of the step, and threads
that decode side by side wait for each other's interpreter. Here products run on weights laid out in panels, which for a few rows is also a
third faster than the library's product, and attention reads each row's shared prompt and own tokens where they lie, without masks.
A row's bits depend on nothing but the row. Leaves out: devices other than CPUs, precisions other than fp32, models wider than WIDEST
(their products fill the cores anyway, and a second copy of their weights would cost memory), head sizes that are no multiple of eight.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_float, c_int64, c_void_p
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posttrain.native.library import address, library, padded
from posttrain.rollout.attention import Edit
from posttrain.rollout.weights import Decoder, Layer, Norm

WIDEST = 1024
GELU = {"SiLUActivation": 0, "SiLU": 0, "GELUTanh": 1}
"""Activations that the kernels know."""


class _Layer(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("attn_norm", "qkv", "qkv_bias", "qk_norm", "q_norm", "k_norm", "turn", "out")),
        *((name, c_void_p) for name in ("out_bias", "after_attn", "mlp_norm", "gate_up", "gate_up_bias", "down")),
        *((name, c_void_p) for name in ("down_bias", "after_mlp")),
        *((name, c_float) for name in ("attn_eps", "qk_eps", "q_eps", "k_eps", "after_attn_eps", "mlp_eps")),
        ("after_mlp_eps", c_float),
        ("turned", c_int64),
        ("window", c_int64),
    ]


class _Decoder(Structure):
    _fields_ = [
        ("layer", POINTER(_Layer)),
        *((name, c_void_p) for name in ("embed", "norm", "head", "head_bias")),
        *((name, c_int64) for name in ("layers", "hidden", "heads", "kv_heads", "head_dim", "inner", "vocab", "gelu")),
        *((name, c_float) for name in ("norm_eps", "scale", "residual", "embed_scale")),
    ]


class _Step(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("token", "length", "base", "place", "own", "pool")),
        *((name, c_int64) for name in ("rows", "own_layer", "own_row", "own_head", "pool_layer", "pool_row")),
        ("pool_head", c_int64),
        ("scratch", c_void_p),
        ("logits", c_void_p),
    ]


class Native:
    """Packed weights of a decoder, which several threads may use at once. Take `Native.of`: None where the kernels do not compute it."""

    def __init__(self, weights: Decoder, lib: ctypes.CDLL) -> None:
        self.weights, self.lib = weights, lib
        self._held: list[Any] = []  # what the structures point into
        self._panels: dict[int, Tensor] = {}  # by the id of the weight that they hold
        self.layers = (_Layer * len(weights.layers))(*(self._layer(layer) for layer in weights.layers))
        w, first = weights, weights.layers[0]
        self.decoder = _Decoder(
            layer=self.layers,
            embed=self._kept(w.embed),
            norm=self._kept(w.norm.weight),
            head=self._packed(w.head),
            head_bias=self._kept(w.head_bias),
            layers=len(w.layers),
            hidden=w.embed.shape[1],
            heads=w.heads,
            kv_heads=w.kv_heads,
            head_dim=w.head_dim,
            inner=first.down.shape[0],
            vocab=w.head.shape[1],
            gelu=GELU[type(first.act).__name__],
            norm_eps=w.norm.eps,
            scale=w.scale,
            residual=w.residual,
            embed_scale=w.embed_scale,
        )
        lib.scratch.restype = c_int64

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x [N, in] times one of the decoder's weights [in, out], with its bias: [N, out]."""
        x, (k, n) = x.contiguous(), weight.shape
        made = x.new_empty(len(x), n)
        where = (c_void_p(address(t)) for t in (self._panels[id(weight)], bias, made))
        panels, added, out = where
        self.lib.linear(c_void_p(x.data_ptr()), c_int64(len(x)), panels, added, c_int64(k), c_int64(n), out)
        return made

    @classmethod
    def of(cls, weights: Decoder) -> Native | None:
        """The model packed, or None where torch decodes it."""
        w = weights
        known = all(type(layer.act).__name__ in GELU and layer.down.shape[0] % 8 == 0 for layer in w.layers)
        plain = w.embed.device.type == "cpu" and w.embed.dtype == torch.float32 and w.embed.shape[1] <= WIDEST
        lib = library() if known and plain and w.head_dim % 8 == 0 else None
        return None if lib is None else cls(weights, lib)

    def step(
        self,
        tokens: Sequence[int],
        length: np.ndarray,
        base: np.ndarray,
        place: np.ndarray,
        own: Tensor,
        pool: Tensor,
        edit: Edit | None = None,
    ) -> Tensor:
        """Next-token logits [rows, V] of one token for each row; its keys and values go into `own` [L, rows, 2 Hkv, T, D]."""
        w, rows = self.decoder, len(tokens)
        numbers = [np.ascontiguousarray(x, dtype=np.int64) for x in (tokens, length[:rows], base[:rows], place)]
        longest = int((numbers[1] + numbers[2]).max()) + 1
        room = torch.empty(self.lib.scratch(ctypes.byref(w), c_int64(rows), c_int64(longest)))
        logits = torch.empty(rows, w.vocab)
        strides = [*own.stride()[:3], *(pool.stride()[:3] if pool.numel() else (0, 0, 0))]
        told = _Step(
            *(x.ctypes.data for x in numbers),
            own.data_ptr(),
            pool.data_ptr(),
            rows,
            *strides,
            room.data_ptr(),
            logits.data_ptr(),
        )
        if edit is None:
            self._layers(told, 0, w.layers, True)
            return logits
        states = room[: rows * w.hidden].view(rows, w.hidden)
        for layer in range(w.layers):
            self._layers(told, layer, layer + 1, False)
            states.copy_(edit(layer, states, False))
        self._layers(told, w.layers, w.layers, True)
        return logits

    def _layers(self, told: _Step, a: int, b: int, logits: bool) -> None:
        self.lib.decode(ctypes.byref(self.decoder), ctypes.byref(told), *(c_int64(x) for x in (a, b, logits)))

    def _kept(self, tensor: Tensor | None) -> int:
        if tensor is None:
            return 0
        made = tensor.contiguous()
        self._held.append(made)
        return address(made)

    def _packed(self, weight: Tensor) -> int:
        """A weight [in, out] as panels."""
        k, n = weight.shape
        made = torch.empty(padded(n) * k)
        steps = (c_int64(x) for x in (*weight.stride(), k, n))
        self.lib.pack(c_void_p(weight.data_ptr()), *steps, c_void_p(made.data_ptr()))
        self._panels[id(weight)] = made
        return made.data_ptr()

    def _layer(self, layer: Layer) -> _Layer:
        def norm(name: str, part: Norm | None) -> dict[str, Any]:
            told = f"{name.removesuffix('_norm')}_eps"
            return {} if part is None else {name: self._kept(part.weight), told: part.eps}

        turn = {}
        if layer.rope is not None:
            angles = torch.view_as_real(self.weights.rope[layer.rope])
            turn = {"turn": self._kept(angles), "turned": 2 * angles.shape[1]}
        norms = {
            **norm("attn_norm", layer.attn_norm),
            **norm("qk_norm", layer.qk_norm),
            **norm("q_norm", layer.q_norm),
            **norm("k_norm", layer.k_norm),
            **norm("after_attn", layer.after_attn),
            **norm("mlp_norm", layer.mlp_norm),
            **norm("after_mlp", layer.after_mlp),
        }
        products = {name: self._packed(getattr(layer, name)) for name in ("qkv", "out", "gate_up", "down")}
        biases = {f"{name}_bias": self._kept(getattr(layer, f"{name}_bias")) for name in products}
        return _Layer(window=layer.window, **products, **biases, **norms, **turn)


def threads_of(model: Any) -> int:
    """Threads to decode with: one for a small model on a CPU, where more only wait for each other; 0 = as torch has it."""
    on_cpu = next(model.parameters()).device.type == "cpu"
    width = getattr(model.config, "hidden_size", None) or 0
    return 1 if on_cpu and width <= WIDEST else 0
