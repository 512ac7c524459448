"""Drawing: the law, the order of truncations, what is reported before and after, and the bans."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from posttrain.core.protocols import Sampling
from posttrain.rollout.draw import Chooser, draw, pick, row_key, truncate, uniform

STOP = torch.tensor([2])


def test_uniform_numbers_are_uniform_and_depend_on_key_and_position_alone() -> None:
    keys = np.array([row_key([1, 2, 3], 0, i) for i in range(200)], dtype=np.uint64)
    u = np.stack([uniform(keys, np.full(200, p)) for p in range(100)])
    assert 0 <= u.min() < 0.001 < 0.999 < u.max() < 1
    assert abs(u.mean() - 0.5) < 0.01 and abs(u.var() - 1 / 12) < 0.003
    assert abs(np.corrcoef(u[:-1].ravel(), u[1:].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(u[:, :-1].ravel(), u[:, 1:].ravel())[0, 1]) < 0.03
    assert uniform(keys[5:6], np.array([7])) == u[7, 5]
    assert (
        len({row_key([1, 2, 3], 0, 0), row_key([1, 2, 4], 0, 0), row_key([1, 2, 3], 1, 0), row_key([1, 2, 3], 0, 1)})
        == 4
    )


@pytest.mark.parametrize("vocabulary", [7, 64, 300])
def test_pick_follows_the_weights(vocabulary: int) -> None:
    torch.manual_seed(0)
    p = torch.softmax(torch.randn(vocabulary) * 2, -1)
    p[3] = 0
    p /= p.sum()
    n = 40_000
    grid = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    counts = torch.bincount(pick(p.expand(n, -1), grid), minlength=vocabulary) / n
    assert counts[3] == 0
    assert float((counts - p).abs().max()) < 1e-4  # a regular grid of uniforms gives each entry its share
    edge = pick(p.expand(2, -1), torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64))
    assert bool((p[edge] > 0).all())


@pytest.mark.parametrize(
    ("k", "top_p", "min_p"), [(5, 1.0, 0.0), (0, 0.8, 0.0), (0, 1.0, 0.05), (8, 0.7, 0.1), (900, 0.9, 0.0)]
)
@pytest.mark.parametrize("heat", [0.2, 3.0])
def test_truncation_equals_the_warpers_of_transformers(k: int, top_p: float, min_p: float, heat: float) -> None:
    torch.manual_seed(1)
    logits = torch.randn(6, 1000) * heat
    expected = logits
    for on, warper in (
        (k > 0, lambda: TopKLogitsWarper(k)),
        (top_p < 1, lambda: TopPLogitsWarper(top_p)),
        (min_p > 0, lambda: MinPLogitsWarper(min_p)),
    ):
        if on:
            expected = warper()(torch.zeros(6, 1, dtype=torch.long), expected)
    ours = truncate(logits.softmax(-1), torch.full((6,), k), torch.full((6,), top_p), torch.full((6,), min_p))
    torch.testing.assert_close(ours, expected.softmax(-1), atol=1e-6, rtol=1e-4)


def test_rows_keep_their_own_settings_and_both_log_probabilities() -> None:
    torch.manual_seed(2)
    logits = torch.randn(4, 50) * 2
    asked = [
        Sampling(),
        Sampling(temperature=0.5, top_k=1),
        Sampling(temperature=0),
        Sampling(temperature=2, min_p=0.2),
    ]
    rows = [Chooser(s, row_key([1], 0, i), STOP) for i, s in enumerate(asked)]
    tokens, logps, sampled = draw(logits.clone(), rows)
    heat = torch.tensor([1.0, 0.5, 1.0, 2.0]).unsqueeze(1)
    expected = (logits / heat).log_softmax(-1)[range(4), tokens]
    torch.testing.assert_close(torch.tensor(logps), expected, atol=1e-5, rtol=0)
    assert tokens[1] == int(logits[1].argmax()) and sampled[1] == 0.0 and logps[1] < 0
    assert tokens[2] == int(logits[2].argmax()) and sampled[2] == logps[2]
    assert sampled[0] == logps[0] and sampled[3] > logps[3]


def test_min_tokens_bans_stop_ids_and_reports_it() -> None:
    logits = torch.zeros(1, 5)
    logits[0, 2] = 20.0
    row = Chooser(Sampling(min_tokens=1, max_tokens=3), row_key([1], 0, 0), STOP)
    tokens, logps, sampled = draw(logits.clone(), [row])
    assert tokens[0] != 2 and logps[0] < -19 and abs(sampled[0] - np.log(0.25)) < 1e-5
    row.advance(tokens[0])
    assert draw(logits.clone(), [row])[0] == [2]


def test_everything_forbidden_is_one_clear_error() -> None:
    class Nothing:
        def start(self, request: object) -> None: ...

        def mask(self, state: object) -> torch.Tensor:
            return torch.zeros(5, dtype=torch.bool)

        def adjust(self, state: object, logits: torch.Tensor) -> torch.Tensor:
            return logits

        def advance(self, state: object, token: int) -> None: ...

    with pytest.raises(ValueError, match="every token is forbidden"):
        draw(torch.zeros(1, 5), [Chooser(Sampling(), 1, STOP, steer=Nothing())])
