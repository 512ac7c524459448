"""What a finished run says of itself: what it was made of, what it did, what it was warned of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from posttrain.core.run import fingerprint, versions
from posttrain.jobs.mixing import drawn
from posttrain.jobs.train import now

if TYPE_CHECKING:
    from posttrain.jobs.training import Training


def told(rollback: dict[str, Any]) -> str:
    """A rollback in one line, for people."""
    on = f"; it went on with {rollback['changed']}" if "changed" in rollback else "; the run ended there"
    return f"rolled back to step {rollback['to']}, before {rollback['fault']}: {rollback['reason']}{on}"


def manifest_of(run: Training) -> dict[str, Any]:
    """The manifest of a run that has just ended; the files of its model are hashed."""
    trainable = sum(p.numel() for p in run.engine.named_parameters().values())
    return {
        "name": run.out.path.name,
        "job": "train",
        "method": run.job.method.name,
        "created": now(),
        "seconds": round(time.time() - run.began, 2),
        "steps": run.done,
        "stopped": run.stopped,
        "seeds": {"seed": run.job.seed},
        "versions": versions(),
        "recipe_hash": run.recipe_hash,
        "inputs": run.inputs,
        "outputs": [{"name": "model", "path": "model", "hash": fingerprint(run.out.model)}],
        "data": [p.account() for p in run.parts],
        "drawn": drawn(run.parts, run.job.mixture, run.source),
        "validation_rows": len(run.held_out),
        "parameters": {"trainable": trainable, "all": sum(p.numel() for p in run.loaded.model.parameters())},
        "layout": run.engine.path,
        "threads": run.threads,
        "kept_scores": run.engine.kept.counts() if run.engine.kept is not None else None,
        "alerts": run.alerts.raised | ({} if run.probing is None else run.probing.raised),
        "probe": None if run.probing is None else run.probing.told(),
        "rollbacks": run.rollbacks,
        "accepted": list(run.job.accept),
        "findings": [{n: getattr(f, n) for n in ("id", "severity", "message", "fix", "row")} for f in run.findings],
        "notes": run.notes + run.engine.notes + [told(r) for r in run.rollbacks],
        "token_counts": run.samples.token_counts,
    }
