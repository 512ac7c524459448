"""The operations of a Llama-like block over weights laid out for decoding: what a prefill and a decoding step have in common. Products are
the kernels' where they are, all else is torch's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from posttrain.rollout.native import Native
from posttrain.rollout.weights import Decoder, Layer


@dataclass(frozen=True, slots=True)
class Blocks:
    """Embedding, the two halves of a block around its attention, and logits. N = tokens, in any arrangement."""

    weights: Decoder
    native: Native | None = None

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x [N, in] times a weight [in, out], and the bias."""
        if self.native is not None:
            return self.native.product(x, weight, bias)
        return torch.mm(x, weight) if bias is None else torch.addmm(bias, x, weight)

    def embed(self, ids: Tensor) -> Tensor:
        x = self.weights.embed.index_select(0, ids)
        return x if self.weights.embed_scale == 1.0 else x.mul_(self.weights.embed_scale)

    def project(self, layer: Layer, x: Tensor, turn: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Queries [N, H, D] and keys with values [N, 2 Hkv, D], turned to their positions."""
        w, n = self.weights, x.shape[0]
        y = x if layer.attn_norm is None else layer.attn_norm(x)
        qkv = self.product(y, layer.qkv, layer.qkv_bias).view(n, -1, w.head_dim)
        both = qkv[:, : w.heads + w.kv_heads]
        if layer.qk_norm is not None:
            both.copy_(F.rms_norm(both, (w.head_dim,), None, layer.qk_norm.eps).mul_(layer.qk_norm.weight))
        elif layer.q_norm is not None and layer.k_norm is not None:
            flat, cut = qkv.view(n, -1), w.heads * w.head_dim
            end = cut + w.kv_heads * w.head_dim
            flat[:, :cut] = layer.q_norm(flat[:, :cut])
            flat[:, cut:end] = layer.k_norm(flat[:, cut:end])
        if layer.rope is not None:
            angle = turn[layer.rope]
            part = both[..., : 2 * angle.shape[-1]]
            if part.dtype == torch.float32:
                torch.view_as_complex(part.unflatten(-1, (-1, 2))).mul_(angle)
            else:
                wide = torch.view_as_complex(part.float().unflatten(-1, (-1, 2))) * angle
                part.copy_(torch.view_as_real(wide).flatten(-2))
        return qkv[:, : w.heads], qkv[:, w.heads :]

    def finish(self, layer: Layer, x: Tensor, attended: Tensor) -> Tensor:
        """Output projection, residual and MLP; `x` [N, h] is overwritten."""
        x = self._add(x, attended, layer.out, layer.out_bias, layer.after_attn)
        y = x if layer.mlp_norm is None else layer.mlp_norm(x)
        up = self.product(y, layer.gate_up, layer.gate_up_bias)
        width = up.shape[1] // 2
        return self._add(x, layer.act(up[:, :width]).mul_(up[:, width:]), layer.down, layer.down_bias, layer.after_mlp)

    def _add(self, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None, norm: Any) -> Tensor:
        residual = self.weights.residual
        if norm is None and self.native is None:
            if bias is not None:
                x.add_(bias, alpha=residual)
            return x.addmm_(y, weight, alpha=residual)
        z = self.product(y, weight, bias)
        return x.add_(z if norm is None else norm(z), alpha=residual)

    def logits(self, x: Tensor) -> Tensor:
        w = self.weights
        return self.scaled(self.product(w.norm(x), w.head, w.head_bias).float())

    def scaled(self, logits: Tensor) -> Tensor:
        w = self.weights
        if w.logit_scale != 1.0:
            logits.mul_(w.logit_scale)
        if w.softcap:
            logits.div_(w.softcap).tanh_().mul_(w.softcap)
        return logits
