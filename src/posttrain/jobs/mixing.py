"""Several sources of rows as one: weights by name or by size, passes over each, from easy to hard; and what was really drawn.

A task is a source of `data`, or all rows that share a value of one fact. The order of every task depends on the seed alone, so a run that
was stopped goes on with the same rows. Leaves out difficulties that need a model (`data.mixture.loss_of` measures them in Python; a row
may bring its own as a number among its facts).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from posttrain.core.protocols import Source
from posttrain.core.recipe import Spec
from posttrain.data.mixture import Difficulty, Easiest, by_size, fact_of, length_of, named
from posttrain.data.source import Mix, Offline

if TYPE_CHECKING:
    from posttrain.jobs.assembly import Part


class Mixture(Spec):
    """How the rows of several tasks are mixed."""

    by: str | None = None
    """Fact of the rows whose values are the tasks (`task`); none takes every source of `data` as one task."""
    weights: dict[str, NonNegativeFloat] = {}
    """Share of each task by name (`{qa: 0.3, code: 0.7}`), 1 in all; none weighs tasks by their rows, or by the sources' `weight`."""
    temperature: PositiveFloat = 1.0
    """Weights are rows to the power 1/T: 1 is proportional, larger is more equal."""
    cap: PositiveInt | None = None
    """No task counts for more rows than this when it is weighed by its rows."""
    epochs: dict[str, PositiveFloat] = {}
    """Passes over a task by name, after which the others go on without it; one that is not named never ends."""
    curriculum: str | None = None
    """From easy to hard inside each task: `length`, or the name of a number among the rows' facts, such as 1 - pass rate."""

    @model_validator(mode="after")
    def _consistent(self) -> Mixture:
        if self.weights and (self.temperature != 1.0 or self.cap is not None):
            raise ValueError(
                "mixture: temperature and cap make weights from sizes; leave them out where weights are given"
            )
        if self.curriculum is not None and self.epochs:
            raise ValueError("mixture: a curriculum has no passes; leave out epochs or curriculum")
        return self

    @property
    def difficulty(self) -> Difficulty | None:
        """What makes a row hard, where there is a curriculum."""
        if self.curriculum is None:
            return None
        return length_of if self.curriculum == "length" else fact_of(self.curriculum)


def tasks_of(parts: Sequence[Part], mixture: Mixture) -> dict[str, list[Any]]:
    """Rows by task, in the order in which tasks are met. Raises ValueError for a name that two sources share, or a row without the fact."""
    if mixture.by is not None:
        rows = [(p, g) for p in parts for g in p.groups]
        out: dict[str, list[Any]] = {}
        for part, group in rows:
            value = group.facts.get(mixture.by)
            if value is None:
                raise ValueError(f"mixture.by: row {group.id} of {part.name} has no fact `{mixture.by}`")
            out.setdefault(str(value), []).append(group)
        return out
    names = [p.name for p in parts]
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice and (mixture.weights or mixture.epochs):
        raise ValueError(f"mixture: two sources are called {twice[0]!r}; give each its own `task`")
    return {
        name if names.count(name) == 1 else f"{name} ({i + 1})": p.groups
        for i, (name, p) in enumerate(zip(names, parts, strict=True))
    }


def weights_of(parts: Sequence[Part], tasks: dict[str, list[Any]], mixture: Mixture) -> list[float]:
    """Share of each task, 1 in all. Raises ValueError where two settings say it at once."""
    told = mixture.by is None and any(p.weight != 1.0 for p in parts)
    if told and (mixture.weights or mixture.temperature != 1.0 or mixture.cap is not None):
        raise ValueError("mixture: a source has a `weight` of its own; give weights there or here, not in both places")
    if mixture.weights:
        return named(mixture.weights, list(tasks))
    if told:
        whole = sum(p.weight for p in parts)
        if whole <= 0:
            raise ValueError("data: the weights of all sources are 0; give one of them more")
        return [p.weight / whole for p in parts]
    return by_size([len(rows) for rows in tasks.values()], mixture.temperature, mixture.cap)


def longest(parts: Sequence[Part], mixture: Mixture) -> float:
    """Rows until every task has ended; infinite where one never does."""
    tasks = tasks_of(parts, mixture)
    unknown = sorted(set(mixture.epochs) - set(tasks))
    if unknown:
        raise ValueError(f"mixture.epochs: no task is called {unknown[0]!r}; there are {', '.join(tasks)}")
    return sum(max(1, round(mixture.epochs.get(name, math.inf) * len(rows))) if name in mixture.epochs else math.inf
               for name, rows in tasks.items())  # fmt: skip


def steps_of(parts: Sequence[Part], mixture: Mixture, batch: int, steps: int | None, epochs: float | None) -> int:
    """Optimiser steps: as given, or until every task has ended, or one pass. Raises ValueError for more steps than there are rows."""
    most = longest(parts, mixture)
    if steps is None and epochs is None and math.isfinite(most):
        return max(1, math.ceil(most / batch))
    wanted = steps or max(1, round((epochs or 1.0) * sum(len(p.groups) for p in parts) / batch))
    if (wanted - 1) * batch >= most:
        raise ValueError(f"mixture.epochs: all tasks end after {most:.0f} rows; {wanted} steps of {batch} need more")
    return wanted


def source_of(
    parts: Sequence[Part],
    per_step: int,
    seed: int,
    over: Callable[[Source], Source] | None = None,
    mixture: Mixture | None = None,
    steps: int = 1,
) -> Offline | Mix:
    """One source over the parts. over: wraps each task's own source of single groups, so that what it passes over does not change the
    weights. steps: of the run, which is how long a curriculum's way to all rows is."""
    mixture = mixture or Mixture()
    tasks = tasks_of(parts, mixture)
    weights = weights_of(parts, tasks, mixture)
    longest(parts, mixture)
    alone = len(tasks) == 1 and over is None
    each: list[Source] = []
    for i, ((name, rows), weight) in enumerate(zip(tasks.items(), weights, strict=True)):
        size, own = (per_step, seed) if alone else (1, seed + i)
        if mixture.difficulty is None:
            each.append(Offline(rows, size, epochs=mixture.epochs.get(name, math.inf), seed=own))
        else:
            way = steps if alone else max(1, round(weight * steps * per_step))
            each.append(Easiest(rows, size, mixture.difficulty, way, own, endless=True))
    if alone:
        assert isinstance(each[0], Offline)
        return each[0]
    return Mix(each if over is None else [over(s) for s in each], weights, seed, draws=per_step, spent="others")


def drawn(parts: Sequence[Part], mixture: Mixture, source: Any) -> list[dict[str, Any]]:
    """What training really drew of each task: rows, their share beside the weight, and passes. Empty where no source counts."""
    tasks = tasks_of(parts, mixture)
    weights, counts = weights_of(parts, tasks, mixture), _trained(source)
    if len(counts) != len(tasks):
        return []
    whole = max(sum(counts), 1)
    return [
        {"task": name, "rows": n, "share": n / whole, "weight": weight, "passes": n / len(rows)}
        for (name, rows), n, weight in zip(tasks.items(), counts, weights, strict=True)
    ]


def _trained(source: Any) -> list[int]:
    """Rows trained of each task, found under whatever wraps the source."""
    if isinstance(source, Mix):
        return [n for inner in source.sources for n in _trained(inner)]
    if isinstance(source, Offline):
        return [source.trained]
    inner = getattr(source, "source", None) or getattr(source, "prompts", None)
    return [] if inner is None else _trained(inner)
