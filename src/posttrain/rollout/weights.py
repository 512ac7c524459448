"""Weights of Llama-like decoders, laid out for decoding.

`read_decoder(model)` returns a `Decoder` when the architecture is one that the fused path computes exactly, else None (the generic path
then serves the model). Query, key and value become one matrix, gate and up another; these are copies and must be read again after
the model's weights change. Everything else refers to the model's own tensors.

Rotary pairs: transformers turns dimension i together with i + D/2. Here the rows of the query and key matrices are reordered so that a
pair lies side by side and the turn is one complex product; queries and keys move alike, so every score is unchanged.

LoRA layers of `peft` are merged into the copies, never into the model. Leaves out quantised layers, DoRA, logit soft-capping inside the
attention, attention sinks, and rotary tables that depend on the length (dynamic, longrope): those take the generic path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from posttrain.models.native_modules import plain_linear

FAMILY = frozenset(
    ("llama", "mistral", "qwen2", "qwen3", "smollm3", "granite", "olmo2", "phi3", "gemma3_text"),
)
FIXED_ROPE = frozenset(("default", "linear", "llama3", "yarn", "proportional"))


class Unsupported(Exception):
    """The fused path does not compute this model; the generic path will."""


@dataclass(frozen=True, slots=True)
class Norm:
    """Root-mean-square norm: weight [h] and epsilon."""

    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32 or self.weight.dim() > 1:
            return torch.nn.functional.rms_norm(x, self.weight.shape, self.weight, self.eps)
        # The same in fewer kernels: rms_norm of torch 2.13 is six on CPU.
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = torch.addcmul(norm.new_tensor(self.eps), norm, norm, value=1.0 / x.shape[-1]).rsqrt_()
        return (x * scale).mul_(self.weight)


@dataclass(frozen=True, slots=True)
class Layer:
    """One block. Matrices are [in, out]; absent parts are None.

    qkv [h, (H + 2 Hkv) D]. qk_norm: weight [H + Hkv, D] per head. q_norm, k_norm: over all heads at once (OLMo 2).
    window: sliding window in tokens, 0 = full attention. rope: name of the rotary table, None = no positions.
    """

    attn_norm: Norm | None
    qkv: Tensor
    qkv_bias: Tensor | None
    qk_norm: Norm | None
    q_norm: Norm | None
    k_norm: Norm | None
    rope: str | None
    window: int
    out: Tensor
    out_bias: Tensor | None
    after_attn: Norm | None
    mlp_norm: Norm | None
    gate_up: Tensor
    gate_up_bias: Tensor | None
    act: Callable[[Tensor], Tensor]
    down: Tensor
    down_bias: Tensor | None
    after_mlp: Norm | None


@dataclass(frozen=True, slots=True)
class Decoder:
    """A whole model. rope: name -> complex64 [max_context, r/2]; the first r dimensions of a head are turned."""

    embed: Tensor
    embed_scale: float
    layers: tuple[Layer, ...]
    norm: Norm
    head: Tensor
    head_bias: Tensor | None
    logit_scale: float
    softcap: float
    rope: dict[str, Tensor]
    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    residual: float


def unwrap(model: Any) -> nn.Module:
    """The transformers model inside a `peft` wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def weight_of(linear: Any) -> tuple[Tensor, Tensor | None]:
    """Weight [out, in] and bias of a linear layer, LoRA merged in. Raises Unsupported for any other kind of layer."""
    base = getattr(linear, "base_layer", None)
    if base is None:
        if not plain_linear(linear):
            raise Unsupported(f"a {type(linear).__name__} is not a plain linear layer")
        return linear.weight.detach(), None if linear.bias is None else linear.bias.detach()
    weight, bias = weight_of(base)
    if getattr(linear, "merged", False) or getattr(linear, "disable_adapters", False):
        return weight, bias
    for name in linear.active_adapters:
        if name not in getattr(linear, "lora_A", {}):
            continue
        if getattr(linear, "use_dora", {}).get(name) or getattr(linear, "lora_bias", {}).get(name):
            raise Unsupported("DoRA and LoRA biases are not merged here")
        weight = weight + linear.get_delta_weight(name).detach()
    return weight, bias


def read_decoder(model: nn.Module, max_context: int) -> Decoder | None:
    """The model laid out for the fused path, or None when that path does not compute it exactly."""
    try:
        with torch.no_grad():
            return _read(unwrap(model), max_context)
    except Unsupported:
        return None


def _read(model: Any, max_context: int) -> Decoder:
    config = model.config
    if config.model_type not in FAMILY:
        raise Unsupported(f"{config.model_type} is not in the fused family")
    if getattr(config, "attn_logit_softcapping", None) or getattr(config, "use_bidirectional_attention", False):
        raise Unsupported("soft-capped or bidirectional attention")
    trunk = model.model
    first = trunk.layers[0].self_attn
    head_dim = first.head_dim
    order, tables = _rope(trunk, config, max_context, head_dim)
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    head, head_bias = weight_of(model.lm_head)
    if type(trunk.embed_tokens).__name__ not in ("Embedding", "Gemma3TextScaledWordEmbedding"):
        raise Unsupported("embedding layer is wrapped")
    scale = getattr(trunk.embed_tokens, "embed_scale", None)
    norm = _norm(trunk.norm)
    assert norm is not None, "every model of the family ends in a norm"
    return Decoder(
        embed=trunk.embed_tokens.weight.detach(),
        embed_scale=float(scale) if scale is not None else float(getattr(config, "embedding_multiplier", 1.0)),
        layers=tuple(_layer(trunk, config, i, heads, kv_heads, order) for i in range(len(trunk.layers))),
        norm=norm,
        head=head.t(),
        head_bias=head_bias,
        logit_scale=1.0 / float(getattr(config, "logits_scaling", 1.0)),
        softcap=float(getattr(config, "final_logit_softcapping", None) or 0.0),
        rope=tables,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        scale=float(first.scaling),
        residual=float(getattr(config, "residual_multiplier", 1.0)),
    )


