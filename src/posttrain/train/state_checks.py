"""Checks of state, memory and speed settings, S1-S6 of the pitfalls list, and L5, on a rehearsal that is undone afterwards."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from posttrain.core.finding import Finding
from posttrain.core.group import Group
from posttrain.core.method import Method
from posttrain.core.needs import Needs
from posttrain.core.recipe import SCHEMA_VERSION
from posttrain.engine.local import LocalEngine
from posttrain.models.load import Loaded, cpu_has_bf16
from posttrain.train import checkpoint
from posttrain.train.loop import accumulate
from posttrain.train.loss_checks import reference_frozen, shortest

REHEARSED = 200_000_000
"""Parameters up to which the run's first steps are rehearsed with a copy of its trainable tensors."""


def findings(
    engine: LocalEngine, method: Method, groups: Sequence[Group], job: Mapping[str, Any], loaded: Loaded
) -> list[Finding]:
    """S1, S2 and L5 by rehearsal, S4 by estimate, S6 and S7 by looking."""
    out = slow_settings(engine, job) + schema_version(job) + memory(engine, groups, int(job.get("batch", 1)))
    if sum(p.numel() for p in engine.named_parameters().values()) > REHEARSED:
        return [*out, Finding("S1", "info", "Resume was not rehearsed: the model is large.", "")]
    return out + rehearse(engine, method, shortest(groups, 2))


def rehearse(engine: LocalEngine, method: Method, groups: Sequence[Group]) -> list[Finding]:
    """S1: 2 steps + save + load + 2 steps give the bits of 4 steps. L5: the reference stands still. Everything is put back."""
    if engine.optimizer is None:
        return []
    rng, remembered = checkpoint.random_state(), dict(method.state())
    weights = {n: p.detach().clone() for n, p in engine.named_parameters().items()}
    has_reference = "reference" in method.needs().roles
    try:
        probe = engine.layout(groups)
        reference = engine.score(probe, Needs(logp=True), "reference").logp if has_reference else None
        _steps(engine, method, groups, 2)
        saved = checkpoint.split({"engine": engine.state(), "method": method.state()})
        _steps(engine, method, groups, 2)
        straight = {n: p.detach().clone() for n, p in engine.named_parameters().items()}
        state = checkpoint.join(*saved)
        engine.load(state["engine"])
        method.load(state["method"])
        _steps(engine, method, groups, 2)
        out = resumed_equal(straight, {n: p.detach() for n, p in engine.named_parameters().items()})
        if reference is not None:
            after = engine.score(probe, Needs(logp=True), "reference").logp
            assert after is not None
            out += reference_frozen(reference, after)
        return out
    finally:
        with torch.no_grad():
            for name, parameter in engine.named_parameters().items():
                parameter.copy_(weights[name])
                parameter.grad = None
        method.load(remembered)
        engine.optimize(engine.settings, engine.lr, engine.steps)
        engine.done = 0
        checkpoint.set_random_state(rng)


def _steps(engine: LocalEngine, method: Method, groups: Sequence[Group], count: int) -> None:
    for _ in range(count):
        accumulate(engine, method, method.prepare(engine.layout(groups), engine))
        method.after(engine.done + 1, engine.step(), engine)


def resumed_equal(straight: Mapping[str, torch.Tensor], resumed: Mapping[str, torch.Tensor]) -> list[Finding]:
    """S1: bitwise equality of two sets of weights."""
    for name, value in straight.items():
        if not torch.equal(value, resumed[name]):
            text = f"A resumed run differs from an undisturbed one ({name})."
            return [Finding("S1", "error", text, "Something that steps depend on is not in the checkpoint.")]
    return []


def same_seed_same_hash(first: str, second: str) -> list[Finding]:
    """S2: two builds from one seed have equal weights."""
    if first == second:
        return []
    return [Finding("S2", "error", "Two builds from one seed differ.", "Seed before any parameter exists.")]


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
    longest = max(_tokens(g) for g in groups)
    stream = max(longest, min(engine.token_budget, batch * longest))
    wide = next(engine.model.parameters()).element_size() / 2
    scored = min(engine.head_limit, stream * int(getattr(config, "vocab_size", 1)) * 12)
    return {
        "gradients": float(trainable),
        "moments": 2.0 * trainable,
        "activations": 34.0 * wide * width * layers * stream,
        "logits": float(scored),
    }


def _tokens(group: Group) -> int:
    assert group.prompt_tokens is not None
    return len(group.prompt_tokens) + sum(len(r.tokens) for r in group.responses if r.tokens is not None)


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


def slow_settings(engine: LocalEngine, job: Mapping[str, Any]) -> list[Finding]:
    """S6: settings that are many times slower than they look: bf16 on a CPU without it, more threads than cores."""
    out = []
    dtype = next(engine.model.parameters()).dtype
    if engine.device.type == "cpu" and dtype != torch.float32 and not cpu_has_bf16():
        text = f"{dtype} on this CPU is 15 to 150 times slower than fp32."
        out.append(Finding("S6", "warning", text, "Use dtype: fp32."))
    cores = os.cpu_count() or 1
    threads = int(job.get("threads") or torch.get_num_threads())
    if engine.device.type == "cpu" and threads > cores:
        out.append(Finding("S6", "warning", f"{threads} threads on {cores} cores fight for them.", "Lower `threads`."))
    return out


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
