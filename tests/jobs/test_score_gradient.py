"""Searches against a local reward model follow its gradient: its proposals gain more than chance, and the attack says that it used it."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from posttrain.audit import attack_reward_model
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


def random_swaps(reward: ModelReward, suffix: str, n: int) -> list[str]:
    """The suffix with one token replaced by any other, where the text is cut into these tokens again: chance in the same moves."""
    tokenizer = reward.loaded.tokenizer
    ids, draw = tokenizer(suffix, add_special_tokens=False)["input_ids"], random.Random(0)
    out: list[str] = []
    while len(out) < n:
        changed = list(ids)
        changed[draw.randrange(len(ids))] = draw.randrange(len(tokenizer))
        text = tokenizer.decode(changed)
        if text.isprintable() and tokenizer(text, add_special_tokens=False)["input_ids"] == changed:
            out.append(text.strip())
    return out


@pytest.mark.parametrize("up", [True, False])
def test_proposals_beat_chance(reward: ModelReward, up: bool) -> None:
    suffix = "good thanks yes"
    found = reward.swaps(answers(suffix), suffix, 8, up)
    assert 1 <= len(found) <= 8 and suffix not in found
    chance = [mean(reward, s) for s in random_swaps(reward, suffix, 40)]
    led = np.mean([mean(reward, s) for s in found]) - np.mean(chance)
    assert (led if up else -led) > np.std(chance)


def test_the_attack_uses_it(reward: ModelReward) -> None:
    found = attack_reward_model(reward, prompts=PROMPTS, budget=150)
    assert found.gradient and found.gain > 0 and found.asked <= 150
