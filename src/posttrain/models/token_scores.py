"""The language-model head at scored positions only: log-probs and their relatives, with an analytic backward.

Below the memory limit the softmax of the forward is kept (3 GEMMs in all); above it, and where the entropy needs a gradient, positions go
through in chunks and the backward recomputes their logits (4 GEMMs). Never a prompt position, never padding.
Leaves out: fused kernels on CUDA.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from posttrain.core.needs import Needs, Output
from posttrain.models import native_head
from posttrain.models.trunk import causal_lm

KEPT = 256 * 2**20
"""Bytes of softmax that may be kept for the backward when the machine says nothing else."""


@dataclass(frozen=True)
class Head:
    """weight [V, d], bias [V] or None; logits = cap(h W^T + b) * scale, then divided by the temperature."""

    weight: Tensor
    bias: Tensor | None
    scale: float = 1.0
    cap: float | None = None

    @classmethod
    def of(cls, model: nn.Module) -> Head:
        """The head of a causal LM, with the scalings its configuration names (Cohere, Granite, Gemma)."""
        inner = causal_lm(model)
        layer, config = inner.get_output_embeddings(), inner.config
        scale = float(getattr(config, "logit_scale", None) or 1.0)
        if getattr(config, "logits_scaling", None):
            scale /= float(config.logits_scaling)
        cap = getattr(config, "final_logit_softcapping", None)
        return cls(layer.weight, getattr(layer, "bias", None), scale, float(cap) if cap else None)

    def logits(self, hidden: Tensor, temperature: float = 1.0) -> Tensor:
        """[n, V] in fp32 (fp64 for fp64 models)."""
        raw = nn.functional.linear(hidden, self.weight, self.bias)
        wide = raw if raw.dtype == torch.float64 else raw.float()
        if self.cap is not None:
            wide = self.cap * torch.tanh(wide / self.cap)
        factor = self.scale / temperature
        return wide if factor == 1.0 else wide * factor


class _TokenScores(torch.autograd.Function):
    """(logp, entropy, mean_logp, log_sum_sq, at_logp) at each row of hidden; unwanted ones are empty. log_sum_sq has no gradient."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        at_ids: Tensor | None,
        spec: _Spec,
    ) -> tuple[Tensor, ...]:
        head = Head(weight, bias, spec.scale, spec.cap)
        parts: list[tuple[Tensor, ...]] = []
        kept = None
        for rows in spec.chunks(hidden.shape[0]):
            logits = head.logits(hidden[rows], spec.temperature)
            log_norm = logits.logsumexp(-1)
            parts.append(_scores(logits, log_norm, target[rows], None if at_ids is None else at_ids[rows], spec))
            if spec.keep:
                kept = logits.sub_(log_norm[:, None]).exp_()
        ctx.spec, ctx.kept = spec, kept
        ctx.save_for_backward(hidden, weight, bias, target, at_ids)
        outs = tuple(torch.cat(column) for column in zip(*parts))
        ctx.mark_non_differentiable(outs[3])
        return outs

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, g_logp: Tensor, g_entropy: Tensor, g_mean: Tensor, _: Tensor, g_at: Tensor
    ) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, target, at_ids = ctx.saved_tensors
        spec: _Spec = ctx.spec
        kept, ctx.kept = ctx.kept, None  # the gradient is written over it; a second backward computes the softmax again
        head = Head(weight, bias, spec.scale, spec.cap)
        d_hidden = torch.empty_like(hidden)
        wide = torch.float64 if weight.dtype == torch.float64 else torch.float32
        d_weight = torch.zeros(weight.shape, dtype=wide, device=weight.device) if ctx.needs_input_grad[1] else None
        d_bias = torch.zeros(bias.shape, dtype=wide, device=weight.device) if bias is not None else None
        for rows in spec.chunks(hidden.shape[0]):
            if kept is not None:
                logits, p = None, kept
            else:
                logits = head.logits(hidden[rows], spec.temperature)
                p = (logits - logits.logsumexp(-1, keepdim=True)).exp()
            g = _logit_gradient(p, rows, target, at_ids, (g_logp, g_entropy, g_mean, g_at), spec)
            if spec.cap is not None:
                assert logits is not None
                g *= 1 - (logits * spec.temperature / (spec.scale * spec.cap)) ** 2
            factor = spec.scale / spec.temperature
            g = (g if factor == 1.0 else g.mul_(factor)).to(weight.dtype)
            torch.mm(g, weight, out=d_hidden[rows])
            if d_weight is not None:
                d_weight.addmm_(g.T.to(wide), hidden[rows].to(wide))
            if d_bias is not None:
                d_bias += g.sum(0)
        dw = None if d_weight is None else d_weight.to(weight.dtype)
        return d_hidden, dw, None if d_bias is None or bias is None else d_bias.to(bias.dtype), None, None, None


