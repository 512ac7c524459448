"""The floors that measured steps are held against: counted by hand on small shapes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import floors
import workload

ON = floors.Machine(flops=1e9, bandwidth=1e9, decode=0.01)
SIZE = workload.SIZES["6m"]
TRUNK = SIZE.layers * (4 * SIZE.hidden**2 + 3 * SIZE.hidden * SIZE.inner)


def row(prompt: int, *answers: int) -> dict[str, object]:
    return {"prompt": [0] * prompt, "answers": [[0] * a for a in answers]}


def test_operations_of_a_forward() -> None:
    made = floors.forward("6m", 3, [2, 1], scored=True, shared=True)
    assert made.products == 2 * TRUNK * 6 + 2 * SIZE.hidden * SIZE.vocab * 3
    # Pairs: 6 inside the prompt, 2 answers of 3*2 + 3 and 3*1 + 1.
    assert made.attention == 4 * SIZE.hidden * SIZE.layers * (6 + 9 + 4)
    alone = floors.forward("6m", 3, [2, 1], scored=True, shared=False)
    assert alone.products - made.products == 2 * TRUNK * 3
    assert alone.attention == 4 * SIZE.hidden * SIZE.layers * (15 + 10)


def test_a_step_is_three_forwards_and_attention_half_a_one_more() -> None:
    once = floors.forward("6m", 50, [30], scored=True, shared=True)
    found = floors.phases("sft", "6m", [row(50, 30)] * workload.SHAPES["sft"].groups, ON)
    assert found["train"] == pytest.approx(
        workload.SHAPES["sft"].groups * (3 * once.products + 3.5 * once.attention) / 1e9
    )
    assert found["optimizer"] == pytest.approx(28 * (TRUNK + SIZE.vocab * SIZE.hidden) / 1e9)
    assert set(found) == {"train", "optimizer"}


def test_the_reference_counts_unless_it_was_kept() -> None:
    rows = [row(20, 5, 5)] * workload.SHAPES["dpo"].groups
    live, kept = floors.phases("dpo", "6m", rows, ON), floors.phases("dpo", "6m", rows, ON, kept=True)
    assert live["reference"] > 0 and "reference" not in kept and live["train"] == kept["train"]


def test_sampling_is_prefill_and_thin_steps() -> None:
    shape = workload.SHAPES["grpo"]
    rows = [row(shape.prompt, *[shape.answer] * shape.answers)] * (2 * shape.groups)
    found = floors.phases("grpo", "6m", rows, ON)
    assert found["decode"] == pytest.approx(2 * shape.answer * ON.decode)
    once = floors.forward("6m", shape.prompt, [], False, True)
    assert found["prefill"] == pytest.approx(2 * shape.groups * (once.products + once.attention) / 1e9)
    apart = floors.phases("grpo", "6m", rows, ON, shared=False)
    assert apart["prefill"] == pytest.approx(shape.answers * found["prefill"])


def test_rates_are_measured() -> None:
    found = floors.machine("grpo", "6m", 1)
    assert found.flops > 1e9 and found.bandwidth > 1e8 and found.decode > 1e-5
