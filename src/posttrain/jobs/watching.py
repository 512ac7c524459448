"""What watches an online run beside its monitors: what the reward pays for, and whether people have looked lately.

    rollout: {attribution: {every: 20}, human: {ratings: feedback.db, days: 7}}

Attribution (`audit.attribution`) reads the answers that the run learns from, no further ones are drawn. A human check never stops a run:
it warns, and `posttrain gate` fails where its policy says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import PositiveFloat, PositiveInt

from posttrain.audit.attribution import FEATURES, Growth, attribute
from posttrain.core.files import read_lines
from posttrain.core.group import Group
from posttrain.core.recipe import Spec
from posttrain.detectors.repetition import distinct
from posttrain.train.hooks import Hook, Quiet
from posttrain.train.loop import Step

if TYPE_CHECKING:
    from posttrain.jobs.training import Training

DAY = 86_400.0


class Attribution(Spec):
    """What the reward pays for, looked at every so many steps."""

    every: PositiveInt = 50
    """Steps between looks."""
    answers: PositiveInt = 200
    """Fresh answers behind a look: those of the last steps before it."""


class HumanCheck(Spec):
    """People should look at samples now and then; the run warns when the last look is too long ago."""

    ratings: str
    """Where ratings are kept: a feedback ledger, or its export as JSONL."""
    days: PositiveFloat = 7.0
    """Age of the newest rating from which the run warns."""
    every: PositiveInt = 500
    """Steps between looks into it; the first step looks too."""


class Attributing(Quiet):
    """The hook that looks at what the reward pays for. latest: figures of a step that looked. raise_: puts an alert among the run's."""

    def __init__(
        self, settings: Attribution, fresh: Callable[[], Sequence[Group]], raise_: Callable[[str, int, str], None]
    ) -> None:
        self.settings, self.fresh, self.raise_ = settings, fresh, raise_
        self.growth = Growth()
        self.kept: list[Group] = []
        self.latest: dict[str, float] = {}

    def __call__(self, step: Step) -> str | None:
        self.latest = {}
        groups = [g for g in self.fresh() if len(g.responses) > 1]
        size = max(1, sum(len(g.responses) for g in groups))
        away = -step.number % self.settings.every
        if away * size < self.settings.answers:
            self.kept += groups
        if away == 0:
            self._look(step.number)
            self.kept = []
        return None

    def _look(self, number: int) -> None:
        look = attribute(self.kept)
        if look is None:
            return
        pays = {f"pays_{name}": look.slope[name] for name in FEATURES}
        seen = {name: look.mean[name] for name in FEATURES if name != "length"}
        said = [r.text for g in self.kept for r in g.responses]
        self.latest = {k: v for k, v in (pays | seen).items() if math.isfinite(v)} | {"distinct_2": distinct(said)}
        for name, text in self.growth.note(look).items():
            self.raise_(f"pays_{name}", number, text)

    def state(self) -> dict[str, Any]:
        """Looks so far, and the answers gathered for the next one, as features need them."""
        bare = [replace(g, facts={}, tools=(), preferences=(), ranking=None) for g in self.kept]
        return {"growth": self.growth.state(), "kept": [g.to_json() for g in bare]}

    def load(self, state: Mapping[str, Any]) -> None:
        self.growth.load(state["growth"])
        self.kept = [Group.from_json(g) for g in state["kept"]]


class Overdue(Quiet):
    """The hook that asks when a person last rated a sample."""

    def __init__(
        self, settings: HumanCheck, raise_: Callable[[str, int, str], None], now: Callable[[], float] = time.time
    ) -> None:
        self.settings, self.raise_, self.now = settings, raise_, now

    def __call__(self, step: Step) -> str | None:
        if step.number == 1 or step.number % self.settings.every == 0:
            _, newest = ratings_of(self.settings.ratings)
            age = math.inf if newest is None else (self.now() - newest) / DAY
            if age > self.settings.days:
                told = (
                    "no person has rated a sample yet" if newest is None else f"the newest rating is {age:.1f} days old"
                )
                text = f"{told}, {self.settings.days:g} allowed: rate 50 samples (posttrain annotate)"
                self.raise_("human_check", step.number, text)
        return None


def ratings_of(place: str) -> tuple[int, float | None]:
    """(ratings by people, time of the newest in seconds since 1970) of a ledger or of its JSONL export.

    Raises ValueError where there is neither, or where a row has no `judgments` with `created`.
    """
    if place.endswith((".jsonl", ".json")):
        times = _exported(place)
    else:
        from posttrain.feedback import queues
        from posttrain.feedback.records import records
        from posttrain.jobs.feedback import opened

        with opened(place).read() as connection:
            times = [r.created for q in queues.queues(connection) for r in records(connection, q.id) if not r.model]
    return len(times), max(times, default=None)


def _exported(place: str) -> list[float]:
    if not Path(place).is_file():
        raise ValueError(f"{place}: no such file of ratings; `posttrain ledger export` writes one")
    times = []
    for i, row in enumerate(read_lines(place)):
        said = row.get("judgments")
        if not isinstance(said, list) or any(not isinstance(j.get("created"), int | float) for j in said):
            raise ValueError(f"{place}: row {i + 1} has no `judgments` with `created`; export it from a ledger")
        times += [float(j["created"]) for j in said if not j.get("model")]
    return times


def watchers(run: Training) -> list[Hook]:
    """The hooks that the recipe's `rollout` asks for."""
    rollout, out = run.job.sampled, list[Hook]()
    if rollout is None:
        return out
    if rollout.attribution is not None and run.job.reward is not None:
        out.append(Attributing(rollout.attribution, lambda: run.source.latest, run.alerts.note))  # type: ignore[attr-defined]
    if rollout.human is not None:
        out.append(Overdue(rollout.human, run.alerts.note))
    return out


def looked(found: Sequence[Hook]) -> dict[str, float]:
    """Figures of this step's looks."""
    return {k: v for hook in found for k, v in getattr(hook, "latest", {}).items()}
