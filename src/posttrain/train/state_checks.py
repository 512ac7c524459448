"""Checks of state and memory: S1, S2, S4, S7 of the pitfalls list, L5 and the rest of L6, on a rehearsal that is undone afterwards.

S3 (a kill during a save) and S5 (a missing rank) cannot be rehearsed inside a run; tests hold them. S6 is in `speed_checks`.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from posttrain.core.finding import Finding
from posttrain.core.group import Group
from posttrain.core.method import Method
from posttrain.core.needs import Needs
from posttrain.core.protocols import Source
from posttrain.core.recipe import SCHEMA_VERSION
from posttrain.engine import ranks
from posttrain.engine.local import LocalEngine
from posttrain.engine.optimizer import NonFiniteGradient
from posttrain.train import checkpoint
from posttrain.train.loop import accumulate, evaluate
from posttrain.train.loss_checks import (
    finite,
    laid,
    prepared,
    reference_apart,
    reference_frozen,
    shortest,
    tokens,
    unmoved,
)
from posttrain.train.speed_checks import slow_settings, speed

REHEARSED = 200_000_000
"""Parameters up to which the run's first steps are rehearsed with a copy of its trainable tensors."""
LOOKED_AT = 5
"""Steps of a source that are compared."""


def findings(
    engine: LocalEngine, method: Method, groups: Sequence[Group], held_out: Sequence[Group], job: Mapping[str, Any]
) -> list[Finding]:
    """S4 by estimate and by trying, then S1, L5 and L6 by rehearsal; S6 and S7 by looking."""
    batch = int(job.get("batch", 1))
    out = slow_settings(engine, job) + schema_version(job) + memory(engine, groups, batch) + reference_apart(engine)
    if any(f.severity == "error" for f in out):
        return out
    out += longest_first(engine, method, groups, held_out, batch)
    if any(f.severity == "error" for f in out):
        return out
    if sum(p.numel() for p in engine.named_parameters().values()) > REHEARSED:
        return [*out, Finding("S1", "info", "Resume was not rehearsed: the model is large.", "")]
    return out + rehearse(engine, method, shortest(groups, 2))


