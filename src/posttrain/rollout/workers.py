"""A sampler and further processes with the same weights: a `Model` whose answers are those of the sampler alone, bit for bit, sooner.

    with Workers(sampler, path) as model:
        groups = model.generate(requests)

A small model decodes on one core and leaves the others idle. An answer depends on its prompt, seed and index alone, so it does not matter
which process draws it: each takes the next prompt when it has room. This holds for fp32 on the fused path of a CPU; everywhere else, and
for steered requests, the sampler answers alone. With ``auto`` another process is started once the prompts that wait would take longer
than PAYS seconds at the pace so far. A process that dies costs time only: its prompts are answered here.
Leaves out weights that change (rollouts of a policy in training) and streams.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import torch

import posttrain
from posttrain.core.group import Group
from posttrain.core.machine import cores
from posttrain.core.protocols import Request
from posttrain.rollout.jobs import Job, Sample
from posttrain.rollout.sampler import Sampler

PAYS = 6.0
"""Seconds of work for each process: starting one takes about 4 seconds of its core."""
MOST = 4
"""Processes that ``auto`` uses at most: each has the whole model in memory."""
AHEAD = 8
"""Answers that wait in a worker for a free slot, so that it never waits for a prompt."""


@dataclass(eq=False)
class _Worker:
    """A process, the jobs it has not answered yet, by number, and how many it was given."""

    process: subprocess.Popen[str]
    asked: dict[int, Job] = field(default_factory=dict)
    given: int = 0
    ready: bool = False

    def tell(self, value: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(value) + "\n")
        self.process.stdin.flush()


class Workers:
    """See the module docstring.

    path, template: what the sampler's model was loaded from. wanted: processes in all, this one included; ``auto`` lets the work decide,
    within the cores of the machine and OMP_NUM_THREADS. say: takes one line when a process ends early.
    """

    def __init__(
        self,
        sampler: Sampler,
        path: str,
        template: str | None = None,
        wanted: int | Literal["auto"] = "auto",
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.sampler, self.path, self.template, self.wanted, self.say = sampler, path, template, wanted, say
        self.most = 1 if not alike(sampler) else min(allowed(), MOST) if wanted == "auto" else wanted
        self.started = 1  # this process
        self._workers: list[_Worker] = []
        self._change = threading.Condition()
        self._waiting: deque[tuple[int, Job]] = deque()
        self._done: dict[int, list[Sample]] = {}
        self._answered = 0
        self._began = 0.0

    def generate(self, requests: Sequence[Request]) -> list[Group]:
        """One Group per request, in order, with its n responses in order of their index."""
        if self.most == 1 or any(r.steer is not None for r in requests):
            return self.sampler.generate(requests)
        jobs: list[Job] = list(self.sampler.jobs(requests))
        numbers = {id(job): number for number, job in enumerate(jobs)}
        with self._change:
            self._done = {number: [] for number in range(len(jobs))}
            self._waiting.extend(sorted(enumerate(jobs), key=lambda pair: len(pair[1].ids)))
            self._began, self._answered = time.monotonic(), 0
            for worker in self._workers:
                self._fill(worker)
        try:
            while self._left():
                for sample in self.sampler.finished(self._take()):
                    self._done[numbers[id(sample.job)]].append(sample)
                    self._answered += 1
        except BaseException:
            self.close()
            raise
        return [
            self.sampler.group(job, sorted(self._done[number], key=lambda s: s.index))
            for number, job in enumerate(jobs)
        ]

    def _left(self) -> bool:
        """Is there anything to do here? Waits for the answers of the others first; what one that died had not answered comes back."""
        with self._change:
            while not self._waiting and any(w.asked for w in self._workers):
                self._change.wait()
            return bool(self._waiting)

    def _take(self) -> Iterator[Job]:
        """Jobs for this process, one as often as it has room."""
        while True:
            with self._change:
                if not self._waiting:
                    return
                self._grow()
                job = self._waiting.popleft()[1]
            yield job

    # -- the other processes -------------------------------------------------------------------------------------------------------

    def _grow(self) -> None:
        """Start another process where the work pays for it."""
        if self.started >= self.most:
            return
        if self.wanted == "auto":
            pace = self._answered / (time.monotonic() - self._began + 1e-9)
            if not pace or sum(job.n for _, job in self._waiting) / pace < PAYS * (self.started + 1):
                return
        self.started += 1
        worker = _Worker(_start())
        self._workers.append(worker)
        context = self.sampler.max_context
        worker.tell({"path": self.path, "template": self.template, "slots": self.sampler.slots, "context": context})
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()

    def _listen(self, worker: _Worker) -> None:
        """Take what a process says until it ends, and take back what it has not answered."""
        why = ""
        try:
            for told in _lines(worker.process):
                why = told.get("error", why)
                with self._change:
                    if "job" in told:
                        job = worker.asked[told["job"]]
                        self._done[told["job"]] += [self.sampler.drawn(job, *sample) for sample in told["samples"]]
                        self._answered += job.n
                        del worker.asked[told["job"]]
                    worker.ready = not why
                    self._fill(worker)
                    self._change.notify()
        finally:
            with self._change:
                early = worker in self._workers
                if early:
                    self._workers.remove(worker)
                    self._waiting.extendleft(worker.asked.items())
                worker.asked.clear()
                self._change.notify()
        if early:
            why = why or f"exit {worker.process.wait()}"
            self.say(f"a sampling worker ended early ({why}); its prompts are answered here")

    def _fill(self, worker: _Worker) -> None:
        """Give a process prompts for all its slots and a few more."""
        room = self.sampler.slots + AHEAD - sum(job.n for job in worker.asked.values())
        try:
            while worker.ready and room > 0 and self._waiting:
                number, job = self._waiting.popleft()
                worker.asked[number] = job
                worker.given += 1
                room -= job.n
                worker.tell(
                    {"job": number, "ids": job.ids, "n": job.n, "seed": job.seed, "sampling": asdict(job.sampling)}
                )
        except BrokenPipeError:
            worker.ready = False  # its end is on its way to `_listen`

    def close(self) -> None:
        """End the other processes."""
        with self._change:
            ended, self._workers = self._workers, []
        for worker in ended:
            worker.process.kill()
            worker.process.wait()
        self.started -= len(ended)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def allowed() -> int:
    """Processes that may compute at once: the cores, or fewer where OMP_NUM_THREADS asks for fewer."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores(), int(limit)) if limit.isdigit() and int(limit) else cores()


def alike(sampler: Sampler) -> bool:
    """Do the bits of an answer depend on the answer alone, and is one core all that a process uses?"""
    weight = next(sampler.model.parameters())
    return (
        sampler.fused
        and sampler.threads == 1
        and sampler.edit is None
        and weight.device.type == "cpu"
        and weight.dtype == torch.float32
    )


def _lines(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """What a process says, without a line in whose middle it was killed."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.endswith("\n"):
            yield json.loads(line)


def _start() -> subprocess.Popen[str]:
    """The process, with this package on its path and one thread."""
    here = str(Path(posttrain.__file__).parents[1])
    path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "posttrain.rollout.worker"]
    return subprocess.Popen(
        command, env=env, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, encoding="utf-8"
    )