def _norm(module: Any) -> Norm | None:
    if module is None:
        return None
    eps = getattr(module, "variance_epsilon", None)
    weight = module.weight.detach()
    # Gemma stores the weight's distance from one.
    return Norm(
        weight + 1.0 if type(module).__name__.startswith("Gemma") else weight, module.eps if eps is None else eps
    )


def _layer(trunk: Any, config: Any, i: int, heads: int, kv_heads: int, order: Tensor) -> Layer:
    block = trunk.layers[i]
    attn, mlp = block.self_attn, block.mlp
    qkv, qkv_bias = _qkv(attn, heads, kv_heads, order)
    out, out_bias = weight_of(attn.o_proj)
    gate_up, gate_up_bias = _stack([mlp.gate_up_proj] if hasattr(mlp, "gate_up_proj") else [mlp.gate_proj, mlp.up_proj])
    down, down_bias = weight_of(mlp.down_proj)
    q_norm, k_norm = _norm(getattr(attn, "q_norm", None)), _norm(getattr(attn, "k_norm", None))
    per_head = q_norm is not None and q_norm.weight.numel() == order.numel()
    both = None
    if q_norm is not None and k_norm is not None:
        if per_head:
            table = torch.cat([q_norm.weight[order].expand(heads, -1), k_norm.weight[order].expand(kv_heads, -1)])
            both = Norm(table.contiguous(), q_norm.eps)
        else:
            q_norm, k_norm = (_reordered(n, order) for n in (q_norm, k_norm))
    before = hasattr(block, "input_layernorm")
    sandwich = hasattr(block, "pre_feedforward_layernorm")
    act = getattr(mlp, "act_fn", None) or mlp.activation_fn
    return Layer(
        attn_norm=_norm(block.input_layernorm) if before else None,
        qkv=qkv,
        qkv_bias=qkv_bias,
        qk_norm=both,
        q_norm=None if per_head else q_norm,
        k_norm=None if per_head else k_norm,
        rope=_rope_name(trunk, config, i) if getattr(attn, "use_rope", True) else None,
        window=_window(config, attn, i),
        out=out.t(),
        out_bias=out_bias,
        after_attn=_norm(block.post_attention_layernorm) if sandwich or not before else None,
        mlp_norm=_norm(block.pre_feedforward_layernorm)
        if sandwich
        else _norm(block.post_attention_layernorm)
        if before
        else None,
        gate_up=gate_up.t().contiguous(),
        gate_up_bias=gate_up_bias,
        act=act,
        down=down.t(),
        down_bias=down_bias,
        after_mlp=_norm(getattr(block, "post_feedforward_layernorm", None)),
    )


def _reordered(norm: Norm, order: Tensor) -> Norm:
    return Norm(norm.weight.view(-1, order.numel())[:, order].reshape(-1).contiguous(), norm.eps)


def _stack(linears: list[nn.Module]) -> tuple[Tensor, Tensor | None]:
    parts = [weight_of(linear) for linear in linears]
    biases = [b for _, b in parts if b is not None]
    if biases and len(biases) < len(parts):
        raise Unsupported("some of the fused projections have a bias and some do not")
    return torch.cat([w for w, _ in parts]), torch.cat(biases) if biases else None


def _qkv(attn: Any, heads: int, kv_heads: int, order: Tensor) -> tuple[Tensor, Tensor | None]:
    names = ["qkv_proj"] if hasattr(attn, "qkv_proj") else ["q_proj", "k_proj", "v_proj"]
    weight, bias = _stack([getattr(attn, name) for name in names])
    turned, head_dim = heads + kv_heads, order.numel()
    rows = torch.arange(weight.shape[0], device=weight.device).view(-1, head_dim)
    rows[:turned] = rows[:turned][:, order]
    rows = rows.reshape(-1)
    return weight[rows].t().contiguous(), None if bias is None else bias[rows]


def _window(config: Any, attn: Any, i: int) -> int:
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    if (
        not window
        or (kinds and kinds[i] != "sliding_attention")
        or getattr(config, "use_sliding_window", True) is False
    ):
        return 0
    # A model class without layer types uses the window everywhere.
    return int(window)


def _rope_name(trunk: Any, config: Any, i: int) -> str:
    return config.layer_types[i] if isinstance(getattr(trunk.rotary_emb, "rope_type", None), dict) else "all"


def _rope(trunk: Any, config: Any, max_context: int, head_dim: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The order of a head's dimensions that puts rotary pairs side by side, and the complex tables read from the model's own module."""
    rotary = trunk.rotary_emb
    device = trunk.embed_tokens.weight.device
    positions = torch.arange(max_context, device=device)[None]
    dummy = torch.zeros(1, dtype=torch.float32, device=device)
    kinds = rotary.rope_type if isinstance(rotary.rope_type, dict) else {"all": rotary.rope_type}
    tables, width = {}, 0
    for name, kind in kinds.items():
        if kind not in FIXED_ROPE:
            raise Unsupported(f"rotary type {kind} depends on the length")
        cos, sin = rotary(dummy, positions, name) if name != "all" else rotary(dummy, positions)
        width = cos.shape[-1]
        half = width // 2
        tables[name] = torch.complex(cos[0, :, :half].float(), sin[0, :, :half].float()).contiguous()
    half = width // 2
    pairs = torch.arange(half, device=device)
    order = torch.cat([torch.stack([pairs, pairs + half], 1).reshape(-1), torch.arange(width, head_dim, device=device)])
    return order, tables