def longest_first(
    engine: LocalEngine, method: Method, groups: Sequence[Group], held_out: Sequence[Group], batch: int
) -> list[Finding]:
    """S4: the longest batch of training runs forward and backward, the longest of validation forward, before step 1."""
    world = ranks.world()[1]
    longest = sorted(groups, key=tokens)[-max(batch // world, 1) :]
    held = sorted(held_out, key=tokens)[-max(4 * batch // world, 1) :]
    what = "training"
    began = time.perf_counter()
    try:
        laid_out = prepared(engine, method, longest)
        out = [f for f in finite(engine, method, laid_out, "longest") if f.id == "L2"]
        took = time.perf_counter() - began
        if held:
            what = "validation"
            evaluate(engine, method, [prepared(engine, method, held)])
    except (RuntimeError, MemoryError) as error:
        if not _out_of_memory(error):
            raise
        size = sum(map(tokens, longest if what == "training" else held))
        text = f"The longest batch of {what} ({size} tokens) does not fit in memory."
        return [Finding("S4", "error", text, "Lower token_budget or batch, use lora, or a smaller model.")]
    return out + speed(engine, laid_out.T, took)


def _out_of_memory(error: BaseException) -> bool:
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(w in str(error).lower() for w in words)


def rehearse(engine: LocalEngine, method: Method, groups: Sequence[Group]) -> list[Finding]:
    """S1: 2 steps + save + load + 2 steps give the bits of 4 steps. L5: the reference stands still. L6: everything moves.

    Everything is put back.
    """
    if engine.optimizer is None:
        return []
    rng, remembered = checkpoint.random_state(), dict(method.state())
    weights = {n: p.detach().clone() for n, p in engine.named_parameters().items()}
    roles = {r: {n: p.clone() for n, p in tensors.items()} for r, tensors in engine.state()["roles"].items()}
    has_reference = "reference" in method.needs().roles - method.needs().moving
    try:
        probe = laid(engine, groups)
        reference = engine.score(probe, Needs(logp=True), "reference").logp if has_reference else None
        _steps(engine, method, groups, 2)
        plain, tensors = checkpoint.split({"engine": engine.state(), "method": method.state()})
        state = checkpoint.join(json.loads(json.dumps(plain)), tensors)
        _steps(engine, method, groups, 2)
        straight = {n: p.detach().clone() for n, p in engine.named_parameters().items()}
        out = all_move(engine)
        if reference is not None:
            after = engine.score(probe, Needs(logp=True), "reference").logp
            assert after is not None
            out += reference_frozen(reference, after)
        engine.optimize(engine.settings, engine.lr, engine.steps)  # a resumed run starts from a new optimiser
        engine.load(state["engine"])
        method.load(state["method"])
        _steps(engine, method, groups, 2)
        return out + resumed_equal(straight, {n: p.detach() for n, p in engine.named_parameters().items()})
    except NonFiniteGradient as error:
        return [Finding("L2", "error", f"In the first steps: {error}.", "Lower lr, use fp32, or look at the rows.")]
    finally:
        with torch.no_grad():
            for name, parameter in engine.named_parameters().items():
                parameter.copy_(weights[name])
                parameter.grad = None
            for role, tensors in roles.items():
                for name, parameter in engine.roles[role].named_parameters():
                    parameter.copy_(tensors[name])
        method.load(remembered)
        engine.optimize(engine.settings, engine.lr, engine.steps)
        engine.done = 0
        checkpoint.set_random_state(rng)


def _steps(engine: LocalEngine, method: Method, groups: Sequence[Group], count: int) -> None:
    for _ in range(count):
        accumulate(engine, method, prepared(engine, method, groups))
        method.after(engine.done + 1, engine.step(), engine)


def all_move(engine: LocalEngine) -> list[Finding]:
    """L6: after some steps, every trainable tensor has seen a gradient that was not zero (the first one may be: LoRA's A)."""
    assert engine.optimizer is not None
    still = []
    for name, parameter in engine.named_parameters().items():
        moment = engine.optimizer.state.get(parameter, {}).get("exp_avg")
        if moment is not None and not bool((moment != 0).any()):
            still.append(name)
    return unmoved(still, "saw no gradient but zero in four steps", "warning")


def resumed_equal(straight: Mapping[str, torch.Tensor], resumed: Mapping[str, torch.Tensor]) -> list[Finding]:
    """S1: bitwise equality of two sets of weights."""
    for name, value in straight.items():
        if not torch.equal(value, resumed[name]):
            text = f"A resumed run differs from an undisturbed one ({name})."
            return [Finding("S1", "error", text, "Something that steps depend on is not in the checkpoint.")]
    return []


def source_findings(make: Callable[[int], Source] | None, seed: int) -> list[Finding]:
    """S1, S2: a source goes on where training stopped, and its order hangs on the data seed alone."""
    if make is None:
        return []
    before = checkpoint.split(checkpoint.random_state())
    first = _handed(make(seed), LOOKED_AT)
    if not _same(before, checkpoint.split(checkpoint.random_state())):
        return [Finding("S2", "error", "Building the data source draws from the global generators.", "Seed its own.")]
    if first != _handed(make(seed), LOOKED_AT):
        return [Finding("S2", "error", "Two sources of one seed give rows in different orders.", "Seed the order.")]
    rows = {row for step in first for row in step}
    if len(rows) > 8 and first == _handed(make(seed + 1), LOOKED_AT):
        return [Finding("S2", "error", "Another seed gives the same order of rows.", "Seed the order.")]
    resumed = _resumed(make, seed)
    if resumed != first[2 : 2 + len(resumed)]:
        text = "After a resume the source does not go on behind the last trained step."
        return [
            Finding("S1", "error", text, "Its state must count the groups that were trained, not those handed out.")
        ]
    return []


def _handed(source: Source, steps: int) -> list[list[int]]:
    return [[id(g) for g in groups] for groups in itertools.islice(source.stream(None), steps)]


def _resumed(make: Callable[[int], Source], seed: int) -> list[list[int]]:
    """The steps that a new source hands out from the state after two trained steps and one that was only handed out."""
    source = make(seed)
    for number, _ in enumerate(itertools.islice(source.stream(None), 3)):
        if number < 2:
            source.publish(None, number + 1)  # type: ignore[arg-type]
    state = json.loads(json.dumps(source.state()))
    other = make(seed)
    other.load(state)
    return _handed(other, LOOKED_AT - 2)


def _same(a: tuple[Any, dict[str, torch.Tensor]], b: tuple[Any, dict[str, torch.Tensor]]) -> bool:
    return a[0] == b[0] and all(torch.equal(a[1][n], b[1][n]) for n in a[1])


def memory(engine: LocalEngine, groups: Sequence[Group], batch: int, available: float | None = None) -> list[Finding]:
    """S4: bytes of weights, gradients, moments and the largest piece against what is free; above 95% is an error.

    Activations are counted as 34 d bytes a token and layer in half precision, twice that in fp32 (Korthikanti et al. 2022,
    arXiv:2205.05198, without the attention matrix), logits as three copies in fp32.
    """
    free = free_bytes(engine.device) if available is None else available
    if free is None:
        return []
    parts = estimate(engine, groups, batch)
    total = sum(parts.values())
    text = ", ".join(f"{n} {b / 2**20:.0f} MiB" for n, b in parts.items())
    if total > 0.95 * free:
        message = f"The plan needs {total / 2**20:.0f} MiB of {free / 2**20:.0f} MiB free ({text})."
        return [Finding("S4", "error", message, "Lower token_budget, use lora, or a smaller model.")]
    return [Finding("S4", "info", f"Estimated memory beside the weights as loaded: {text}.", "")]


def estimate(engine: LocalEngine, groups: Sequence[Group], batch: int) -> dict[str, float]:
    """Bytes still to be allocated, by part."""
    trainable = sum(p.numel() * p.element_size() for p in engine.named_parameters().values())
    config = engine.model.config
    width = int(getattr(config, "hidden_size", 0) or getattr(config, "n_embd", 0) or 1)
    layers = int(getattr(config, "num_hidden_layers", 0) or getattr(config, "n_layer", 0) or 1)
    longest = max(tokens(g) for g in groups)
    stream = max(longest, min(engine.token_budget, batch * longest))
    wide = next(engine.model.parameters()).element_size() / 2
    scored = min(engine.head_limit, stream * int(getattr(config, "vocab_size", 1)) * 12)
    hands = 1 if engine.hands is None else engine.hands.count  # each holds a piece and a gradient
    return {
        "gradients": float(trainable) * hands,
        "moments": 2.0 * trainable,
        "activations": 34.0 * wide * width * layers * stream * hands,
        "logits": float(scored) * hands,
    }


def fits_well(engine: LocalEngine, groups: Sequence[Group], batch: int, available: float | None = None) -> bool:
    """Does the largest step leave a fifth of the free memory? True where free memory or the sizes cannot be known."""
    free = free_bytes(engine.device) if available is None else available
    if free is None or not groups:
        return True
    return sum(estimate(engine, groups, batch).values()) < 0.8 * free


def free_bytes(device: torch.device) -> float | None:
    """Free memory of the device, None where it cannot be known."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="utf-8") as lines:
            table = {line.split(":")[0]: line.split()[1] for line in lines}
        return float(table["MemAvailable"]) * 1024
    except (OSError, KeyError, IndexError):
        return None


def schema_version(job: Mapping[str, Any]) -> list[Finding]:
    """S7: the recipe is not of a later schema than this program's."""
    version = int(job.get("version", SCHEMA_VERSION))
    if version <= SCHEMA_VERSION:
        return []
    return [
        Finding(
            "S7",
            "error",
            f"The recipe is of schema {version}, this program reads {SCHEMA_VERSION}.",
            "Upgrade posttrain.",
        )
    ]
