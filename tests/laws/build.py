"""What the laws stand on: a tiny model, an engine around it, and gradients by tensor name."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from posttrain.core.batch import Batch, layout
from posttrain.core.group import Group
from posttrain.core.method import Method
from posttrain.core.needs import EVERY, Needs, Output
from posttrain.engine.local import LocalEngine
from posttrain.engine.optimizer import Optimizer
from posttrain.models.heads import LikelihoodHead
from posttrain.train.loop import Tally, accumulate

WIDTH = 32


def tiny_model(seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A two-layer Llama over 64 tokens with grouped keys, large enough initial weights that nothing cancels by symmetry."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def engine_for(
    method: Method, seed: int = 0, path: str | None = None, budget: int = 10**9, apart: bool = True
) -> LocalEngine:
    """An engine with the method's heads; `apart` moves the policy away from its reference so that no law holds trivially."""
    model = tiny_model(seed)
    needs = method.needs()
    roles = {}
    if needs.roles:
        reference = copy.deepcopy(model)
        if apart:
            torch.manual_seed(seed + 100)
            with torch.no_grad():
                for parameter in reference.parameters():
                    parameter.add_(0.02 * torch.randn_like(parameter))
        roles = {role: reference.requires_grad_(False) for role in needs.roles}
    torch.manual_seed(seed + 1)
    heads: dict[str, nn.Module] = {}
    if needs.score:
        heads["score"] = nn.Linear(WIDTH, needs.score, bias=False)
        if needs.likelihood:
            heads["score"] = LikelihoodHead(WIDTH, needs.score, needs.likelihood)
    if needs.value:
        heads["value"] = nn.Linear(WIDTH, needs.value)
    if needs.labels:
        heads["labels"] = nn.Linear(WIDTH, needs.labels, bias=False)  # a softmax over places knows no bias
    engine = LocalEngine(model, heads, roles, needs, token_budget=budget, path=path)
    engine.optimize(Optimizer(warmup=0.0, schedule="constant"), 1e-2, 100)
    return engine


def prepared(engine: LocalEngine, method: Method, groups: Sequence[Group]) -> Batch:
    return method.batch(groups, engine)


class Stub:
    """An engine without a model, for formulas: outputs are random numbers in float64, the same ones each time for a role."""

    def layout(self, groups: Sequence[Group]) -> Batch:
        return layout(groups)

    def score(self, batch: Batch, needs: Needs, role: str = "policy") -> Output:
        return outputs(needs, batch, sum(map(ord, role)))

    def total(self, counts: Mapping[str, float]) -> dict[str, float]:
        return dict(counts)

    def gather(self, values: Tensor) -> Tensor:
        return values


def outputs(needs: Needs, batch: Batch, seed: int) -> Output:
    """Random outputs of the right shapes and signs: log-probabilities are negative, entropies positive."""
    torch.manual_seed(seed)
    made: dict[str, Tensor] = {}
    for name, sign in (("logp", -1), ("mean_logp", -1), ("log_sum_sq", -1), ("entropy", 1)):
        if getattr(needs, name):
            made[name] = sign * (0.05 + torch.rand(batch.N, dtype=torch.float64))
    if needs.pooled:
        made["pooled"] = torch.randn(batch.R, 8, dtype=torch.float64)
    for name, size in (("score", batch.R), ("value", batch.N), ("labels", batch.N)):
        if getattr(needs, name):
            made[name] = torch.randn(size, getattr(needs, name), dtype=torch.float64)
    if needs.topk:
        logits = torch.randn(batch.N, min(needs.topk, 8) + 3, dtype=torch.float64).log_softmax(-1)
        made["topk_logp"] = logits if needs.topk == EVERY else logits[:, : needs.topk]
        made["topk_ids"] = torch.arange(made["topk_logp"].shape[-1]).expand(batch.N, -1)
    if needs.at_ids:
        width = batch.data[needs.at_ids].shape[-1]
        made["at_logp"] = torch.randn(batch.N, width + 3, dtype=torch.float64).log_softmax(-1)[:, :width]
    return Output(**made)


def gradients(engine: LocalEngine, method: Method, batch: Batch, tally: Tally | None = None) -> dict[str, Tensor]:
    """Gradient of one step by tensor name; cleared afterwards."""
    accumulate(engine, method, batch, tally)
    named = engine.named_parameters()
    out = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in named.items()}
    for parameter in named.values():
        parameter.grad = None
    return out


def apart(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Largest relative distance of two gradients, per tensor, tiny tensors measured against the largest."""
    scale = max(float(v.norm()) for v in a.values())
    assert scale > 0, "both gradients are zero: the law would hold of anything"
    return max(float((a[n] - b[n]).norm()) / max(float(a[n].norm()), 1e-3 * scale) for n in a)
