"""Checks of losses and gradients on the run's own model and rows, L1-L6 and D3 of the pitfalls list."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from posttrain.core.batch import Batch
from posttrain.core.finding import Finding
from posttrain.core.group import Group
from posttrain.core.method import Method
from posttrain.core.needs import Needs
from posttrain.engine.local import LocalEngine
from posttrain.train.loop import Tally, accumulate

GRADIENT_TOLERANCE = 1e-4
FORWARD_TOLERANCE = 1e-4


def findings(engine: LocalEngine, method: Method, groups: Sequence[Group]) -> list[Finding]:
    """All of L1-L6 and D3 on two short groups; no weight moves."""
    two = shortest(groups, 2)
    batch = method.prepare(engine.layout(two), engine)
    wide = next(engine.model.parameters()).dtype in (torch.float32, torch.float64)
    out = dropout_off(engine) + finite(engine, method, batch)
    if any(f.severity == "error" for f in out):
        return out
    out += anchors(engine, method, batch)
    if wide and engine.optimizer is not None:
        out += split(engine, method, batch) + isolation(engine, two)
    return out


def shortest(groups: Sequence[Group], wanted: int) -> list[Group]:
    """The shortest groups with different prompts (fewer when there are not as many)."""
    size = {id(g): sum(len(r.tokens) for r in g.responses if r.tokens is not None) for g in groups}
    picked: dict[str, Group] = {}
    for item in sorted(groups, key=lambda g: size[id(g)]):
        key = item.prompt_hash if item.prompt else item.id + item.responses[0].text[:64]
        picked.setdefault(key, item)
        if len(picked) == wanted:
            break
    return list(picked.values())


def gradients(engine: LocalEngine, method: Method, batch: Batch, budget: int | None = None) -> dict[str, Tensor]:
    """Gradient of one step by tensor name, with another token budget if given; weights and gradients are left as they were."""
    before = engine.token_budget
    engine.token_budget = budget or before
    try:
        accumulate(engine, method, batch)
        return {n: p.grad.clone() for n, p in engine.named_parameters().items() if p.grad is not None}
    finally:
        engine.token_budget = before
        for parameter in engine.named_parameters().values():
            parameter.grad = None


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> tuple[float, str]:
    """Largest relative difference per tensor, and its name; tensors far below the largest gradient count against that one."""
    scale = max((float(v.norm()) for v in a.values()), default=1.0)
    worst, name = 0.0, ""
    for key in a:
        gap = float((a[key] - b[key]).norm()) / max(float(a[key].norm()), 1e-3 * scale, 1e-30)
        if gap > worst:
            worst, name = gap, key
    return worst, name


def split(engine: LocalEngine, method: Method, batch: Batch) -> list[Finding]:
    """L1: the same gradient whether the step is one piece or several."""
    if method.atom == "step" or batch.R < 2:
        return []
    gap, name = distance(gradients(engine, method, batch, 10**9), gradients(engine, method, batch, 1))
    if gap <= GRADIENT_TOLERANCE:
        return []
    text = f"Cutting a step into pieces changes its gradient by {gap:.1e} ({name})."
    return [Finding("L1", "error", text, "Divide sums by counts of the whole step, not of a piece.")]


def finite(engine: LocalEngine, method: Method, batch: Batch) -> list[Finding]:
    """L2, L6: the loss is finite, the gradient finite and not zero, and every trainable tensor takes part."""
    tally = Tally()
    named = engine.named_parameters()
    accumulate(engine, method, batch, tally)
    got = {n: p.grad for n, p in named.items()}
    for parameter in named.values():
        parameter.grad = None
    if not math.isfinite(tally.sums["loss"]):
        return [
            Finding(
                "L2",
                "error",
                f"The loss of the first rows is {tally.sums['loss']}.",
                "Look at these rows and the precision.",
            )
        ]
    bad = [n for n, g in got.items() if g is not None and not bool(torch.isfinite(g).all())]
    if bad:
        return [Finding("L2", "error", f"The gradient of {bad[0]} is not finite.", "Use fp32, or look at these rows.")]
    if not any(g is not None and bool((g != 0).any()) for g in got.values()):
        return [
            Finding(
                "L2", "error", "The gradient is zero everywhere: nothing would be learned.", "Check masks and labels."
            )
        ]
    idle = [n for n, g in got.items() if g is None]
    if idle:
        text = f"{len(idle)} trainable tensors get no gradient, first {idle[0]}."
        severity = "info" if _unused_here(idle) else "error"
        return [Finding("L6", severity, text, "Freeze them, or find out why they are not used.")]
    return []


def _unused_here(names: Sequence[str]) -> bool:
    # A reward model does not use the language-model head, a mixture of experts not every expert on two rows.
    return all("lm_head" in n or "embed_out" in n or "expert" in n or "output" in n for n in names)


def dropout_off(engine: LocalEngine) -> list[Finding]:
    """L3: no role draws noise; policy and reference could not agree otherwise."""
    for role, model in {"policy": engine.model, **engine.roles}.items():
        for name, module in model.named_modules():
            if isinstance(module, nn.Dropout) and module.p > 0 and module.training:
                text = f"Dropout is on in the {role} ({name}, p = {module.p})."
                return [Finding("L3", "error", text, "Set dropout to 0 for preference and reward training.")]
    return []


def anchors(engine: LocalEngine, method: Method, batch: Batch) -> list[Finding]:
    """L3: before step 1 the policy equals its reference, so that log-ratios, margins and KL are 0."""
    if "reference" not in method.needs().roles:
        return []
    needs = Needs(logp=True)
    own, reference = engine.score(batch, needs).logp, engine.score(batch, needs, "reference").logp
    assert own is not None and reference is not None
    gap = float((own - reference).abs().max())
    if gap <= FORWARD_TOLERANCE:
        return []
    text = f"Policy and reference differ by {gap:.1e} nats before the first step."
    return [Finding("L3", "error", text, "Start the policy from the reference's weights, dropout off.")]


def isolation(engine: LocalEngine, groups: Sequence[Group]) -> list[Finding]:
    """D3, L4: a group's log-probs are those it has alone, whatever lies beside it and in whatever order."""
    if len(groups) < 2:
        return []
    needs = Needs(logp=True)
    alone = [engine.score(engine.layout([g]), needs).logp for g in groups]
    together = engine.score(engine.layout(groups), needs).logp
    turned = engine.score(engine.layout(list(reversed(groups))), needs).logp
    assert together is not None and turned is not None and all(a is not None for a in alone)
    sizes = [len(a) for a in alone if a is not None]
    apart = torch.cat([a for a in alone if a is not None])
    back = torch.cat(list(reversed(turned.split(list(reversed(sizes))))))
    out = []
    leak = float((together - apart).abs().max())
    if leak > FORWARD_TOLERANCE:
        text = f"Groups leak into each other: log-probs move by {leak:.1e} beside another group."
        out.append(Finding("D3", "error", text, "Use layout: dense, and report this architecture."))
    order = float((back - together).abs().max())
    if order > FORWARD_TOLERANCE:
        text = f"The order of rows changes log-probs by {order:.1e}."
        out.append(Finding("L4", "error", text, "Use layout: dense, and report this architecture."))
    return out


def reference_frozen(before: Tensor, after: Tensor) -> list[Finding]:
    """L5: the reference's log-probs are the same after steps of the policy."""
    if torch.equal(before, after):
        return []
    text = f"The reference moved by {float((before - after).abs().max()):.1e} nats while the policy was trained."
    return [
        Finding("L5", "error", text, "The reference must be another object than the policy, or the adapter turned off.")
    ]
