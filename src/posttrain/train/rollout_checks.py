"""Checks of sampling and rewards before step 1: R1, R2, R3 and R5 of the pitfalls list, on a few answers that the policy just gave.

R6 (sampler weights equal the trainer's after a sync) is R1 on adapters and new weights, and a test holds it; R7 (generation ends) is
the budget of every request. R4 and R8 look at the reward and belong to the jobs (`jobs.reward_checks`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from posttrain.core.batch import Batch
from posttrain.core.finding import Finding
from posttrain.core.group import Group
from posttrain.core.method import Method
from posttrain.core.needs import Needs
from posttrain.engine.local import LocalEngine
from posttrain.train.loss_checks import laid

RATIO_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
LOOSE = 2e-2
"""Mean difference that is let pass in half precision; the correction's weights take it from there."""
SAME = 1e-5


def findings(engine: LocalEngine, method: Method, groups: Sequence[Group], job: Mapping[str, Any]) -> list[Finding]:
    """R3 before R1 (a truncated sampler explains a ratio that is not 1), then R2 and R5."""
    batch = laid(engine, groups)
    out = truncation(method, batch) + ratio(engine, method, batch) + placed(batch)
    if method.online:
        out += spread(method, groups, batch)
    return out


def truncation(method: Method, batch: Batch) -> list[Finding]:
    """R3: log-probs before and after truncation agree, or weights correct for it."""
    old, sampled = batch.data.get("old"), batch.data.get("sampled")
    if not method.online or old is None or sampled is None or getattr(method, "correction", None) is not None:
        return []
    gap = float((old - sampled).abs().max()) if batch.N else 0.0
    if gap <= SAME:
        return []
    text = (
        f"Answers are drawn from a truncated distribution: their log-probs differ by up to {gap:.2g} from the policy's."
    )
    return [Finding("R3", "error", text, "Set top_p to 1 and top_k to 0, or give the method a `correction`.")]


def ratio(engine: LocalEngine, method: Method, batch: Batch) -> list[Finding]:
    """R1: the trainer's log-probs of answers just drawn equal the sampler's, at the same temperature."""
    old = batch.data.get("old")
    if old is None or not batch.N:
        return []
    temperature = method.needs().temperature if method.online else 1.0
    again = engine.score(batch, Needs(logp=True, temperature=temperature)).logp
    assert again is not None
    gap = (again - old).abs()
    dtype = next(engine.model.parameters()).dtype
    worst, mean = float(gap.max()), float(gap.mean())
    limit = RATIO_TOLERANCE.get(dtype)
    if (worst <= limit) if limit is not None else (mean <= LOOSE):
        return [Finding("R1", "info", f"Sampler and trainer agree on log-probs within {worst:.1e}.", "")]
    if not method.online:
        return []
    text = f"Before any update the ratio is not 1: log-probs of sampler and trainer differ by up to {worst:.2g} (mean {mean:.2g})."
    corrected = getattr(method, "correction", None) is not None
    return [
        Finding(
            "R1",
            "info" if corrected else "error",
            text,
            "Sample at the method's temperature, or give the method a `correction`.",
        )
    ]


def placed(batch: Batch) -> list[Finding]:
    """R2: the place where a score is read, and where its reward stands, is the last trained token of each answer."""
    ends = torch.from_numpy(batch.tokens_of[1:] - 1).to(batch.ids.device)
    own = batch.row[ends] == torch.arange(batch.R, device=ends.device)
    if bool((batch.ids[batch.last] == batch.target[ends]).all()) and bool(own.all()):
        return []
    text = "The reward does not stand at the last trained token."
    return [Finding("R2", "error", text, "Report this: the layout is wrong.")]


def spread(method: Method, groups: Sequence[Group], batch: Batch) -> list[Finding]:
    """R5: rewards differ somewhere, and answers can be scored at all."""
    score = batch.data["score"]
    if bool(score.isnan().all()):
        why = next((r.score.why for g in groups for r in g.responses if r.score is not None), "no score")
        return [
            Finding("R5", "error", f"The reward scores none of {batch.R} answers: {why}.", "Look at the rows' facts.")
        ]
    if told_apart(method, groups):
        return []
    shown = "; ".join(f"{r.text[:40]!r} {r.score.value if r.score else None}" for r in groups[0].responses[:2])
    text = f"All answers of {len(groups)} prompts have the same reward inside their group: {shown}."
    return [
        Finding("R5", "warning", text, "Ask easier prompts, sample more answers, or grade more finely.", groups[0].id)
    ]


def told_apart(method: Method, groups: Sequence[Group]) -> list[Group]:
    """The groups that teach: those whose scores differ, for methods that compare answers of a group."""
    if not method.online:
        return list(groups)
    values = [[r.score.value for r in g.responses if r.score is not None and r.score.value is not None] for g in groups]
    several = any(len(v) > 1 for v in values)
    return [g for g, v in zip(groups, values, strict=True) if v and (not several or max(v) > min(v))]
