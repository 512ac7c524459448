"""The project's loop gives the numbers of docs/by_hand.py: every loss and every final weight, SFT and DPO."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from torch import nn

from posttrain.core.group import Group, Preference, Response
from posttrain.core.method import Method
from posttrain.data.source import Offline
from posttrain.engine.local import LocalEngine
from posttrain.engine.optimizer import Optimizer
from posttrain.methods import DPO, SFT
from posttrain.train.loop import train

PAGE = Path(__file__).parents[2] / "docs" / "by_hand.py"
STEPS, PER_STEP, LR = 5, 3, 3e-3


def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("by_hand", PAGE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


by_hand = page()


def rows(answers: int) -> list[Group]:
    """Nine prompts of different lengths, each with that many answers; a pair prefers its first."""
    rng = np.random.default_rng(answers)

    def ids(low: int, high: int) -> np.ndarray:
        return rng.integers(3, 60, int(rng.integers(low, high)))

    made = []
    for _ in range(9):
        texts = [np.append(ids(2, 8), 2) for _ in range(answers)]
        responses = tuple(Response(tokens=t, trained=np.ones(len(t), dtype=bool)) for t in texts)
        preferences = (Preference(0, 1),) if answers == 2 else ()
        made.append(Group((), responses, preferences=preferences, prompt_tokens=ids(1, 9)))
    return made


def by_row(group: Group) -> list[tuple[list[int], list[int]]]:
    return [([*map(int, group.prompt_tokens)], [*map(int, r.tokens)]) for r in group.responses]  # type: ignore[arg-type]


def ours(model: nn.Module, method: Method, groups: list[Group], **engine: Any) -> tuple[list[float], list[list[Group]]]:
    """Losses of the loop, and the groups of each step in the order that the source handed them out."""
    made = LocalEngine(model, needs=method.needs(), **engine)
    made.optimize(Optimizer(schedule="constant", warmup=0.0, clip=1.0, weight_decay=0.0), LR, STEPS)
    source = Offline(groups, PER_STEP, epochs=float("inf"), seed=3)
    losses = [step.metrics["loss"] for step in train(made, method, source, STEPS)]
    handed = [g for _, g in zip(range(STEPS), Offline(groups, PER_STEP, epochs=float("inf"), seed=3).stream())]
    return losses, handed


def assert_same(model: nn.Module, other: nn.Module, start: nn.Module) -> None:
    """Weights within 1e-5 relative per tensor; and they did move."""
    theirs, before = dict(other.named_parameters()), dict(start.named_parameters())
    for name, mine in model.named_parameters():
        scale = theirs[name].norm()
        assert (mine - theirs[name]).norm() <= 1e-5 * scale, name
        assert (mine - before[name]).norm() > 1e-3 * scale, name


@pytest.mark.parametrize("engine", [{}, {"token_budget": 20}, {"path": "dense"}], ids=["whole", "cut", "dense"])
def test_sft(engine: dict[str, Any]) -> None:
    start = by_hand.tiny_llama()
    model, other = copy.deepcopy(start), copy.deepcopy(start)
    losses, handed = ours(model, SFT(), rows(1), **engine)
    expected = by_hand.sft(other, [[row for g in step for row in by_row(g)] for step in handed], LR)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert_same(model, other, start)


@pytest.mark.parametrize("engine", [{}, {"token_budget": 20}, {"path": "dense"}], ids=["whole", "cut", "dense"])
def test_dpo(engine: dict[str, Any]) -> None:
    start = by_hand.tiny_llama()
    model, other = copy.deepcopy(start), copy.deepcopy(start)
    losses, handed = ours(model, DPO(beta=0.3), rows(2), **engine)
    pairs = [[tuple(by_row(g)) for g in step] for step in handed]
    expected = by_hand.dpo(other, pairs, LR, 0.3)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert losses[0] == pytest.approx(np.log(2), rel=1e-5)
    assert_same(model, other, start)


def test_it_is_one_page_of_plain_torch() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 100
    assert "import posttrain" not in text and "from posttrain" not in text
