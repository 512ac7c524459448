"""What the project means by *better*: the only place where a method is called better than another.

Paired by prompt, mean over at least three seeds of (method - baseline), bootstrap over at least 300 prompts, one-sided
95% bound above 0, and every seed positive, each printed. `ahead_in_one_seed` is the weaker statement of a demonstration
and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from posttrain.stats.bootstrap import ENOUGH, cluster_bootstrap
from posttrain.stats.interval import Floats, Interval, finite

SEEDS, PROMPTS = 3, 300


@dataclass(frozen=True, slots=True)
class Better:
    """The answer and everything it rests on.

    separated: the claim holds. interval: 95%, of the mean difference over seeds. bound: one-sided 95% lower bound.
    by_seed: mean difference of each seed. prompts: how many prompts were resampled.
    """

    separated: bool
    interval: Interval
    bound: float
    by_seed: Mapping[str, float]
    prompts: int

    @property
    def one_seed(self) -> bool:
        return len(self.by_seed) == 1

    def __str__(self) -> str:
        if self.one_seed:
            word = "ahead in one seed" if self.separated else "not separated in one seed"
        else:
            word = "better" if self.separated else "not separated"
        seeds = ", ".join(f"{name} {value:+.3f}" for name, value in self.by_seed.items())
        return f"{word}: {self.interval:+.3f}, bound {self.bound:+.3f}, {self.prompts} prompts; seeds: {seeds}"


def better(
    differences_by_seed: Mapping[object, ArrayLike] | Sequence[ArrayLike], reps: int = 10_000, seed: int = 0
) -> Better:
    """Is (method - baseline) above 0? Per seed, differences [prompts] in the same prompt order.

    Raises ValueError with fewer than three seeds or 300 prompts, or where seeds disagree on the prompts: the claim
    cannot be tested then. For one seed use `ahead_in_one_seed`.
    """
    rows = _rows(differences_by_seed)
    if len(rows) < SEEDS:
        raise ValueError(f"better needs {SEEDS} seeds, got {len(rows)}; for a demonstration use ahead_in_one_seed")
    prompts = next(iter(rows.values())).size
    for name, d in rows.items():
        if d.size != prompts:
            raise ValueError(f"seed {name} has {d.size} prompts, the first has {prompts}: pair by the same prompts")
    if prompts < PROMPTS:
        raise ValueError(f"better needs {PROMPTS} prompts, got {prompts}: evaluate on more")
    return _weigh(rows, reps, seed)


def ahead_in_one_seed(differences: ArrayLike, name: object = 0, reps: int = 10_000, seed: int = 0) -> Better:
    """The one-seed form for demonstrations, on at least 30 prompts: it leaves out how much training seeds vary."""
    d = finite(differences, "differences")
    if d.size < ENOUGH:
        raise ValueError(f"ahead_in_one_seed needs {ENOUGH} prompts, got {d.size}: evaluate on more")
    return _weigh({str(name): d}, reps, seed)


def _rows(given: Mapping[object, ArrayLike] | Sequence[ArrayLike]) -> dict[str, Floats]:
    pairs = given.items() if isinstance(given, Mapping) else enumerate(given)
    return {str(name): finite(d, f"differences of seed {name}") for name, d in pairs}


def _weigh(rows: Mapping[str, Floats], reps: int, seed: int) -> Better:
    mean = np.mean(list(rows.values()), axis=0)
    shown = cluster_bootstrap(mean, reps=reps, seed=seed)
    bound = cluster_bootstrap(mean, reps=reps, seed=seed, level=0.90).low
    by_seed = {name: float(d.mean()) for name, d in rows.items()}
    separated = bool(bound > 0 and all(v > 0 for v in by_seed.values()))
    return Better(separated, shown, float(bound), by_seed, int(mean.size))
