"""Where a run ends badly: back to the last healthy checkpoint when a limit is passed, and what is kept of a step that cannot be taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posttrain.core.files import write_json
from posttrain.engine import ranks
from posttrain.engine.optimizer import NonFiniteGradient
from posttrain.train import checkpoint

if TYPE_CHECKING:
    from posttrain.jobs.training import Training


def roll_back(run: Training) -> int | None:
    """Put the last healthy checkpoint back where the recipe asks for it and a limit was passed; the step it is of, else None.

    The source, the method and the optimiser go back with the weights. Where no checkpoint from before that step is left, the
    weights stay as they are and the run says so.
    """
    sick = run.alerts.sick
    if run.job.limits.action != "rollback" or sick is None:
        return None
    healthy = [place for place in checkpoint.found(run.out.checkpoints) if int(place.name.removeprefix("step-")) < sick]
    if not healthy:
        run.context.say(
            f"rollback: no checkpoint from before step {sick} is left; lower checkpoint_every or raise keep"
        )
        return None
    step, state = checkpoint.read(healthy[-1])
    run.engine.load(state["engine"])
    run.source.load(state["source"])
    run.job.method.load(state["method"])
    run.context.say(f"rollback: the weights are those of step {step}, before the limit was passed (step {sick})")
    return step


def save_wreck(run: Training, error: NonFiniteGradient) -> None:
    """Keep the state and the batch of a step that could not be taken."""
    if ranks.world()[0] != 0:
        return
    place, step = run.out.path / "nonfinite", run.done + 1
    checkpoint.write(place, step, run.everything(), keep=1)
    write_json(place / "tensors.json", {"step": step, "error": str(error), "names": error.names})
    write_json(place / "batch.json", [g.to_json() for g in error.groups])
    run.context.say(f"the state before step {step} and its batch are in {place}")
