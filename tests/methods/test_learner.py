"""By hand equals the loop: sample, score, step through `Learner` give the metrics of `train` over `Rollouts`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from posttrain.core.chat import as_chat
from posttrain.core.group import Group
from posttrain.core.method import Method
from posttrain.core.protocols import Sampling
from posttrain.data.source import Offline
from posttrain.engine.local import LocalEngine
from posttrain.engine.optimizer import Optimizer
from posttrain.methods import GRPO, PPO
from posttrain.models import heads
from posttrain.rewards import as_reward
from posttrain.rollout.policy import Policy
from posttrain.rollout.rollouts import Rollouts
from posttrain.train.learner import Learner
from posttrain.train.loop import train
from tests.jobs.tiny_run import base


def shortness(prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
    return [-float(len(a)) / 10 for a in answers]


@pytest.mark.parametrize("method", [GRPO(beta=0.1), PPO(passes=2)], ids=lambda m: m.name)
def test_by_hand_has_the_numbers_of_the_loop(method: Method, tmp_path: Path) -> None:
    model = base(tmp_path)
    asked = [Group(as_chat(f"What is {i} + 1?")) for i in range(2)]
    learner = Learner.open(model, method.model_copy(deep=True), lr=1e-3)
    mine = []
    for _ in range(3):
        answered = learner.sample(asked, n=3, max_new_tokens=6)
        mine.append(learner.step(learner.scored(answered, shortness)).metrics)

    policy, needs = Policy.open(model), method.needs()
    engine = LocalEngine(policy.loaded.model, heads.for_needs(policy.loaded, needs), needs=needs)
    head_lr = 1e-3 if needs.value else None
    engine.optimize(Optimizer(schedule="constant", warmup=0.0, head_lr=head_lr), 1e-3, 3)
    source = Rollouts(
        Offline(asked, 2, steps=3, shuffle=False), policy.sampler, as_reward(shortness), 3, Sampling(max_tokens=6)
    )
    fresh = type(method)(**dict(method))
    theirs = [s.metrics for s in train(engine, fresh, source, 3)]
    assert [m["reward"] for m in mine] == [m["reward"] for m in theirs]
    assert mine == theirs


def test_an_answer_without_a_score_is_named(tmp_path: Path) -> None:
    learner = Learner.open(base(tmp_path), GRPO())
    answered = learner.sample(["2 + 2?"], n=2, max_new_tokens=3)
    with pytest.raises(ValueError, match="attach scores first"):
        learner.step(answered)
