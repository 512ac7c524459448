"""Attention by the kernels against the buckets: outputs and gradients, windows, grouped heads, any lengths, any number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from posttrain.core.batch import Batch, layout
from posttrain.core.group import Group, Response
from posttrain.models.attention import plan
from posttrain.models.native_attention import NativePlan, fits
from posttrain.native.library import library
from tests.models.test_shared_prefix import ragged

pytestmark = pytest.mark.skipif(library() is None, reason="no C compiler here")


def groups(sizes: list[tuple[int, list[int]]]) -> list[Group]:
    """Groups of a prompt and answers of so many tokens."""

    def ids(n: int) -> np.ndarray:
        return np.arange(5, 5 + n)

    made = []
    for prompt, answers in sizes:
        responses = [Response(tokens=ids(n), trained=np.ones(n, dtype=np.int8)) for n in answers]
        made.append(Group((), tuple(responses), prompt_tokens=ids(prompt)))
    return made


Heads = tuple[Tensor, Tensor, Tensor]


def heads(batch: Batch, queries: int, keys: int, size: int, times: float = 1.0) -> Heads:
    torch.manual_seed(0)
    q, k, v = ((torch.randn(batch.T, n, size) * times).requires_grad_() for n in (queries, keys, keys))
    return q, k, v


def both(made: NativePlan, batch: Batch, given: Heads, window: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """(kernel, buckets) of the output and of each gradient."""
    towards = torch.randn(given[0].shape, generator=torch.Generator().manual_seed(1))
    outs = [p.attend(*given, None, window) for p in (made, plan(batch))]
    yield outs[0], outs[1]
    grads = [torch.autograd.grad((out * towards).sum(), given) for out in outs]
    yield from zip(*grads, strict=True)


@pytest.mark.parametrize("window", [None, 1, 9, 40])
@pytest.mark.parametrize(("queries", "keys", "size"), [(4, 4, 16), (4, 2, 32), (6, 2, 64), (2, 1, 128)])
def test_native_equals_the_buckets(queries: int, keys: int, size: int, window: int | None) -> None:
    batch = layout(ragged())
    given = heads(batch, queries, keys, size)
    for ours, theirs in both(NativePlan.of(batch), batch, given, window):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "sizes",
    [[(1, [1])], [(16, [16, 16])], [(17, [1, 15, 33]), (1, [50])], [(100, [64] * 8)], [(25, [200]), (6, [24, 25])]],
)
def test_lengths_around_the_edges_of_tiles(sizes: list[tuple[int, list[int]]]) -> None:
    batch = layout(groups(sizes))
    for ours, theirs in both(NativePlan.of(batch), batch, heads(batch, 2, 2, 32), None):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_group_is_blind_to_the_others() -> None:
    batch = layout(groups([(9, [5, 7]), (12, [30]), (3, [8, 8])]))
    q, k, v = (x.detach() for x in heads(batch, 2, 2, 16))
    made = NativePlan.of(batch)
    before = made.attend(q, k, v, None, None)
    at = slice(int(batch.prompt_start[1]), int(batch.start[2] + batch.length[2]))
    for x in (q, k, v):
        x[at] += 3.0
    after = made.attend(q, k, v, None, None)
    others = torch.ones(batch.T, dtype=torch.bool)
    others[at] = False
    assert torch.equal(before[others], after[others]) and not torch.allclose(before[at], after[at])


def test_threads_leave_every_bit_alone() -> None:
    batch = layout(groups([(40, [20, 30]), (10, [90]), (33, [7, 8, 9]), (5, [5])]))
    given, made, before = heads(batch, 2, 2, 32), NativePlan.of(batch), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = made.attend(*given, None, None)
            results.append((out, *torch.autograd.grad(out.square().sum(), given)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_large_scores_do_not_overflow() -> None:
    batch = layout(groups([(20, [10, 12])]))
    given = heads(batch, 2, 2, 16, 60.0)
    for ours, theirs in both(NativePlan.of(batch), batch, given, None):
        assert torch.isfinite(ours).all()
        torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=1e-3)


def test_heads_that_do_not_fit_go_through_the_buckets() -> None:
    batch = layout(ragged())
    for size, dtype in ((8, torch.float32), (16, torch.float64)):
        q, k, v = (x.detach().to(dtype) for x in heads(batch, 4, 2, size))
        assert not fits(q, k, v)
        assert torch.equal(NativePlan.of(batch).attend(q, k, v, None, 9), plan(batch).attend(q, k, v, None, 9))
    q, k, v = (x.detach() for x in heads(batch, 4, 4, 32))
    narrow = v[..., :16].contiguous()
    assert not fits(q, k, narrow)  # values narrower than keys
