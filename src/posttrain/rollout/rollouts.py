"""An online source: prompts from another source, answers from a sampler, scores from a reward.

    source = Rollouts(Offline(prompts, per_step=4), sampler, reward, n=8)

Every group it yields has n responses with tokens, log-probabilities and a score, sampled by the weights that were last published. The seed
of an answer depends on (seed, step, place in the step, index) alone, so a resumed run samples what the uninterrupted one would have. Leaves
out environments with several turns and asynchronous rollout.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from posttrain.core.group import Group
from posttrain.core.protocols import Model, Request, Reward, Sampling, Source


def scored(groups: Sequence[Group], reward: Reward) -> list[Group]:
    """The groups with a score on every response. Raises ValueError when the reward gives another number of scores."""
    verdicts = reward(groups)
    if [len(v) for v in verdicts] != [len(g.responses) for g in groups]:
        raise ValueError(
            "the reward gave another number of scores than there are responses; it must give one each, in order"
        )
    return [
        replace(g, responses=tuple(replace(r, score=s) for r, s in zip(g.responses, v, strict=True)))
        for g, v in zip(groups, verdicts, strict=True)
    ]


class Rollouts:
    """Sampled and scored groups, one step at a time.

    prompts: source whose groups give prompt, tools and facts (their responses are left out). sampler: any Model; one with `sync` gets the
    engine's weights after each step, one with `rest` hears when a step is drawn. reward: None where nothing has to be scored
    (distillation). n: answers per prompt.
    """

    def __init__(
        self,
        prompts: Source,
        sampler: Model,
        reward: Reward | None,
        n: int,
        sampling: Sampling | None = None,
        seed: int = 0,
    ) -> None:
        if n < 1:
            raise ValueError(f"n is {n}; sample at least 1 answer per prompt")
        self.prompts, self.sampler, self.reward = prompts, sampler, reward
        self.n, self.sampling, self.seed = n, sampling or Sampling(), seed
        self.version = 0
        self.trained = self._handed = 0

    def stream(self, policy: Any) -> Iterator[list[Group]]:
        """Steps of n scored answers per prompt. policy: the engine whose weights answer (None: the sampler's own), read at once."""
        self._sync(policy)
        self._handed = self.trained
        return self._steps(policy)

    def _steps(self, policy: Any) -> Iterator[list[Group]]:
        for groups in self.prompts.stream(policy):
            step = self.sample(groups, self._handed)
            self._handed += 1
            yield step

    def sample(self, groups: Sequence[Group], step: int) -> list[Group]:
        """n scored answers to each prompt, with the seeds of this step."""
        requests = [
            Request(g.prompt, self.sampling, self.n, self._seed(step, i), f"{step}-{i}", facts=g.facts, tools=g.tools)
            for i, g in enumerate(groups)
        ]
        made = self.sampler.generate(requests)
        if hasattr(self.sampler, "rest"):  # the weights it has copied are old after this step
            self.sampler.rest()
        answered = [
            g.with_responses(m.responses, prompt_tokens=m.prompt_tokens) for g, m in zip(groups, made, strict=True)
        ]
        return answered if self.reward is None else scored(answered, self.reward)

    def _seed(self, step: int, place: int) -> int:
        digest = hashlib.blake2b(f"{self.seed}:{step}:{place}".encode(), digest_size=6).digest()
        return int.from_bytes(digest, "little")

    def _sync(self, engine: Any) -> None:
        """Give the engine's weights to a sampler that takes them."""
        if hasattr(engine, "model") and hasattr(self.sampler, "sync"):
            self.sampler.sync(engine.model, self.version)

    def publish(self, engine: Any, version: int) -> None:
        """The steps handed out are trained; answers come from the new weights from now on."""
        self.version, self.trained = version, max(self.trained, self._handed)
        self._sync(engine)
        self.prompts.publish(engine, version)

    def state(self) -> dict[str, Any]:
        """Steps trained, version of the weights, and the state of the prompts."""
        return {"trained": self.trained, "version": self.version, "seed": self.seed, "prompts": self.prompts.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state. Raises ValueError when the seed is another."""
        if state["seed"] != self.seed:
            raise ValueError(
                f"cannot resume: the rollout seed changed ({state['seed']} then, {self.seed} now); restore it"
            )
        self.trained = self._handed = int(state["trained"])
        self.version = int(state["version"])
        self.prompts.load(state["prompts"])
