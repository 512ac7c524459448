"""A sample depends on its prompt, seed and index alone: bit for bit the same alone and in any company (CPU, fp32, one thread)."""

from __future__ import annotations

import pytest
import torch

from posttrain.core.protocols import Sampling
from posttrain.native.library import library
from posttrain.rollout.attention import attend, key_width
from posttrain.rollout.native import Native
from tests.rollout.models import prompts, sampler_of


@pytest.fixture(autouse=True, params=["kernels", "torch"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to compute a step of the fused path."""
    if request.param == "torch":
        monkeypatch.setattr(Native, "of", classmethod(lambda *_: None))
    elif library() is None:
        pytest.skip("no C compiler here")


@pytest.mark.parametrize(("family", "heads"), [("llama", 2), ("llama", 4), ("gemma3", 2), ("mistral", 2), ("gpt2", 2)])
def test_alone_and_in_a_batch_of_32(family: str, heads: int) -> None:
    texts = prompts((5, 33, 12, 40, 20, 7, 250, 64))
    wide, narrow = sampler_of(family, slots=32, heads=heads), sampler_of(family, slots=5, heads=heads)
    together = wide.decode(texts, Sampling(max_tokens=24), n=4, seed=3)
    for i in (0, 3, 5):
        alone = narrow.decode([texts[i]], Sampling(max_tokens=24), n=4, seed=3)[0]
        assert [s.tokens for s in alone] == [s.tokens for s in together[i]]
        if family != "gpt2":  # cohorts of another size run through kernels that we do not choose
            assert [s.logps for s in alone] == [s.logps for s in together[i]]


def test_mixed_company_of_short_long_single_and_shared() -> None:
    sampler = sampler_of("llama", slots=6)
    texts = prompts((9, 200, 30))
    jobs = [
        sampler.job(texts[0], Sampling(max_tokens=30), 1, 7, "a"),
        sampler.job(texts[1], Sampling(max_tokens=9, top_k=20), 3, 7, "b"),
        sampler.job(texts[2], Sampling(temperature=0.5, max_tokens=50), 5, 7, "c"),
    ]
    mixed = sampler._finish(jobs)
    assert [len(m) for m in mixed] == [1, 3, 5]
    assert mixed[0][0].tokens == sampler.decode([texts[0]], Sampling(max_tokens=30), seed=7)[0][0].tokens
    again = sampler.decode([texts[2]], Sampling(temperature=0.5, max_tokens=50), n=5, seed=7)[0]
    assert [s.tokens for s in mixed[2]] == [s.tokens for s in again]
    assert len({tuple(s.tokens) for s in mixed[2]}) == 5


def test_seeds_and_indices_differ() -> None:
    sampler = sampler_of("llama")
    text = prompts((9,))
    first, second = (sampler.decode(text, Sampling(max_tokens=20), n=2, seed=s)[0] for s in (0, 1))
    assert len({tuple(s.tokens) for s in first + second}) == 4


@pytest.mark.parametrize("queries", [1, 2, 3, 4, 8])
def test_masked_keys_leave_every_bit_alone(queries: int) -> None:
    torch.manual_seed(0)
    q, kv = torch.randn(2, 3, queries, 16), torch.randn(2, 6, 700, 16)
    for n in (3, 60, 150, 250, 500):
        widths = sorted({key_width(m, queries) for m in (n, n + 9, 190, 250, 390, 600) if m >= n})
        outs = []
        for width in widths:
            mask = torch.where(torch.arange(width) < n, 0.0, -1e30)[None, None, None]
            outs.append(attend(q, kv[:, :3, :width], kv[:, 3:, :width], mask, 0.25)[0])
        assert all(torch.equal(outs[0], o) for o in outs), (n, widths)


def test_memory_is_bounded_and_flat() -> None:
    sampler = sampler_of("llama", slots=4)
    texts = prompts((30, 50, 10, 40, 20, 60))
    sampler.decode(texts, Sampling(max_tokens=12), n=3)
    decoder = sampler._decoder
    assert decoder is not None
    size = decoder.nbytes()  # type: ignore[union-attr]
    for _ in range(2):
        sampler.decode(texts, Sampling(max_tokens=12), n=3)
    assert decoder.nbytes() == size  # type: ignore[union-attr]
    assert decoder.live == 0
    assert not decoder.places  # type: ignore[union-attr]
    model = sampler.model.config
    per_token = 2 * model.num_hidden_layers * model.num_key_value_heads * model.head_dim * 4
    assert size <= 2 * 4 * per_token * 512


@pytest.mark.parametrize("shape", [(3, 5), (700, 1000)])
def test_paged_memory_is_a_plain_tensor_of_zeros(shape: tuple[int, int]) -> None:
    from posttrain.rollout.pages import zeros

    made = zeros(*shape, dtype=torch.float32, device=torch.device("cpu"))
    assert made.shape == shape and not made.any()
    made += 1
    assert float(made.sum()) == made.numel() and made.is_contiguous()
    del made
