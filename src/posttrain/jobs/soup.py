"""The soup job: a model between models, by averaging their weights. Compare several to see the front of trade-offs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from posttrain.core.run import Run
from posttrain.jobs import assembly
from posttrain.jobs.job import Context, Job
from posttrain.jobs.stage import Stage
from posttrain.models.soup import average, overlaid, read_weights, write_soup
from posttrain.train import checkpoint


class Soup(Job):
    """Average the weights of models of one shape."""

    name: ClassVar[str] = "soup"
    positional: ClassVar[tuple[str, ...]] = ("models",)

    models: Annotated[tuple[str, ...], Field(min_length=2)]
    """Runs, directories, `base`, or RUN@STEP for one of a run's checkpoints."""
    out: str
    """Where the model directory is written (`model/` inside)."""
    shares: tuple[float, ...] = ()
    """How much each counts; they sum to 1. Equal when not given; beyond 0 and 1 extrapolates."""

    def run(self, context: Context | None = None) -> Run:
        """Write the averaged model, or reuse it."""
        context = context or Context()
        stage = Stage(self, self.name, self.out, [m.partition("@")[0] for m in self.models], file=False)
        out = Run(stage.out)
        if stage.finished:
            context.say(f"{self.out}: finished with the same recipe and inputs; reused")
            return out
        shares = self.shares or tuple(1 / len(self.models) for _ in self.models)
        made = average([weights_of(m) for m in self.models], shares)
        out.path.mkdir(parents=True, exist_ok=True)
        write_soup(Path(assembly.resolve(self.models[0].partition("@")[0])), made, out.model)
        stage.finish([out.model], parameters=sum(v.numel() for v in made.values()))
        said = " + ".join(f"{s:g} {m}" for s, m in zip(shares, self.models))
        context.say(f"{out.model}: {said}")
        return out


def weights_of(model: str) -> dict[str, torch.Tensor]:
    """Tensors of a model, or of a run's checkpoint (RUN@STEP). Raises ValueError naming the steps that there are."""
    path, mark, step = model.partition("@")
    weights = read_weights(Path(assembly.resolve(path)))
    if not mark:
        return weights
    there = checkpoint.found(Run(path).checkpoints)
    known = {checkpoint.read(p)[0]: p for p in there}
    if not step.isdigit() or int(step) not in known:
        raise ValueError(f"{model}: no such checkpoint; steps kept: {', '.join(map(str, sorted(known))) or 'none'}")
    _, state = checkpoint.read(known[int(step)])
    return overlaid(weights, state["engine"]["weights"], model)