def _scores(
    logits: Tensor, log_norm: Tensor, target: Tensor, at_ids: Tensor | None, spec: _Spec
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    none = logits.new_zeros((logits.shape[0], 0))
    logp = logits.gather(-1, target[:, None])[:, 0] - log_norm
    mean = logits.mean(-1) - log_norm if spec.mean else none
    at = logits.gather(-1, at_ids) - log_norm[:, None] if at_ids is not None else none
    square = (2 * logits).logsumexp(-1) - 2 * log_norm if spec.square else none
    if spec.entropy:
        entropy = log_norm - ((logits - log_norm[:, None]).exp() * logits).sum(-1)
    else:
        entropy = none
    return logp, entropy, mean, square, at


def _logit_gradient(
    p: Tensor, rows: slice, target: Tensor, at_ids: Tensor | None, gradients: tuple[Tensor, ...], spec: _Spec
) -> Tensor:
    """The gradient of the logits, written over their softmax `p`."""
    g_logp, g_entropy, g_mean, g_at = gradients
    through_norm = g_logp[rows]
    if spec.mean:
        through_norm = through_norm + g_mean[rows]
    if at_ids is not None:
        through_norm = through_norm + g_at[rows].sum(-1)
    if spec.entropy:
        logp = p.clamp_min(torch.finfo(p.dtype).tiny).log()
        bend = g_entropy[rows][:, None] * p * (logp - (p * logp).sum(-1, keepdim=True))
        g = p.mul_(-through_norm[:, None]).sub_(bend)
    else:
        g = p.mul_(-through_norm[:, None])
    if spec.mean:
        g += g_mean[rows][:, None] / p.shape[-1]
    g.scatter_add_(-1, target[rows][:, None], g_logp[rows][:, None].to(g.dtype))
    if at_ids is not None:
        g.scatter_add_(-1, at_ids[rows], g_at[rows].to(g.dtype))
    return g


@dataclass(frozen=True)
class _Spec:
    temperature: float
    scale: float
    cap: float | None
    entropy: bool
    mean: bool
    square: bool
    keep: bool
    rows: int

    def chunks(self, n: int) -> list[slice]:
        if n == 0 or self.keep:
            return [slice(0, n)]
        return [slice(i, min(i + self.rows, n)) for i in range(0, n, self.rows)]


def token_scores(
    head: Head, hidden: Tensor, target: Tensor, needs: Needs, at_ids: Tensor | None = None, limit: int = KEPT
) -> Output:
    """The outputs of `needs` that come from the vocabulary. hidden [N, d], target [N], at_ids [N, k] -> fields of `Output`.

    limit: bytes of logits that may live at once; beyond it the head is chunked (same values, less memory).
    """
    vocabulary, width = head.weight.shape[0], 4 if hidden.dtype != torch.float64 else 8
    rows = max(16, limit // max(vocabulary * width * 3, 1))
    needs_grad = torch.is_grad_enabled() and (hidden.requires_grad or head.weight.requires_grad)
    keep = needs_grad and hidden.shape[0] <= rows and head.cap is None
    spec = _Spec(
        needs.temperature, head.scale, head.cap, needs.entropy, needs.mean_logp, needs.log_sum_sq, keep, int(rows)
    )
    topk_logp, topk_ids = _topk(head, hidden, needs, spec) if needs.topk else (None, None)
    if needs.topk and needs == Needs(topk=needs.topk, temperature=needs.temperature):
        return Output(topk_logp=topk_logp, topk_ids=topk_ids)
    plain = head.cap is None and at_ids is None and not (needs.entropy or needs.mean_logp or needs.log_sum_sq)
    if plain and (keep or not needs_grad) and native_head.knows(hidden, head.weight, head.bias):
        said = native_head.logp(hidden, head.weight, head.bias, target, head.scale / needs.temperature)
        return Output(logp=said, topk_logp=topk_logp, topk_ids=topk_ids)
    logp, entropy, mean, square, at = _TokenScores.apply(hidden, head.weight, head.bias, target, at_ids, spec)
    return Output(
        logp=logp,
        entropy=entropy if needs.entropy else None,
        mean_logp=mean if needs.mean_logp else None,
        log_sum_sq=square if needs.log_sum_sq else None,
        at_logp=at if at_ids is not None else None,
        topk_logp=topk_logp,
        topk_ids=topk_ids,
    )


@torch.no_grad()
def _topk(head: Head, hidden: Tensor, needs: Needs, spec: _Spec) -> tuple[Tensor, Tensor]:
    values, ids = [], []
    for rows in [slice(i, i + spec.rows) for i in range(0, max(hidden.shape[0], 1), spec.rows)]:
        logp = head.logits(hidden[rows], needs.temperature).log_softmax(-1)
        if needs.topk >= logp.shape[-1]:
            values.append(logp)
            ids.append(torch.arange(logp.shape[-1], device=logp.device).expand(logp.shape))
            continue
        best = logp.topk(needs.topk, dim=-1)
        values.append(best.values)
        ids.append(best.indices)
    return torch.cat(values), torch.cat(ids)
