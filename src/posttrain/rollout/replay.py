"""Replay: each step also learns again from scored answers of earlier steps. A Source over a Source.

    source = Replay(Rollouts(...), Again(share=0.25, size=64), seed=0)

The buffer holds the newest `size` groups that were trained; what a step takes from it depends on (seed, step) alone, and the buffer is in
the state with tokens and log-probabilities, so a resumed run replays the same. Old answers were drawn by older weights: methods of scored
answers need their `correction`. Experience replay is Lin 1992; its bias is what the correction's weights are for. Leaves out priorities.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field, PositiveInt

from posttrain.core.group import Group
from posttrain.core.protocols import Source
from posttrain.core.recipe import Spec
from posttrain.rollout.packed import pack, unpack


class Again(Spec):
    """How much is learned again."""

    share: Annotated[float, Field(gt=0, le=4)] = 0.25
    """Old groups per new one in a step."""
    size: PositiveInt = 64
    """Newest trained groups to draw them from."""


class Replay:
    """Steps of another source, each followed by `share` times as many groups drawn from the `size` newest trained ones."""

    def __init__(self, source: Source, again: Again, seed: int = 0) -> None:
        self.source, self.again, self.seed = source, again, seed
        self.buffer: deque[Group] = deque(maxlen=again.size)
        self.steps = 0
        self._fresh: list[Group] = []

    def stream(self, policy: Any = None) -> Iterator[list[Group]]:
        """New groups first, then the replayed ones (fewer while the buffer fills)."""
        for groups in self.source.stream(policy):
            self._fresh = groups
            yield [*groups, *self._old(len(groups))]

    def _old(self, fresh: int) -> list[Group]:
        count = min(round(self.again.share * fresh), len(self.buffer))
        rng = np.random.default_rng([self.seed, self.steps])
        return [self.buffer[int(i)] for i in rng.choice(len(self.buffer), count, replace=False)] if count else []

    def publish(self, engine: Any, version: int) -> None:
        """The step is trained: its new groups may come again."""
        self.buffer.extend(self._fresh)
        self.steps += bool(self._fresh)
        self._fresh = []
        self.source.publish(engine, version)

    def state(self) -> dict[str, Any]:
        """The source's state, the buffer with all its arrays, and the steps trained."""
        return {
            "source": self.source.state(),
            "seed": self.seed,
            "steps": self.steps,
            "buffer": [pack(g) for g in self.buffer],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state. Raises ValueError when the seed is another."""
        if state["seed"] != self.seed:
            raise ValueError(
                f"cannot resume: the replay seed changed ({state['seed']} then, {self.seed} now); restore it"
            )
        self.source.load(state["source"])
        self.steps, self._fresh = int(state["steps"]), []
        self.buffer = deque((unpack(row) for row in state["buffer"]), maxlen=self.again.size)
