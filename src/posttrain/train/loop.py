"""The loop, once in the whole project: groups in, steps out.

Sum over pieces, divide by counts that were fixed before the first forward, update, let the method and the source move on. Everything
else (logging, checkpoints, evaluation, alerts) hooks onto the steps that it yields.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from posttrain.core.batch import Batch
from posttrain.core.files import crash_point
from posttrain.core.method import Method
from posttrain.core.needs import Loss
from posttrain.core.protocols import Engine, Source
from posttrain.engine.optimizer import NonFiniteGradient


@dataclass(frozen=True, slots=True)
class Step:
    """What one optimiser step did: its number from 1, metrics, the units it trained on and how long it took."""

    number: int
    metrics: Mapping[str, float]
    counts: Mapping[str, float]
    stream_tokens: int
    seconds: float


@dataclass
class Tally:
    """Running sums of a step's metrics over its pieces; `means` divides once, over all ranks."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)

    def add(self, loss: Loss, scalar: torch.Tensor) -> None:
        self.sums["loss"] = self.sums.get("loss", 0.0) + float(scalar.detach())
        for name, (value, count) in loss.metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
            self.counts[name] = self.counts.get(name, 0.0) + float(count)

    def means(self, engine: Engine, parts: int) -> dict[str, float]:
        total = engine.total(
            {f"sum.{n}": v for n, v in self.sums.items()} | {f"of.{n}": v for n, v in self.counts.items()}
        )
        out = {"loss": total["sum.loss"] / max(parts, 1)}
        for name in self.counts:
            if total[f"of.{name}"]:
                out[name] = total[f"sum.{name}"] / total[f"of.{name}"]
        return out


def minibatches(batch: Batch, method: Method, epochs: int, parts: int, seed: int) -> Iterator[Batch]:
    """The batch once (offline), or in `parts` minibatches of whole groups, reshuffled each epoch (PPO)."""
    if parts == 1:
        for _ in range(epochs):
            yield batch
        return
    if method.atom == "step":
        raise ValueError(f"minibatches: {method.name} needs the whole step in one piece")
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(batch.G)
        for indices in np.array_split(order, parts):
            if len(indices):
                yield batch.groups(indices.tolist())


def accumulate(engine: Engine, method: Method, part: Batch, tally: Tally | None = None) -> None:
    """The gradient of one minibatch, whatever it is cut into."""
    totals = engine.total(part.counts)
    for piece in engine.plan(part, method.atom):
        loss = method.loss(engine.forward(piece, method.needs()), piece)
        scalar = loss.over(totals, method.sums)
        crash_point("backward")
        engine.backward(scalar)
        if tally is not None:
            tally.add(loss, scalar)


def train(
    engine: Engine,
    method: Method,
    source: Source,
    steps: int,
    start: int = 0,
    epochs: int = 1,
    parts: int = 1,
    seed: int = 0,
) -> Iterator[Step]:
    """Yield one `Step` per optimiser step from `start` to `steps`. `epochs` and `parts` repeat and cut each step's groups."""
    for number, groups in zip(range(start + 1, steps + 1), source.stream(engine)):
        began = time.perf_counter()
        batch = method.batch(groups, engine)
        tally, updates = Tally(), 0
        info: Mapping[str, float] = {}
        for part in minibatches(batch, method, epochs, parts, seed + number):
            accumulate(engine, method, part, tally)
            try:
                info = engine.step()
            except NonFiniteGradient as error:
                error.groups = groups  # what was in hand, for whoever has to look into it
                raise
            updates += 1
        metrics = {**tally.means(engine, updates), **info}
        method.after(number, metrics, engine)
        source.publish(engine, number)
        counts = engine.total(batch.counts)
        yield Step(number, metrics, counts, batch.T, time.perf_counter() - began)


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
