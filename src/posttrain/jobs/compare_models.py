"""Which models a comparison has: those named, checkpoints of runs, and averages between two of them.

RUN@STEP is a checkpoint of a run, written out as a model directory. Averages of weights (Wortsman et al. 2022, arXiv:2203.05482) between
the last two models join the trade-offs, so that a person can choose a point on the line between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from posttrain.jobs.job import Context
from posttrain.jobs.soup import Soup


def name_and_path(model: str) -> tuple[str, str]:
    """NAME=PATH, or a path named by its last part (a run's `model/` by the run's)."""
    name, mark, path = model.partition("=")
    if mark:
        return name, path
    at = Path(model)
    return (at.parent.name if at.name == "model" else at.name) or model, model


def models_of(models: Sequence[str], soups: int, out: Path, context: Context) -> dict[str, str]:
    """Path by name, in order; averages come after the models that they lie between. Raises ValueError where two have one name."""
    named = dict(name_and_path(m) for m in models)
    if len(named) < len(models):
        raise ValueError("models: two of them have one name; write NAME=PATH")
    for name, path in named.items():
        if "@" in path and not Path(path).exists():
            place = str(out / "checkpoints" / name.replace("@", "-"))
            named[name] = str(Soup(models=(path, path), out=place).run(context).path)
    if soups:
        (a, one), (b, other) = list(named.items())[-2:]
        for i in range(1, soups + 1):
            share = i / (soups + 1)
            place = str(out / "soups" / f"{i}-of-{soups + 1}")
            made = Soup(models=(one, other), shares=(1 - share, share), out=place).run(context)
            named[f"{1 - share:.2f} {a} + {share:.2f} {b}"] = str(made.path)
    return named
