"""Where a run begins again: after a kill from its newest checkpoint, after a fault from the last state that was well.

There it ends, or goes on with a new seed and a changed setting, as the recipe says. What is kept of a step that cannot be taken is here
too.

A passed limit leads to the last checkpoint before it, the stop rule of a probe to the best look. What a run tells about its rollbacks
stands in its checkpoints, so that a run that is killed afterwards goes on as it would have.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posttrain.core.files import write_json
from posttrain.engine import ranks
from posttrain.engine.optimizer import NonFiniteGradient
from posttrain.train import checkpoint

if TYPE_CHECKING:
    from posttrain.jobs.training import Training

SEEDS_APART = 1_000_003
"""What is added to the seed each time that a run goes on."""


def resume(run: Training) -> int:
    """The step to start after; state is put back when a checkpoint of the same recipe and inputs is there.

    Raises ValueError when the directory holds checkpoints of another recipe or of other inputs.
    """
    there = checkpoint.found(run.out.checkpoints)
    if not there:
        run.out.rewind(0)
        return 0
    step, state = checkpoint.read(there[-1])
    if state["recipe"] != run.recipe_hash or state["inputs"] != run.inputs:
        raise ValueError(
            f"{run.out.path}: holds checkpoints of another recipe or other inputs; "
            "give another `out`, or delete that directory to start anew"
        )
    run.rollbacks = list(state["rollbacks"])
    _restore(run, state)
    checkpoint.set_random_state(state["rng"])
    run.out.rewind(step)
    run.resumed = state
    run.context.say(f"resumed after step {step}")
    return step


def roll_back(run: Training) -> bool:
    """Put the last healthy state back where the recipe asks for it; True when the run goes on from there.

    The source, the method and the optimiser go back with the weights. Where no state from before the fault is left, the weights stay as
    they are and the run says so.
    """
    found = _healthy(run)
    if found is None:
        return False
    place, fault = found
    step, state = checkpoint.read(place)
    _restore(run, state)
    run.done = step
    run.context.say(f"rollback: the weights are those of step {step}, before {fault}")
    again = run.job.again
    goes_on = again is not None and len(run.rollbacks) < again.times
    told = {"fault": fault, "reason": run.stopped, "to": step, "seed": run.job.seed}
    if goes_on:
        _go_on(run, step, state, told)
    else:
        run.rollbacks.append(told)
    return goes_on


def _healthy(run: Training) -> tuple[Path, str] | None:
    """(checkpoint to go back to, what went wrong), or None where nothing did or no such state is left."""
    probe, sick = run.probing, run.alerts.sick
    if probe is not None and probe.sick is not None and probe.probe.action == "rollback":
        (best,) = checkpoint.found(run.out.path / "best")
        return best, f"gold fell and the reward did not (step {probe.sick})"
    if run.job.limits.action != "rollback" or sick is None:
        return None
    before = [place for place in checkpoint.found(run.out.checkpoints) if _step(place) < sick]
    if not before:
        run.context.say(
            f"rollback: no checkpoint from before step {sick} is left; lower checkpoint_every or raise keep"
        )
        return None
    return before[-1], f"the limit was passed (step {sick})"


def _step(place: Path) -> int:
    return int(place.name.removeprefix("step-"))


def _restore(run: Training, state: dict[str, Any]) -> None:
    settle(run, len(state["rollbacks"]))
    run.engine.load(state["engine"])
    run.source.load(state["source"])
    run.job.method.load(state["method"])


def _go_on(run: Training, step: int, state: dict[str, Any], told: dict[str, Any]) -> None:
    """Change what the recipe changes, forget the steps that went wrong, and store the new start."""
    again = run.job.again
    assert again is not None
    since = len(run.rollbacks) + 1 - len(state["rollbacks"])  # that state may be of an earlier attempt than the last
    remembered = dict(state["method"])
    if "beta" in remembered:  # a coefficient that moves by itself goes on from where it was
        remembered["beta"] *= again.beta**since
    changed = [f"{name} x {value:g}" for name, value in (("beta", again.beta), ("lr", again.lr)) if value != 1.0]
    run.rollbacks.append({**told, "changed": " and ".join(changed)})
    settle(run, len(run.rollbacks))
    run.job.method.load(remembered)
    checkpoint.seed_everything(run.job.seed)
    alerting: list[Any] = [run.alerts, *([run.probing] if run.probing is not None else [])]
    raised = [dict(hook.raised) for hook in alerting]  # what was seen stays seen
    for hook, kept in zip(run.watching, state["hooks"], strict=True):
        hook.load(kept)
    for hook, seen in zip(alerting, raised, strict=True):
        hook.raised = seen
    for place in checkpoint.found(run.out.checkpoints):
        if _step(place) > step:
            shutil.rmtree(place)
    run.out.rewind(step)
    checkpoint.write(run.out.checkpoints, step, run.everything(), run.job.keep)
    run.context.say(
        f"going on from step {step} with {' and '.join(changed)} and seed {run.job.seed} ({len(run.rollbacks)} of {again.times})"
    )


def settle(run: Training, times: int) -> None:
    """Method, rate and seed as they are after so many rollbacks from which the run went on."""
    first, again = run.asked, run.job.again
    if again is None:
        return
    seed = first.seed + times * SEEDS_APART
    method = run.job.method
    if again.beta != 1.0:
        method = first.method.changed(beta=first.method.beta * again.beta**times)  # type: ignore[attr-defined]
    run.job = run.job.changed(seed=seed, method=method)
    run.engine.eased = again.lr**times
    if run.job.sampled is not None:
        run.online.drawn.seed = seed


def save_wreck(run: Training, error: NonFiniteGradient) -> None:
    """Keep the state and the batch of a step that could not be taken."""
    if ranks.world()[0] != 0:
        return
    place, step = run.out.path / "nonfinite", run.done + 1
    checkpoint.write(place, step, run.everything(), keep=1)
    write_json(place / "tensors.json", {"step": step, "error": str(error), "names": error.names})
    write_json(place / "batch.json", [g.to_json() for g in error.groups])
    run.context.say(f"the state before step {step} and its batch are in {place}")
