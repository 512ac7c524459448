"""The project's loop gives the numbers of docs/by_hand_ppo.py: every pass of every step, weights, values and the adaptive coefficient."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from posttrain.core.group import Group, Response, Score
from posttrain.engine.local import LocalEngine
from posttrain.engine.optimizer import Optimizer
from posttrain.methods import PPO
from posttrain.models.heads import value_head
from posttrain.train.loop import learn
from tests.docs.test_by_hand import by_hand as sft_page

PAGE = Path(__file__).parents[2] / "docs" / "by_hand_ppo.py"


def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("by_hand_ppo", PAGE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["by_hand_ppo"] = module  # its dataclass looks its own module up
    spec.loader.exec_module(module)
    return module


by_hand = page()


def answers(seed: int) -> list[list[Any]]:
    """Four steps of five answers to prompts of different lengths, with scores."""
    rng = np.random.default_rng(seed)

    def ids(low: int, high: int) -> list[int]:
        return rng.integers(3, 60, int(rng.integers(low, high))).tolist()

    return [[(ids(1, 9), [*ids(1, 8), 2], float(rng.normal())) for _ in range(5)] for _ in range(4)]


def as_groups(rows: list[Any]) -> list[Group]:
    return [
        Group(
            (),
            (Response(tokens=np.array(a), trained=np.ones(len(a), dtype=bool), score=Score(s), stop="stop"),),
            prompt_tokens=np.array(p),
        )
        for p, a, s in rows
    ]


class Passes(LocalEngine):
    """Keeps the losses of each update, which a step's metrics average."""

    losses: list[float]

    def backward(self, loss: torch.Tensor) -> None:
        self.losses[-1] += float(loss.detach())
        super().backward(loss)

    def step(self) -> dict[str, float]:
        self.losses.append(0.0)
        return super().step()


@pytest.mark.parametrize("engine", [{}, {"token_budget": 20}, {"path": "dense"}], ids=["whole", "cut", "dense"])
@pytest.mark.parametrize("target", [None, 0.02])
def test_ppo_step_for_step(engine: dict[str, Any], target: float | None) -> None:
    settings = by_hand.Settings(beta=0.3, target=target, lr=1e-2)
    start = sft_page.tiny_llama()
    net = by_hand.ActorCritic(copy.deepcopy(start))
    batches = answers(3)
    control: Any = "fixed" if target is None else {"name": "adaptive", "target": target}
    method = PPO(beta=0.3, control=control, running=())
    made = Passes(copy.deepcopy(start), {"value": value_head(32)}, needs=method.needs(), **engine)
    made.losses = [0.0]
    made.optimize(Optimizer(schedule="constant", warmup=0.0, clip=1.0, weight_decay=0.0), 1e-2, 16)
    steps = [learn(made, method, as_groups(rows), n + 1) for n, rows in enumerate(batches)]
    expected = by_hand.ppo(net, batches, settings)
    np.testing.assert_allclose(made.losses[:-1], np.ravel(expected), rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose([s.metrics["loss"] for s in steps], np.mean(expected, axis=1), rtol=2e-4, atol=2e-6)
    assert method.state()["beta"] == pytest.approx(settings.beta, rel=1e-5)
    assert (method.state()["beta"] == 0.3) == (target is None)
    assert steps[0].metrics["kl"] == pytest.approx(0.0, abs=1e-6)
    same(made.model, net.model, start)
    assert torch.allclose(made.heads["value"].weight, net.value.weight, rtol=1e-3, atol=1e-5)
    assert float(net.value.weight.detach().norm()) > 1e-3


def same(mine: nn.Module, theirs: nn.Module, start: nn.Module) -> None:
    """Weights within 1e-4 of their norm, and they did move."""
    other, before = dict(theirs.named_parameters()), dict(start.named_parameters())
    for name, value in mine.named_parameters():
        scale = other[name].norm()
        assert (value - other[name]).norm() <= 1e-4 * scale, name
        assert (value - before[name]).norm() > 1e-3 * scale, name


def test_it_is_one_page_of_plain_torch() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 140
    assert "import posttrain" not in text and "from posttrain" not in text
