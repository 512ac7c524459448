"""What a run took, from its own files: time, labels, tokens, memory, the models it held, and how steadily it went.

Labels are rows that somebody (or something) had to judge or write: those of runs that learn from given rows; prompts that the policy
answers itself are no labels. A run may rest on others (a reward model): `with_others` adds theirs. Leaves out the cost of the base model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from posttrain.core.files import read_lines
from posttrain.core.method import Method
from posttrain.core.run import Run

NOTHING: Mapping[str, Any] = dict.fromkeys(
    ("seconds", "rows", "labels", "tokens", "sampled", "parameters", "memory", "method", "models", "steps", "alerts")
) | {"rollbacks": None, "stopped": None}


def cost_of(path: str) -> dict[str, Any]:
    """Seconds, rows, labels, trained and sampled tokens, weights, peak memory (GiB), models held, alerts; None where not trained here."""
    run = Run(path)
    done = run.finished
    if done is None:
        return dict(NOTHING)
    steps = read_lines(run.metrics) if run.metrics.is_file() else []
    seen = [s["memory_mib"] / 1024 for s in steps if s.get("memory_mib") is not None]
    recipe = yaml.safe_load(run.recipe.read_text(encoding="utf-8")) if run.recipe.is_file() else {}
    rows = sum(d["kept"] for d in done.get("data", []))
    tokens = int(sum(s.get("trained_tokens", 0) for s in steps))
    sampled = recipe.get("reward") is not None
    counted = done.get("parameters")  # a soup tells its size alone
    return {
        "seconds": done.get("seconds"),
        "rows": rows,
        "labels": 0 if sampled else rows,
        "tokens": tokens,
        "sampled": tokens if sampled else 0,
        "parameters": counted.get("trainable") if isinstance(counted, dict) else None,
        "memory": max(seen, default=None),
        "method": done.get("method"),
        "models": held(recipe),
        "steps": done.get("steps"),
        "alerts": sorted(done.get("alerts") or ()),
        "rollbacks": len(done.get("rollbacks") or ()),
        "stopped": done.get("stopped"),
    }


def held(recipe: Mapping[str, Any]) -> list[str]:
    """Models in memory while a run of this recipe learns; with an adapter the reference is the policy itself."""
    if not recipe.get("method"):
        return []
    needs = Method.of(recipe["method"]).needs()
    roles = [r for r in sorted(needs.roles) if not (r == "reference" and recipe.get("lora"))]
    out = ["policy", *roles]
    reward = recipe.get("reward")
    if "'model'" in repr(reward) and "path" in repr(reward):
        out.append("reward model")
    return out


def with_others(own: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A run's cost with that of the runs that it rests on: times, labels and tokens add up, memory is the largest."""
    out = dict(own)
    for key in ("seconds", "labels", "tokens"):
        known = [c[key] for c in (own, *others) if c[key] is not None]
        out[key] = sum(known) if known else None
    peaks = [c["memory"] for c in (own, *others) if c["memory"] is not None]
    out["memory"] = max(peaks, default=None)
    out["first"] = [str(c["method"]) for c in others]
    return out
