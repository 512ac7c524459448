"""PPO, GRPO and their kin by hand: sample, attach scores, step, read what the step says. The loop's own numbers, one call at a time.

    learner = Learner.open("runs/sft", GRPO(beta=0.04), lr=1e-6)
    for prompts in batches:
        answered = learner.sample(prompts, n=8, max_new_tokens=64)
        step = learner.step(learner.scored(answered, my_reward))
        print(step.metrics["reward"], step.metrics["kl"])

Scores may come from anywhere: a reward, a person, your own code that fills `Response.score`. Leaves out resuming, checks and logs: that is
`Train`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from posttrain.core.chat import Chat, as_chat
from posttrain.core.group import Group
from posttrain.core.method import Method
from posttrain.core.protocols import Request, Sampling
from posttrain.engine.local import LocalEngine
from posttrain.engine.optimizer import Optimizer
from posttrain.models import heads
from posttrain.models.load import save
from posttrain.rewards import as_reward
from posttrain.rollout.policy import Policy
from posttrain.rollout.rollouts import scored
from posttrain.train.loop import Step, learn


class Learner:
    """A policy and a method that teaches it. `engine` computes, `policy` answers; both hold the same weights."""

    def __init__(self, policy: Policy, method: Method, lr: float | None = None, seed: int = 0) -> None:
        """lr: constant; None takes the method's default for full weights. seed: of the draws and of shuffled minibatches."""
        needs, rate = method.needs(), lr or method.learning_rate[0]
        self.policy, self.method, self.seed, self.number = policy, method, seed, 0
        self.engine = LocalEngine(policy.loaded.model, heads.for_needs(policy.loaded, needs), needs=needs)
        head_lr = None if method.head_learning_rate is None else max(method.head_learning_rate, rate)
        self.engine.optimize(Optimizer(schedule="constant", warmup=0.0, head_lr=head_lr), rate, 1)

    @classmethod
    def open(cls, path: str | Path, method: Method, lr: float | None = None, seed: int = 0) -> Learner:
        """From a run, a directory or a hub id. Raises ValueError in one line where there is no model."""
        return cls(Policy.open(path), method, lr, seed)

    def sample(self, prompts: Sequence[str | Chat | Group], n: int = 8, max_new_tokens: int = 256) -> list[Group]:
        """n answers to each prompt by the weights of now, with tokens and log-probs at the method's temperature."""
        plain = Sampling(temperature=getattr(self.method, "temperature", 1.0), max_tokens=max_new_tokens)
        requests = []
        for place, prompt in enumerate(prompts):
            digest = hashlib.blake2b(f"{self.seed}:{self.number}:{place}".encode(), digest_size=6).digest()
            seed = int.from_bytes(digest, "little")
            if isinstance(prompt, Group):
                requests.append(Request(prompt.prompt, plain, n, seed, facts=prompt.facts, tools=prompt.tools))
            else:
                requests.append(Request(as_chat(prompt), plain, n, seed))
        return self.policy.generate(requests)

    def scored(self, groups: Sequence[Group], reward: Any) -> list[Group]:
        """The groups with a score on every answer. reward: anything that `rewards.as_reward` takes."""
        return scored(groups, as_reward(reward))

    def step(self, groups: Sequence[Group]) -> Step:
        """Learn from these answers once (PPO: in its passes), and answer with the new weights from now on.

        Raises ValueError naming the first group that the method cannot learn from, or that has no score.
        """
        for group in groups:
            reason = self.method.accepts(group)
            if reason is None and self.method.online and any(r.score is None for r in group.responses):
                reason = "an answer has no score; attach scores first"
            if reason is not None:
                raise ValueError(f"group {group.id}: {reason}")
        made = learn(self.engine, self.method, groups, self.number + 1, self.seed)
        self.number += 1
        self.policy.sampler.sync(self.policy.loaded.model, self.number)
        return made

    def save(self, path: str | Path) -> None:
        """Write the model, and the heads that stand on its own trunk, as a directory that everything here opens."""
        mine = dict(self.engine.heads.state_dict()) if self.engine.critic is None else {}
        save(self.policy.loaded, Path(path), heads=mine or None)
