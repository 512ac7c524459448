"""Searches against a local reward model follow its gradient: its proposals gain more than chance, and the attack says that it used it."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from posttrain.audit import attack_reward_model, words
from posttrain.core.group import Group, group
from posttrain.jobs.scoring import ModelReward
from tests.jobs.tiny_run import reward_run

PROMPTS = [f"What is {i} + 1?" for i in range(6)]


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> ModelReward:
    root: Path = tmp_path_factory.mktemp("gradient")
    return ModelReward(reward_run(root))


def answers(suffix: str) -> list[Group]:
    return [group(p, f"It is so. {suffix}") for p in PROMPTS]


def mean(reward: ModelReward, suffix: str) -> float:
    return float(np.mean([row[0].value or 0.0 for row in reward(answers(suffix))]))


@pytest.mark.parametrize("up", [True, False])
def test_proposals_beat_chance(reward: ModelReward, up: bool) -> None:
    suffix = "good thanks yes"
    found = reward.swaps(answers(suffix), suffix, 8, up)
    assert 1 <= len(found) <= 8 and suffix not in found
    rng, said = random.Random(0), suffix.split()
    chance = [" ".join([rng.choice(words.SUFFIX_WORDS), *said[1:]]) for _ in range(12)]
    best = max if up else min  # what the search keeps of the proposals
    led = best(mean(reward, s) for s in found) - np.mean([mean(reward, s) for s in chance])
    assert led > 0 if up else led < 0


def test_the_attack_uses_it(reward: ModelReward) -> None:
    found = attack_reward_model(reward, prompts=PROMPTS, budget=150)
    assert found.gradient and found.gain > 0 and found.asked <= 150
