"""One step ahead: the next step's answers are drawn while this one is learned from, by a copy of the weights. A Source over a Source.

    sampler = OwnWeights(lambda model: Sampler(model, ...), model)
    source = Ahead(Rollouts(prompts, sampler, reward, n=8))

While the trainer learns from step t, a thread draws and scores step t + 1 with the weights published after step t - 1, so every step but
the first is one update old: methods of scored answers need their `correction`. `publish` waits for the draw, so that nothing depends
on timing; the drawn step is in the state whole. Noukhovitch et al. 2025, arXiv:2410.18252. Leaves out drawing more than one step ahead.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from posttrain.core.group import Group
from posttrain.core.protocols import Event, Model, Request, Source
from posttrain.rollout.packed import pack, unpack


class OwnWeights:
    """A sampler over a copy of the model's weights, renewed by `sync` alone. make: model -> a sampler with `sync`."""

    def __init__(self, make: Callable[[Any], Any], model: Any) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.sampler: Any = make(self.model)
        self._of = model

    def sync(self, model: Any | None = None, version: int | None = None) -> None:
        """Copy the weights as they are now."""
        self._of = self._of if model is None else model
        with torch.no_grad():
            for mine, theirs in zip(self.model.parameters(), self._of.parameters(), strict=True):
                mine.copy_(theirs)
        self.sampler.sync(self.model, version)

    def rest(self) -> None:
        """The sampler is not needed until the next request."""
        self.sampler.rest()

    def generate(self, requests: Sequence[Request]) -> list[Group]:
        """Answers of the copy."""
        return self.sampler.generate(requests)

    def stream(self, requests: Iterable[Request]) -> Iterator[Event]:
        """Events of the copy's answers."""
        return self.sampler.stream(requests)


class Ahead:
    """Steps of another source, each drawn during the step before. The source's sampler must not read the trainer's own weights."""

    def __init__(self, source: Source) -> None:
        sampler: Model | None = getattr(source, "sampler", None)
        if sampler is not None and hasattr(sampler, "sync") and not isinstance(sampler, OwnWeights):
            raise ValueError("drawing ahead needs a sampler with weights of its own; wrap it in OwnWeights")
        self.source = source
        self.next: list[Group] | None = None
        self._drawing: Future[list[Group] | None] | None = None

    def stream(self, policy: Any = None) -> Iterator[list[Group]]:
        """Steps; the one after is being drawn when one is handed out."""
        steps = self.source.stream(
            policy
        )  # reads the weights here and now: the thread must not, while the trainer moves them
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead") as thread:
            first = thread.submit(next, steps, None).result() if self.next is None else self.next
            while first is not None:
                self.next = None
                self._drawing = thread.submit(next, steps, None)
                yield first
                self._arrived()
                first = self.next

    def _arrived(self) -> None:
        """Wait for the step that is being drawn."""
        if self._drawing is not None:
            self.next, self._drawing = self._drawing.result(), None

    def publish(self, engine: Any, version: int) -> None:
        """New weights, once the draw under way has ended: it was begun with the old ones."""
        self._arrived()
        self.source.publish(engine, version)

    def state(self) -> dict[str, Any]:
        """The source's state, in which the drawn step counts as handed out, and that step."""
        return {
            "source": self.source.state(),
            "next": None if self.next is None else [pack(group) for group in self.next],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.source.load(state["source"])
        self.next = None if state["next"] is None else [unpack(row) for row in state["next"]]
        self._drawing = None
