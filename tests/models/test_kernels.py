"""Attention kernels for GPUs against the buckets, on the CPU: the same plan, the same numbers, and the choice between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from posttrain.core.batch import Batch, layout
from posttrain.engine import fastest as choice
from posttrain.engine.local import LocalEngine
from posttrain.models import kernels
from posttrain.models.attention import plan
from posttrain.models.kernels import FlexPlan, VarlenPlan
from posttrain.models.trunk import shared_hidden
from tests.models.test_shared_prefix import ragged
from tests.models.tiny import tiny


def sequences(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    query_starts: Tensor,
    key_starts: Tensor,
    longest_query: int,
    longest_key: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Tensor:
    """What `varlen_attn` documents, sequence by sequence: causal from the bottom right, a window of keys to the left."""
    made = []
    for s in range(len(query_starts) - 1):
        a, b = query_starts[s : s + 2].tolist()
        c, d = key_starts[s : s + 2].tolist()
        assert b - a <= longest_query and d - c <= longest_key and window_size[1] == 0
        i = torch.arange(b - a)[:, None] + (d - c) - (b - a)
        j = torch.arange(d - c)[None]
        seen = (j <= i) if window_size[0] < 0 else (j <= i) & (j >= i - window_size[0])
        heads = (x.transpose(0, 1)[None] for x in (q[a:b], k[c:d], v[c:d]))
        out = F.scaled_dot_product_attention(*heads, attn_mask=seen, scale=scale, enable_gqa=enable_gqa)
        made.append(out[0].transpose(0, 1))
    return torch.cat(made)


def tensors(batch: Batch, heads: int = 4, keys: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(batch.T, heads, 8), torch.randn(batch.T, keys, 8), torch.randn(batch.T, keys, 8)


@pytest.mark.parametrize("window", [None, 1, 9])
def test_both_plans_equal_the_buckets(window: int | None) -> None:
    batch = layout(ragged())
    q, k, v = tensors(batch)
    want = plan(batch).attend(q, k, v, 0.3, window)
    varlen = VarlenPlan.of(batch)
    varlen.call = sequences
    assert torch.allclose(varlen.attend(q, k, v, 0.3, window), want, atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(FlexPlan.of(batch).attend(q, k, v, 0.3, window), want, atol=1e-6)


def test_gradients_flow_through_the_gathered_keys() -> None:
    """A prompt's keys are read by all its answers: their gradients add up as they do in the buckets."""
    batch = layout(ragged())
    varlen = VarlenPlan.of(batch)
    varlen.call = sequences
    made = []
    for attend in (plan(batch).attend, varlen.attend):
        q, k, v = (x.requires_grad_() for x in tensors(batch))
        made.append(torch.autograd.grad(attend(q, k, v, None, None).square().sum(), (q, k, v)))
    for a, b in zip(*made, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3"])
def test_through_a_model(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scale, window and grouped heads reach the kernel from the model's own layers."""
    model, _ = tiny(family, seed=1)
    model.eval()
    batch = layout(ragged())
    monkeypatch.setattr(kernels, "_varlen", lambda: sequences)
    with torch.no_grad():
        want = shared_hidden(model, batch, batch.source)
        for name in ("varlen", "flex"):
            assert torch.allclose(shared_hidden(model, batch, batch.source, name), want, atol=1e-5), name


def ticks(*seconds: float) -> Any:
    """A clock under which each timed call takes the next of these times, `REPEATS` calls each."""

    def times() -> Iterator[float]:
        now = 0.0
        for s in seconds:
            for _ in range(choice.REPEATS):
                yield now
                now += s
                yield now

    return times().__next__


def test_the_fastest_right_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = tiny("llama", seed=1)
    batch = layout(ragged())
    monkeypatch.setattr(kernels, "_varlen", lambda: sequences)
    said: list[str] = []
    assert choice.fastest(model, batch, said.append, ("varlen",), ticks(0.2, 0.1)) == "varlen"
    assert "varlen 100 ms, buckets 200 ms" in said[0]
    assert choice.fastest(model, batch, said.append, ("varlen",), ticks(0.1, 0.2)) == "buckets"
    assert all(p.grad is None for p in model.parameters())


def test_a_wrong_or_missing_kernel_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys aligned at the top left, as SDPA's own rule has them, are seen in the numbers; flex cannot train on a CPU."""
    model, _ = tiny("llama", seed=1)
    batch = layout(ragged())

    def top_left(q: Tensor, k: Tensor, v: Tensor, *rest: Any, **named: Any) -> Tensor:
        return sequences(q, k, v, *rest, **named) + 0.1 * q

    monkeypatch.setattr(kernels, "_varlen", lambda: top_left)
    said: list[str] = []
    assert choice.fastest(model, batch, said.append) == "buckets"
    assert "varlen differs by" in said[0] and "flex does not run here" in said[0]


def test_an_engine_measures_once_and_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    from posttrain.methods import SFT

    model, _ = tiny("llama", seed=1)
    monkeypatch.setattr(kernels, "_varlen", lambda: sequences)
    engine = LocalEngine(model, path="shared")
    assert engine.attention == kernels.on_cpu()  # a CPU has no choice
    engine.attention = None
    groups = [g for g in ragged() if len(g.responses) == 1]
    method = SFT()
    batch = engine.layout(groups)
    engine.forward(batch, method.needs())
    chosen = engine.attention
    assert chosen in ("buckets", "varlen") and sum("attention by" in n for n in engine.notes) == 1
    engine.forward(batch, method.needs())
    assert sum("attention by" in n for n in engine.notes) == 1 and engine.state()["attention"] == chosen


def test_a_cpu_refuses_the_kernels_of_gpus() -> None:
    from posttrain.jobs.train import Train

    job = Train(model="m", method="sft", data="d.jsonl", out="o", attention="flex", device="cpu")
    with pytest.raises(ValueError, match="attention: flex trains on CUDA GPUs alone"):
        job.pick_attention()
    assert job.changed(attention="buckets").pick_attention() == "buckets"
    assert job.changed(attention="auto").pick_attention() is None


def test_np_shapes_of_the_plan() -> None:
    """Keys of an answer are its prompt's and its own; every place of the stream has one output."""
    batch = layout(ragged())
    made = VarlenPlan.of(batch)
    assert sorted(made.queries.tolist()) == list(range(batch.T))
    assert int(made.key_starts[-1]) == len(made.keys) > batch.T
    assert np.array_equal(made.queries[made.back].numpy(), np.arange(batch.T))
