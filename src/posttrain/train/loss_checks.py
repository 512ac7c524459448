"""Checks of losses and gradients on the run's own model and rows: L1-L4, L6 and D3 of the pitfalls list; L5 is judged here too.

They run on two short groups laid out whole on every rank, so that ranks agree on what they see. No weight moves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from posttrain.core.batch import Batch, layout
from posttrain.core.finding import Finding
from posttrain.core.group import Group
from posttrain.core.method import Method
from posttrain.core.needs import Needs
from posttrain.engine.local import LocalEngine
from posttrain.train.loop import Tally, accumulate

GRADIENT_TOLERANCE = 1e-4
FORWARD_TOLERANCE = 1e-4
AT_REFERENCE = ("margin", "kl", "reward_chosen", "reward_rejected")
"""Metrics that are 0 while the policy is its reference."""


def findings(engine: LocalEngine, method: Method, groups: Sequence[Group]) -> list[Finding]:
    """All of L1-L4, L6 and D3 on two short groups; errors that make the later checks meaningless end the list."""
    two = list(method.arrange(shortest(groups, 2)))
    raw = laid(engine, two)
    out = rows_laid(raw, two)
    if out:
        return out
    batch = prepared(engine, method, two)
    out = quiet(engine, batch) + finite(engine, method, batch)
    if any(f.severity == "error" for f in out):
        return out
    out += anchors(engine, method, batch)
    if next(engine.model.parameters()).dtype in (torch.float32, torch.float64) and engine.optimizer is not None:
        leak = isolation(engine, neighbours(groups))  # a leak changes gradients too: it is told once, by its own name
        out += leak or split(engine, method, batch)
    return out


def laid(engine: LocalEngine, groups: Sequence[Group]) -> Batch:
    """The groups on this rank, all of them (`engine.layout` would hand each rank its share)."""
    return layout(groups, engine.path or "shared").to(engine.device)


def prepared(engine: LocalEngine, method: Method, groups: Sequence[Group]) -> Batch:
    """What `loss` reads of these groups, all of them on this rank."""
    return method.prepare(laid(engine, method.arrange(groups)), engine)


def tokens(group: Group) -> int:
    """Stream tokens of a group."""
    prompt = 0 if group.prompt_tokens is None else len(group.prompt_tokens)
    return prompt + sum(len(r.tokens) for r in group.responses if r.tokens is not None)


def shortest(groups: Sequence[Group], wanted: int) -> list[Group]:
    """The shortest groups with different prompts (fewer when there are not as many)."""
    picked: dict[str, Group] = {}
    for item in sorted(groups, key=tokens):
        key = item.prompt_hash if item.prompt else item.id + item.responses[0].text[:64]
        picked.setdefault(key, item)
        if len(picked) == wanted:
            break
    return list(picked.values())


def neighbours(groups: Sequence[Group]) -> list[Group]:
    """A short group and a longer one, so that padding, where there is any, shows."""
    order = sorted(groups, key=tokens)
    return [order[0], order[len(order) // 2]] if len(order) > 1 else order


def rows_laid(batch: Batch, groups: Sequence[Group]) -> list[Finding]:
    """D1: every answer, and every trained token, is in the batch."""
    rows = sum(len(g.responses) for g in groups)
    scored = sum(int((torch.as_tensor(r.trained) > 0).sum()) for g in groups for r in g.responses)
    if (rows, scored, len(groups)) == (batch.R, batch.N, batch.G):
        return []
    text = f"{rows} answers with {scored} trained tokens were laid out as {batch.R} with {batch.N}."
    return [Finding("D1", "error", text, "Report this: the layout loses rows.", groups[0].id)]


@contextmanager
def clean(engine: LocalEngine) -> Iterator[None]:
    """No gradient before, none afterwards."""
    named = engine.named_parameters()
    for parameter in named.values():
        parameter.grad = None
    try:
        yield
    finally:
        for parameter in named.values():
            parameter.grad = None


def gradients(engine: LocalEngine, method: Method, batch: Batch, budget: int | None = None) -> dict[str, Tensor]:
    """Gradient of one step by tensor name, with another token budget if given; weights and gradients are left as they were."""
    before = engine.token_budget
    engine.token_budget = budget or before
    try:
        with clean(engine):
            accumulate(engine, method, batch)
            return {n: p.grad.clone() for n, p in engine.named_parameters().items() if p.grad is not None}
    finally:
        engine.token_budget = before


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> tuple[float, str]:
    """Largest relative difference per tensor, and its name; tensors far below the largest gradient count against that one."""
    scale = max((float(v.norm()) for v in a.values()), default=1.0)
    worst, name = 0.0, ""
    for key in a:
        other = b.get(key, torch.zeros_like(a[key]))
        gap = float((a[key] - other).norm()) / max(float(a[key].norm()), 1e-3 * scale, 1e-30)
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


def finite(engine: LocalEngine, method: Method, batch: Batch, rows: str = "first") -> list[Finding]:
    """L2, L6: the loss is finite, the gradient finite and not zero, and every trainable tensor takes part."""
    tally = Tally()
    with clean(engine):
        accumulate(engine, method, batch, tally)
        got = {n: p.grad for n, p in engine.named_parameters().items()}
    loss = tally.sums.get("loss", 0.0)
    if not math.isfinite(loss):
        text = f"The loss of the {rows} rows is {loss}."
        return [Finding("L2", "error", text, "Look at these rows, the weights and the precision.")]
    bad = [n for n, g in got.items() if g is not None and not bool(torch.isfinite(g).all())]
    if bad:
        text = f"The gradient of {bad[0]} on the {rows} rows is not finite."
        return [Finding("L2", "error", text, "Use fp32, or look at these rows.")]
    if not any(g is not None and bool((g != 0).any()) for g in got.values()):
        text = "The gradient is zero everywhere: nothing would be learned."
        return [Finding("L2", "error", text, "Check masks, labels and weights.")]
    idle = [n for n, g in got.items() if g is None]
    return unmoved(idle, "get no gradient", "error") if idle else []


def unmoved(idle: Sequence[str], what: str, severity: str) -> list[Finding]:
    """L6: trainable tensors that nothing would move."""
    if not idle:
        return []
    text = f"{len(idle)} trainable tensors {what}, first {idle[0]}."
    grade = "info" if _unused_here(idle) else severity
    return [Finding("L6", grade, text, "Freeze them, or find out why they are not used.")]  # type: ignore[arg-type]


def _unused_here(names: Sequence[str]) -> bool:
    # A reward model does not use the language-model head, a mixture of experts not every expert on two rows.
    return all("lm_head" in n or "embed_out" in n or "expert" in n for n in names)


def quiet(engine: LocalEngine, batch: Batch) -> list[Finding]:
    """L3: no role draws noise; policy and reference could not agree otherwise. Dropout is looked for, other noise is measured."""
    fix = "Set dropout to 0 for preference and reward training."
    needs = Needs(logp=True)
    for role, model in {"policy": engine.model, **engine.roles}.items():
        for name, module in model.named_modules():
            if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0 and module.training:
                return [Finding("L3", "error", f"Dropout is on in the {role} ({name}, p = {module.p}).", fix)]
        first, second = engine.score(batch, needs, role).logp, engine.score(batch, needs, role).logp
        assert first is not None and second is not None
        gap = float((torch.nan_to_num(first) - torch.nan_to_num(second)).abs().max()) if len(first) else 0.0
        if gap > 1e-6:
            return [Finding("L3", "error", f"The {role} gives two answers to one question, {gap:.1e} nats apart.", fix)]
    return []


def anchors(engine: LocalEngine, method: Method, batch: Batch) -> list[Finding]:
    """L3: before step 1 the policy equals its reference, so that log-ratios, margins and KL are 0."""
    if "reference" not in method.needs().roles:
        return []
    needs = Needs(logp=True)
    own, reference = engine.score(batch, needs).logp, engine.score(batch, needs, "reference").logp
    assert own is not None and reference is not None
    fix = "Start the policy from the reference's weights, dropout off."
    gap = float((own - reference).abs().max()) if len(own) else 0.0
    if gap > FORWARD_TOLERANCE:
        return [Finding("L3", "error", f"Policy and reference differ by {gap:.1e} nats before the first step.", fix)]
    with torch.no_grad():
        metrics = method.loss(engine.score(batch, method.needs()), batch).metrics
    length = max(int(batch.length.max(initial=1)), 1)
    for name in AT_REFERENCE:
        value, count = metrics.get(name, (0.0, 1))
        mean = float(value) / max(float(count), 1.0)
        if not abs(mean) <= FORWARD_TOLERANCE * length:
            text = f"Policy equals reference, and yet {name} is {mean:.1e} before the first step, not 0."
            return [Finding("L3", "error", text, "Look at what prepare() keeps of the reference.")]
    return []


def isolation(engine: LocalEngine, groups: Sequence[Group]) -> list[Finding]:
    """D3, L4: a group's log-probs are those it has alone, whatever lies beside it and in whatever order."""
    if len(groups) < 2:
        return []
    needs = Needs(logp=True)
    alone = [engine.score(laid(engine, [g]), needs).logp for g in groups]
    together = engine.score(laid(engine, groups), needs).logp
    turned = engine.score(laid(engine, list(reversed(groups))), needs).logp
    assert together is not None and turned is not None
    parts = [a for a in alone if a is not None]
    apart = torch.cat(parts)
    back = torch.cat(list(reversed(turned.split([len(a) for a in reversed(parts)]))))
    leak, order = float((together - apart).abs().max()), float((back - together).abs().max())
    fix = "Use layout: dense, and report this architecture."
    if engine.path == "dense" and leak > FORWARD_TOLERANCE:
        text = f"Padding changes log-probs by {leak:.1e}."
        return [Finding("L4", "error", text, "Report this architecture: its attention reads padding.")]
    if leak > FORWARD_TOLERANCE:
        return [Finding("D3", "error", f"Groups leak into each other: log-probs move by {leak:.1e}.", fix)]
    if order > FORWARD_TOLERANCE:
        return [Finding("L4", "error", f"The order of rows changes log-probs by {order:.1e}.", fix)]
    return []


def reference_frozen(before: Tensor, after: Tensor) -> list[Finding]:
    """L5: the reference's log-probs are the same after steps of the policy."""
    if torch.equal(before, after):
        return []
    text = f"The reference moved by {float((before - after).abs().max()):.1e} nats while the policy was trained."
    fix = "The reference must be another object than the policy, or the adapter turned off."
    return [Finding("L5", "error", text, fix)]


def reference_apart(engine: LocalEngine) -> list[Finding]:
    """L5: no frozen role shares memory with what is trained (seen without a step, for models too large to rehearse)."""
    trained = {p.data_ptr(): n for n, p in engine.named_parameters().items()}
    for role, model in engine.roles.items():
        for name, parameter in model.named_parameters():
            if parameter.data_ptr() in trained:
                text = f"The {role} shares {name} with the policy and would move with it."
                return [Finding("L5", "error", text, "Give the reference weights of its own.")]
    return []
