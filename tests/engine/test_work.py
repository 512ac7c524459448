"""Operations counted by hand, a peak that is measured once, and the figures of the progress line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from posttrain.engine import work
from posttrain.engine.work import Work, attended
from posttrain.methods.dpo import DPO, pairs
from posttrain.methods.sft import SFT
from posttrain.train.hooks import Meter
from posttrain.train.loop import Step, learn
from tests.laws.build import WIDTH, engine_for


def test_operations_by_hand() -> None:
    """Two layers of width 32: prompts 6 and 2, answers (10, 5) and (4, 6); grouped keys of half the width."""
    engine = engine_for(DPO())
    batch = engine.layout(pairs())
    entries = 2 * (2 * WIDTH * WIDTH + 2 * WIDTH * (WIDTH // 2) + 3 * WIDTH * 48)
    tokens = 6 + 15 + 2 + 10
    pairs_seen = 21 + (60 + 55) + (30 + 15) + 3 + (8 + 10) + (12 + 21)
    assert attended(batch) == (tokens, pairs_seen)
    made = Work(engine.model)
    assert made.forward(batch, False) == 2 * entries * tokens + 4 * WIDTH * 2 * pairs_seen
    assert made.forward(batch, True) - made.forward(batch, False) == 2 * WIDTH * 64 * 25


def test_a_step_counts_three_forwards_and_one_for_a_live_reference() -> None:
    for method, forwards in ((SFT(), 3), (DPO(), 4)):
        engine = engine_for(method, path="shared")
        batch = engine.layout(pairs())
        learn(engine, method, pairs(), 1)
        assert engine.flops == pytest.approx(forwards * Work(engine.model).forward(batch, True))


def test_the_peak_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path))
    monkeypatch.setitem(work.SIZE, "cpu", 256)
    first = work.peak(torch.device("cpu"), torch.float32)
    assert first > 1e8 and len(list(tmp_path.glob("peak-*.json"))) == 1
    monkeypatch.setattr(work, "measured_peak", lambda *_: pytest.fail("measured again"))
    assert work.peak(torch.device("cpu"), torch.float32) == first


def test_the_meter_tells_speed_share_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "peak", lambda *_: 1e9)
    meter = Meter(engine_for(SFT()))
    meter(Step(1, {}, {"token": 500.0}, 800, seconds=0.25, flops=1.25e8))
    assert meter.latest["tokens_per_second"] == 2000 and meter.latest["share_of_peak"] == 0.5
    assert 50 < meter.latest["memory_mib"] < 100_000
    assert meter.told().startswith("2,000 tok/s 50% peak ")
