"""Samplers of the same weights on several threads: a `Model` whose answers are those of one sampler, bit for bit, sooner.

    model = Together(sampler, 2)
    groups = model.generate(requests)

A small model decodes on one core (more threads only wait for each other at its thin products), so each core decodes prompts of its own.
Unlike `Workers` these are threads: they begin at once and read weights that change, as those of a policy in training do. An answer depends
on its prompt, seed and index alone, so it does not matter who draws it; where that does not hold (`workers.alike`) take the one sampler.
Leaves out streams and steered requests, which the first sampler answers.
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from posttrain.core.group import Group
from posttrain.core.machine import lanes
from posttrain.core.protocols import Event, Request
from posttrain.rollout.jobs import Job, Sample
from posttrain.rollout.sampler import Sampler


class Together:
    """See the module docstring. sampler: one that is `workers.alike`; count: threads, which share its slots."""

    def __init__(self, sampler: Sampler, count: int) -> None:
        if count < 2:
            raise ValueError(f"count is {count}; one thread is the sampler itself")
        self.first = sampler
        slots = max(1, sampler.slots // count)
        # Tokenizers are not safe from two threads at once: each sampler has its own.
        self.samplers = [
            Sampler(
                sampler.model,
                copy.deepcopy(sampler.tokenizer),
                sampler.stop_ids,
                sampler.encode,
                slots,
                sampler.max_context,
                threads=1,
            )
            for _ in range(count)
        ]
        for sampler in self.samplers[1:]:
            sampler.like = self.samplers[0]
        self._lock = threading.Lock()
        self._pool = lanes(count)
        self.sync(sampler.model, sampler.version)

    @property
    def version(self) -> int:
        return self.first.version

    def sync(self, model: Any | None = None, version: int | None = None) -> None:
        """Take the model's weights as they are now."""
        self.first.sync(model, version)
        for sampler in self.samplers:
            sampler.sync(self.first.model, self.first.version)

    def rest(self) -> None:
        """Let go of copied weights and caches until the next request."""
        for sampler in (self.first, *self.samplers):
            sampler.rest()

    def cancel(self, id: str) -> None:
        """End all answers of the request with this id."""
        for sampler in (self.first, *self.samplers):
            sampler.cancel(id)

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """Events of the first sampler."""
        return self.first.stream(requests)

    def generate(self, requests: Sequence[Request]) -> list[Group]:
        """One Group per request, in order, with its n responses in order of their index."""
        if len(requests) < 2 or any(r.steer is not None for r in requests):
            return self.first.generate(requests)
        jobs: list[Job] = list(self.first.jobs(requests))
        waiting = deque(sorted(jobs, key=lambda job: len(job.ids)))
        done: dict[int, list[Sample]] = {id(job): [] for job in jobs}

        def take() -> Iterator[Job]:
            while True:
                with self._lock:
                    if not waiting:
                        return
                    job = waiting.popleft()
                yield job

        def draw(sampler: Sampler) -> None:
            try:
                for sample in sampler.finished(take()):
                    done[id(sample.job)].append(sample)
            except BaseException:
                waiting.clear()  # the others end what they have begun
                raise

        drawing = [self._pool.submit(draw, sampler) for sampler in self.samplers]
        for error in [future.exception() for future in drawing]:
            if error is not None:
                raise error
        return [self.first.group(job, sorted(done[id(job)], key=lambda s: s.index)) for job in jobs]
