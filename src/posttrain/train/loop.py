"""The loop, once in the whole project: groups in, steps out.

Sum over pieces, divide by counts that were fixed before the first forward, update, let the method and the source move on. Everything
else (logging, checkpoints, evaluation, alerts) hooks onto the steps that it yields.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from posttrain.core.batch import Batch
from posttrain.core.files import crash_point
from posttrain.core.group import Group
from posttrain.core.method import Method
from posttrain.core.needs import Loss
from posttrain.core.protocols import Engine, Source
from posttrain.engine.optimizer import NonFiniteGradient


@dataclass(frozen=True, slots=True)
class Step:
    """What one optimiser step did: its number from 1, metrics, the units it trained on, how long it took and how much arithmetic it was."""

    number: int
    metrics: Mapping[str, float]
    counts: Mapping[str, float]
    stream_tokens: int
    seconds: float
    flops: float = 0.0


@dataclass
class Tally:
    """Running sums of a step's metrics over its pieces; `means` divides once, over all ranks."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)

    def add(self, loss: Loss, scalar: torch.Tensor) -> Tally:
        """Add the loss and the figures of a piece; returns itself."""
        self.sums["loss"] = self.sums.get("loss", 0.0) + float(scalar.detach())
        return self.note(loss.metrics)

    def note(self, figures: Mapping[str, tuple[torch.Tensor | float, torch.Tensor | float]]) -> Tally:
        """Add figures given as (sum, count)."""
        for name, (value, count) in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
            self.counts[name] = self.counts.get(name, 0.0) + float(count)
        return self

    def join(self, other: Tally) -> None:
        """Add another tally's sums."""
        for name, value in other.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        for name, value in other.counts.items():
            self.counts[name] = self.counts.get(name, 0.0) + value

    def means(self, engine: Engine, parts: int) -> dict[str, float]:
        total = engine.total(
            {f"sum.{n}": v for n, v in self.sums.items()} | {f"of.{n}": v for n, v in self.counts.items()}
        )
        out = {"loss": total.get("sum.loss", 0.0) / max(parts, 1)}
        for name in self.counts:
            if total[f"of.{name}"]:
                out[name] = total[f"sum.{name}"] / total[f"of.{name}"]
        return out


def minibatches(batch: Batch, method: Method, seed: int) -> Iterator[Batch]:
    """The batch as often as the method passes over it, whole or in minibatches of whole groups, reshuffled each pass (PPO)."""
    passes, parts = method.updates()
    if parts > 1 and method.atom == "step":
        raise ValueError(f"minibatches: {method.name} needs the whole step in one piece")
    for number in range(passes):
        if parts == 1:
            yield batch
            continue
        order = np.random.default_rng([seed, number]).permutation(batch.G)
        for indices in np.array_split(order, parts):
            yield batch.groups(indices.tolist())


def accumulate(engine: Engine, method: Method, part: Batch, tally: Tally | None = None) -> None:
    """The gradient of one minibatch, whatever it is cut into. Rows that cannot change it are not computed, and still count."""
    totals = engine.total(part.counts)
    idle = method.idle(part)

    def one(hand: Engine, piece: Batch) -> Tally:
        loss = method.loss(hand.forward(piece, method.needs()), piece)
        scalar = loss.over(totals, method.sums)
        crash_point("backward")
        hand.backward(scalar)
        return Tally().add(loss, scalar)

    for mine in engine.each(engine.plan(part.without(idle) if idle else part, method.atom, ordered=False), one):
        if tally is not None:
            tally.join(mine)


def learn(engine: Engine, method: Method, groups: Sequence[Group], number: int, seed: int = 0) -> Step:
    """One step of learning from these groups: prepare, pass over them, update, let the method move on.

    number: of the step, from 1. seed: shuffles minibatches. The engine's optimiser must exist. Raises NonFiniteGradient before any weight
    moves.
    """
    began = time.perf_counter()
    batch = method.batch(groups, engine)
    tally, updates = Tally(), 0
    tally.note(method.figures(batch, engine))
    info: Mapping[str, float] = {}
    for part in minibatches(batch, method, seed + number):
        mine = Tally()
        accumulate(engine, method, part, mine)
        try:
            info = engine.step()
        except NonFiniteGradient as error:
            error.groups = list(groups)  # what was in hand, for whoever has to look into it
            raise
        updates += 1
        tally.join(mine)
        if method.enough(mine.means(engine, 1)):
            break
    metrics = {**tally.means(engine, updates), **info}
    method.after(number, metrics, engine)
    return Step(number, metrics, engine.total(batch.counts), batch.T, time.perf_counter() - began)


def train(engine: Engine, method: Method, source: Source, steps: int, start: int = 0, seed: int = 0) -> Iterator[Step]:
    """Yield one `Step` per step of the source, from `start` to `steps`; its seconds include the source's (sampling, scoring)."""
    stream = source.stream(engine)
    for number in range(start + 1, steps + 1):
        began, flops = time.perf_counter(), engine.flops
        groups = next(stream, None)
        if groups is None:
            return
        step = learn(engine, method, groups, number, seed)
        source.publish(engine, number)
        yield replace(step, seconds=time.perf_counter() - began, flops=engine.flops - flops)


@torch.no_grad()
def evaluate(engine: Engine, method: Method, batches: list[Batch]) -> dict[str, float]:
    """Loss and metrics over held-out batches (already prepared), without a gradient."""
    totals: dict[str, float] = {}
    for batch in batches:
        for unit, count in engine.total(batch.counts).items():
            totals[unit] = totals.get(unit, 0.0) + count
    tally = Tally()
    for batch in batches:
        for piece in engine.plan(batch, method.atom):
            loss = method.loss(engine.score(piece, method.needs()), piece)
            tally.add(loss, loss.over(totals, method.sums))
    return tally.means(engine, 1)
