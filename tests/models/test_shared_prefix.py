"""The flat, prompt-once layout against padded rows, on every family: log-probs, gradients, and no leak between groups or siblings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from posttrain.core.batch import layout
from posttrain.core.group import Group, Preference, Response
from posttrain.core.needs import Needs
from posttrain.engine.local import LocalEngine
from posttrain.engine.optimizer import Optimizer
from posttrain.methods import DPO, SFT
from posttrain.models.token_scores import Head, token_scores
from posttrain.models.trunk import dense_hidden, dense_reason, shared_hidden
from tests.laws.build import apart, gradients
from tests.models.tiny import FAMILIES, tiny

VOCAB = 300


def ragged(seed: int = 0, long: int = 40) -> list[Group]:
    """Groups of one, two and three answers, prompts of one token and more, answers longer than the sliding windows."""
    rng = np.random.default_rng(seed)

    def response(n: int) -> Response:
        return Response(tokens=rng.integers(5, VOCAB, n), trained=np.ones(n, dtype=bool))

    shapes = [(14, (13, 12, long)), (12, (14,)), (1, (3, 4)), (long, (12, 13)), (7, (30,))]
    return [
        Group((), tuple(response(k) for k in ns), prompt_tokens=rng.integers(5, VOCAB, p), preferences=_pairs(len(ns)))
        for p, ns in shapes
    ]


def _pairs(n: int) -> tuple[Preference, ...]:
    return (Preference(0, 1),) if n > 1 else ()


def logps(model: torch.nn.Module, groups: list[Group], way: str, **more: int) -> torch.Tensor:
    batch = layout(groups)
    with torch.no_grad():
        hidden = (shared_hidden if way == "shared" else dense_hidden)(model, batch, batch.source, **more)
        out = token_scores(Head.of(model), hidden, batch.target, Needs(logp=True)).logp
    assert out is not None
    return out


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_shared_equals_padded(family: str) -> None:
    model, _ = tiny(family, seed=1)
    model.eval()
    assert dense_reason(model) is None
    groups = ragged()
    shared, dense = logps(model, groups, "shared"), logps(model, groups, "dense")
    assert float((shared - dense).abs().max()) <= 1e-5
    assert float((logps(model, groups, "dense", extra=9) - dense).abs().max()) <= 1e-5


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_head_equals_the_models_own_logits(family: str) -> None:
    """Scalings of the head that a configuration names are applied: the model's own logits are the oracle."""
    model, _ = tiny(family, seed=1)
    model.eval()
    groups = [g for g in ragged() if len(g.responses) == 1]
    ours = logps(model, groups, "shared")
    rows = []
    for item in groups:
        (answer,) = item.responses
        ids = torch.from_numpy(np.concatenate([item.prompt_tokens, answer.tokens]))[None]
        with torch.no_grad():
            logp = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
        n = len(item.prompt_tokens)
        rows.append(logp[n - 1 : -1].gather(-1, ids[0, n:, None])[:, 0])
    assert float((ours - torch.cat(rows)).abs().max()) <= 1e-4


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3", "gpt2", "mixtral"])
@pytest.mark.parametrize("method", [SFT(), DPO()], ids=["sft", "dpo"])
def test_gradients_are_equal(family: str, method: SFT | DPO) -> None:
    got = {}
    groups = [g for g in ragged() if method.accepts(g) is None]
    for path in ("shared", "dense"):
        model, _ = tiny(family, seed=1)
        engine = LocalEngine(model.eval(), needs=method.needs(), path=path)  # type: ignore[arg-type]
        engine.optimize(Optimizer(), 1e-3, 10)
        for role in engine.roles.values():
            with torch.no_grad():
                for parameter in role.parameters():
                    parameter.mul_(1.01)
        got[path] = gradients(engine, method, method.prepare(engine.layout(groups), engine))
    assert apart(got["shared"], got["dense"]) < 1e-4


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2", "mixtral"])
def test_nothing_leaks(family: str) -> None:
    """Changing one group moves no other; changing one answer moves none of its siblings."""
    model, _ = tiny(family, seed=2)
    model.eval()
    groups = ragged()
    before = logps(model, groups, "shared")
    first = groups[0]
    swapped = replace(first.responses[0], tokens=(first.responses[0].tokens + 7) % VOCAB)
    after = logps(model, [replace(first, responses=(swapped, *first.responses[1:])), *groups[1:]], "shared")
    n = len(first.responses[0].tokens)
    assert float((before[:n] - after[:n]).abs().max()) > 1e-3
    assert float((before[n:] - after[n:]).abs().max()) <= 1e-6


def test_soft_capped_attention_takes_the_dense_path() -> None:
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=VOCAB,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
        )
    ).eval()
    engine = LocalEngine(model)
    assert engine.path == "dense" and "soft-capped" in engine.notes[0]
    groups = ragged()
    out = engine.score(engine.layout(groups), Needs(logp=True)).logp
    assert out is not None and float((out - logps(model, groups, "dense")).abs().max()) <= 1e-5


def test_a_model_that_lies_is_found_out() -> None:
    """The first batch verifies the shared path; a model whose attention ignores the plan falls back to padded rows."""
    model, _ = tiny("llama", seed=3)

    class Liar(type(model.model.layers[0].self_attn)):  # type: ignore[misc]
        def forward(self, *args: object, **kwargs: object) -> object:
            out, weights = super().forward(*args, **kwargs)
            return (out + 0.1 * out.cumsum(1) if "flat" in kwargs else out), weights

    for layer in model.model.layers:
        layer.self_attn.__class__ = Liar
    engine = LocalEngine(model.eval())
    engine.score(engine.layout(ragged()), Needs(logp=True))
    assert engine.path == "dense"
    assert "not shared" in engine.notes[-1]


@pytest.mark.parametrize("limit", [1, 10**9])
def test_chunked_head_gives_the_same(limit: int) -> None:
    """Memory limits of the head change neither values nor gradients."""
    torch.manual_seed(0)
    hidden = torch.randn(50, 16, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(40, 16, dtype=torch.float64, requires_grad=True)
    target, at = torch.randint(0, 40, (50,)), torch.randint(0, 40, (50, 3))
    needs = Needs(logp=True, entropy=True, mean_logp=True, log_sum_sq=True, at_ids="x")
    out = token_scores(Head(weight, None), hidden, target, needs, at, limit)
    logp = (hidden @ weight.T).log_softmax(-1)
    p = logp.exp()
    wanted = {
        "logp": logp.gather(-1, target[:, None])[:, 0],
        "entropy": -(p * logp).sum(-1),
        "mean_logp": logp.mean(-1),
        "log_sum_sq": p.square().sum(-1).log(),
        "at_logp": logp.gather(-1, at),
    }
    for name, value in wanted.items():
        torch.testing.assert_close(getattr(out, name), value)
    mix = torch.randn(50, dtype=torch.float64)
    ours = (out.logp * mix + 0.3 * out.entropy + 0.7 * mix * out.mean_logp).sum() + out.at_logp.sum()  # type: ignore[operator]
    theirs = (wanted["logp"] * mix + 0.3 * wanted["entropy"] + 0.7 * mix * wanted["mean_logp"]).sum() + wanted[
        "at_logp"
    ].sum()
    for a, b in zip(torch.autograd.grad(ours, (hidden, weight)), torch.autograd.grad(theirs, (hidden, weight))):
        torch.testing.assert_close(a, b)
