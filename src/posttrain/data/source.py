"""Sources over groups that are already there: `Offline` shuffles and batches them, `Mix` draws from several sources by weight.

Both are `core.protocols.Source`: they ignore the policy, and resume exactly. A group counts as trained when `publish` is called after
the step that used it, as the loop does; what was handed out but not trained is handed out again after a resume. The orders depend on
(seed, epoch) and (seed, draw) alone, so the state is a few numbers. Weights by temperature and curricula are in `mixture`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from posttrain.core.files import hash_json
from posttrain.core.group import Group
from posttrain.core.protocols import Source

BLOCK = 100
"""Draws of `Mix` that are balanced together."""


class Offline:
    """Groups from memory, `per_step` of them a step.

    epochs: passes over the data, a fraction for a part of one, infinite for no end; or steps: how many steps. Steps go on across
    the end of an epoch; only the last step of all may be smaller. seed and shuffle: a fresh order for every epoch, or the order given.
    Raises ValueError on empty data or settings that contradict each other.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        per_step: int,
        epochs: float | None = None,
        steps: int | None = None,
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        if not groups:
            raise ValueError("the source has no groups; check the data file and its filters")
        if per_step < 1:
            raise ValueError(f"per_step is {per_step}; give 1 or more groups a step")
        if epochs is not None and steps is not None:
            raise ValueError("epochs and steps are both given; leave one of them out")
        length = 1.0 if epochs is None else epochs
        if (steps is not None and steps < 0) or not length > 0:
            raise ValueError(f"epochs={epochs}, steps={steps}: give a positive length")
        self.groups, self.per_step, self.seed, self.shuffle = groups, per_step, seed, shuffle
        in_epochs = math.inf if math.isinf(length) else max(1, round(length * len(groups)))
        self.total: float = in_epochs if steps is None else steps * per_step
        self.trained = 0
        self._handed = 0
        self._orders: dict[int, np.ndarray] = {}
        self._print: str | None = None

    def order(self, epoch: int) -> np.ndarray:
        """The order of one epoch: indices into groups, depending on (seed, epoch) alone."""
        if epoch not in self._orders:
            n = len(self.groups)
            made = np.random.default_rng([self.seed, epoch]).permutation(n) if self.shuffle else np.arange(n)
            self._orders = {k: v for k, v in self._orders.items() if k >= epoch - 1} | {epoch: made}
        return self._orders[epoch]

    def stream(self, policy: Any = None) -> Iterator[list[Group]]:
        """Steps of groups from the first that is not trained."""
        self._handed = self.trained
        n = len(self.groups)
        while self._handed < self.total:
            end = int(min(self._handed + self.per_step, self.total))
            step = [self.groups[int(self.order(at // n)[at % n])] for at in range(self._handed, end)]
            self._handed = end
            yield step

    def publish(self, engine: Any = None, version: int = 0) -> None:
        """The steps handed out so far are trained."""
        self.trained = max(self.trained, self._handed)

    def state(self) -> dict[str, Any]:
        """How many groups are trained, and what the order hangs on."""
        return {"trained": self.trained, "seed": self.seed, "shuffle": self.shuffle, "groups": self.fingerprint()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state. Raises ValueError when the data or the order are others than the state's."""
        mine = self.state()
        for name in ("groups", "seed", "shuffle"):
            if state[name] != mine[name]:
                raise ValueError(
                    f"cannot resume: the source's {name} changed ({state[name]} then, {mine[name]} now); "
                    "restore it, or start a new run"
                )
        self.trained = self._handed = int(state["trained"])

    def fingerprint(self) -> str:
        """How many groups there are and what 64 of them, spread evenly, hold."""
        if self._print is None:
            picked = np.unique(np.linspace(0, len(self.groups) - 1, num=min(64, len(self.groups))).astype(int))
            rows = [{**self.groups[int(i)].to_json(), "facts": None} for i in picked]
            self._print = f"{len(self.groups)}:{hash_json(json.loads(json.dumps(rows, default=str)))[:16]}"
        return self._print


class Mix:
    """Several sources as one: each step joins `draws` steps of sources drawn by weight.

    weights need not sum to 1. Over any 100 draws from a multiple of 100 on, a source's count is within one of its share; the order
    inside is random. To mix inside a step, give sources of per_step=1 and draws = the groups a step should have. The mix ends
    when a source that is drawn has ended (the groups already drawn make a last, smaller step), so that its weights hold to the end;
    with ``spent="others"`` the rest goes on in its own proportions until all have ended, and `ended` tells at which draw each one did.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        weights: Sequence[float],
        seed: int = 0,
        draws: int = 1,
        spent: Literal["stop", "others"] = "stop",
    ) -> None:
        if not sources or len(sources) != len(weights):
            raise ValueError(f"{len(weights)} weights for {len(sources)} sources; give one positive weight per source")
        if not all(math.isfinite(w) and w >= 0 for w in weights) or not sum(weights) > 0:
            raise ValueError(f"weights {list(weights)}: each must be 0 or more, and their sum positive")
        if draws < 1:
            raise ValueError(f"draws is {draws}; give 1 or more")
        self.sources, self.seed, self.draws = tuple(sources), seed, draws
        self.weights = tuple(float(w) / sum(weights) for w in weights)
        self.drawn = 0
        self._handed = 0
        self.spent = spent
        self.ended: dict[int, int] = {}
        """Source to the draw at which it was found to have ended."""
        self._block: tuple[Any, np.ndarray] | None = None

    def choice(self, draw: int) -> int:
        """Which source a draw takes, depending on (seed, draw) and the sources that had ended: stratified inside blocks of 100, in random
        order."""
        block = draw // BLOCK
        over = [at for at, when in self.ended.items() if when <= draw]
        if self._block is None or self._block[0] != (block, *over):
            rng = np.random.default_rng([self.seed, block])
            places = (rng.permutation(BLOCK) + rng.random()) / BLOCK
            weights = np.asarray(self.weights)
            weights[over] = 0.0
            edges = np.cumsum(weights) / weights.sum()
            edges[np.flatnonzero(weights)[-1] :] = 1.0  # rounding must not leave a sliver for a source of weight 0
            self._block = (block, *over), np.searchsorted(edges, places, side="right")
        return int(self._block[1][draw % BLOCK])

    def stream(self, policy: Any = None) -> Iterator[list[Group]]:
        """Steps from the first draw that is not trained, until a drawn source has ended."""
        streams = [source.stream(policy) for source in self.sources]
        self._handed = self.drawn
        while True:
            step: list[Group] = []
            taken = 0
            for _ in range(self.draws):
                more = self._next(streams, self._handed + taken)
                if more is None:
                    break
                step += more
                taken += 1
            self._handed += taken
            if step:
                yield step
            if taken < self.draws:
                return

    def _next(self, streams: Sequence[Iterator[list[Group]]], draw: int) -> list[Group] | None:
        """What a draw gives; None where the mix has ended."""
        while True:
            at = self.choice(draw)
            more = next(streams[at], None)
            if more is not None or self.spent == "stop":
                return more
            self.ended[at] = draw
            if all(i in self.ended for i, w in enumerate(self.weights) if w):
                return None

    def publish(self, engine: Any = None, version: int = 0) -> None:
        """The steps handed out so far are trained; every source hears of the new weights."""
        self.drawn = max(self.drawn, self._handed)
        for source in self.sources:
            source.publish(engine, version)

    def state(self) -> dict[str, Any]:
        """The number of trained draws, what they hang on, and the state of every source."""
        return {
            "drawn": self.drawn,
            "seed": self.seed,
            "weights": list(self.weights),
            "ended": {str(at): when for at, when in self.ended.items() if when < self.drawn},
            "sources": [s.state() for s in self.sources],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state. Raises ValueError when seed, weights or sources are others than the state's."""
        if len(state["sources"]) != len(self.sources):
            raise ValueError(f"cannot resume: {len(state['sources'])} sources then, {len(self.sources)} now")
        if state["seed"] != self.seed or not np.allclose(state["weights"], self.weights, rtol=0, atol=1e-12):
            raise ValueError("cannot resume: the mix's seed or weights changed; restore them, or start a new run")
        self.drawn = self._handed = int(state["drawn"])
        self.ended = {int(at): int(when) for at, when in state.get("ended", {}).items()}
        for source, inner in zip(self.sources, state["sources"], strict=True):
            source.load(inner)
