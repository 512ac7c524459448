"""Scores of frozen models kept on disk: the same bits with and without, read by later passes and runs, void where anything changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from posttrain.core.needs import Needs
from posttrain.data.source import Offline
from posttrain.engine.kept import Kept, keepable
from posttrain.methods.distill import Distill, lessons
from posttrain.methods.dpo import DPO, MovingReference, pairs
from posttrain.train.loop import train
from tests.laws.build import engine_for

LOGP = Needs(logp=True)


def weights_after(method: DPO | Distill, kept: Kept | None, steps: int = 4) -> dict[str, torch.Tensor]:
    engine = engine_for(method)
    engine.kept = kept
    groups = pairs() if isinstance(method, DPO) else lessons()
    for _ in train(engine, method, Offline(groups, 2, epochs=float("inf"), shuffle=False), steps):
        pass
    return {n: p.detach().clone() for n, p in engine.named_parameters().items()}


@pytest.mark.parametrize("method", [DPO(), Distill(k=5), Distill(k=None, temperature=2.0)], ids=repr)
def test_the_bits_are_those_without_it(method: DPO | Distill, tmp_path: Path) -> None:
    without = weights_after(method, None)
    cold = Kept(tmp_path)
    filled = weights_after(method, cold)
    warm = Kept(tmp_path)
    again = weights_after(method, warm)
    rows = sum(len(g.responses) for g in (pairs() if isinstance(method, DPO) else lessons()))
    assert cold.counts() == {"hits": 3 * rows, "misses": rows}
    assert warm.counts() == {"hits": 4 * rows, "misses": 0}
    for name, value in without.items():
        assert torch.equal(value, filled[name]) and torch.equal(value, again[name]), name


def test_a_sweep_of_beta_reads_what_the_first_run_kept(tmp_path: Path) -> None:
    weights_after(DPO(beta=0.1), Kept(tmp_path))
    second = Kept(tmp_path)
    moved = weights_after(DPO(beta=0.5), second)
    assert second.misses == 0
    alone = weights_after(DPO(beta=0.5), None)
    assert all(torch.equal(v, moved[n]) for n, v in alone.items())


def test_a_batch_known_in_part_has_the_rest_computed(tmp_path: Path) -> None:
    engine = engine_for(DPO())
    groups = pairs()
    plain = engine.score(engine.layout(groups), LOGP, "reference").logp
    engine.kept = Kept(tmp_path)
    engine.score(engine.layout(groups[1:]), LOGP, "reference")
    mixed = engine.score(engine.layout(groups), LOGP, "reference").logp
    assert plain is not None and mixed is not None
    assert engine.kept.counts() == {"hits": 2, "misses": 4}
    assert torch.allclose(plain, mixed, atol=1e-6)


def test_other_tokens_weights_or_questions_find_nothing(tmp_path: Path) -> None:
    engine = engine_for(DPO())
    engine.kept = kept = Kept(tmp_path)
    batch = engine.layout(pairs())
    engine.score(batch, LOGP, "reference")
    assert kept.misses == 4
    engine.score(batch, Needs(logp=True, temperature=0.5), "reference")
    assert kept.misses == 8
    other = engine_for(DPO(), seed=3)
    other.kept = kept
    other.score(batch, LOGP, "reference")
    assert kept.misses == 12
    changed = pairs()
    assert changed[0].prompt_tokens is not None
    changed[0].prompt_tokens[0] += 1
    engine.score(engine.layout(changed), LOGP, "reference")
    assert (kept.misses, kept.hits) == (14, 2)


def test_a_moved_reference_is_computed_anew(tmp_path: Path) -> None:
    method = DPO(moving=MovingReference(every=1, share=0.5))
    kept = Kept(tmp_path)
    assert all(torch.equal(v, weights_after(method, None)[n]) for n, v in weights_after(method, kept).items())
    assert kept.hits == 0


def test_the_policy_and_trained_heads_are_never_kept(tmp_path: Path) -> None:
    engine = engine_for(DPO())
    engine.kept = Kept(tmp_path)
    engine.score(engine.layout(pairs()), LOGP)
    assert engine.kept.counts() == {"hits": 0, "misses": 0}
    assert not keepable(Needs(score=1)) and not keepable(Needs(logp=True, at_ids="x"))
