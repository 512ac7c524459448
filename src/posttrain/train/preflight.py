"""The preflight: what would go wrong, found before step 1.

Runs the checks of tokens and masks (T, M), data (D), losses and gradients (L), state (S) and, where the policy answers, of sampling
(R), on a sample, in seconds. An error stops, a warning needs its id in the recipe's `accept`, info is printed. The result goes to
check.json with the hashes that it depends on; the same hashes later reuse it. Ids are those of docs/preflight.md.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posttrain.core.files import hash_json, write_json
from posttrain.core.finding import Finding
from posttrain.core.group import Group
from posttrain.core.method import Method
from posttrain.core.protocols import Source
from posttrain.core.run import versions
from posttrain.engine.local import LocalEngine
from posttrain.models import checks
from posttrain.models.load import Loaded
from posttrain.models.render import Renderer
from posttrain.train import data_checks, loss_checks, rollout_checks, state_checks

FIRST, LONGEST, RANDOM = 100, 25, 25


class PreflightError(ValueError):
    """The preflight found errors, or warnings that the recipe does not accept."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        lines = [
            f"{f.id} {f.severity}: {f.message} Fix: {f.fix}" + (f" (row {f.row})" if f.row else "") for f in findings
        ]
        ids = sorted({f.id for f in findings if f.severity == "warning"})
        hint = f"\nWarnings that you have read can be accepted by name: accept: [{', '.join(ids)}]" if ids else ""
        super().__init__("preflight refuses this run\n" + "\n".join(lines) + hint)


@dataclass
class Subject:
    """What a run is about to do. parts: (row account, rendered groups) of every data source. source: the run's source by data seed."""

    job: Mapping[str, Any]
    method: Method
    loaded: Loaded
    renderer: Renderer
    engine: LocalEngine
    parts: Sequence[tuple[Mapping[str, Any], Sequence[Group]]]
    held_out: Sequence[Group]
    inputs: Sequence[Mapping[str, str]]
    source: Callable[[int], Source] | None = None
    full: bool = False
    sampled: bool = False
    """Are the groups answers that the policy gave, and not rows?"""
    scored_by: Callable[[Sequence[Group]], list[Finding]] | None = None
    """Checks of what scores those answers (R4, R8): of the job, which knows the reward."""

    @property
    def groups(self) -> list[Group]:
        return [g for _, groups in self.parts for g in groups]

    def fingerprint(self) -> str:
        """What the verdict depends on: the tokens themselves, model, template, recipe and versions. Steps and places do not matter."""
        aside = (
            "out",
            "log_to",
            "project",
            "keep",
            "steps",
            "epochs",
            "samples",
            "sample_tokens",
            "accept",
            "preflight",
        )
        return hash_json(
            {
                "inputs": [dict(i) for i in self.inputs],
                "tokens": _digest([*self.groups, *self.held_out]),
                "recipe": {k: v for k, v in self.job.items() if k not in aside},
                "template": self.loaded.template.hash,
                "versions": versions(),
                "full": self.full,
            }
        )


def _digest(groups: Sequence[Group]) -> str:
    digest = hashlib.sha256()
    for group in groups:
        arrays = [group.prompt_tokens, *(a for r in group.responses for a in (r.tokens, r.trained))]
        for array in arrays:
            digest.update(b"|" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def sample(groups: Sequence[Group], full: bool) -> list[Group]:
    """The first, the longest and some random groups; all of them with `full`."""
    if full or len(groups) <= FIRST + LONGEST + RANDOM:
        return list(groups)
    size = [sum(len(r.tokens) for r in g.responses if r.tokens is not None) for g in groups]
    longest = np.argsort(size)[::-1][:LONGEST]
    drawn = np.random.default_rng(0).choice(len(groups), RANDOM, replace=False)
    return [groups[i] for i in dict.fromkeys([*range(FIRST), *longest.tolist(), *drawn.tolist()])]


def inspect(subject: Subject) -> list[Finding]:
    """All findings, most severe first. The first occurrence of each (id, message) is kept."""
    picked = sample(subject.groups, subject.full)
    found: list[Finding] = []
    if subject.sampled:
        found += rollout_checks.findings(subject.engine, subject.method, picked, subject.job)
        found += subject.scored_by(picked) if subject.scored_by is not None else []
        picked = rollout_checks.told_apart(subject.method, picked)
        if not picked or any(f.severity == "error" for f in found):
            return sorted(found, key=lambda f: f.id)
    elif _is_chat(picked):
        rows = subject.loaded.model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
        bare = [
            g.with_responses(g.responses) for g in picked
        ]  # the checks look at single answers: no pair may name another
        found += checks.sample_findings(subject.renderer, bare, rows, subject.method.needs().score > 0)
        found += checks.directory_findings(subject.loaded, subject.renderer, bare)
    if not subject.sampled:
        kept = sample(subject.held_out, subject.full)
        found += data_checks.findings(subject.parts, subject.held_out, subject.renderer, subject.job, [*picked, *kept])
    found += state_checks.source_findings(subject.source, int(subject.job.get("seed", 0)))
    found += loss_checks.findings(subject.engine, subject.method, picked)
    if not any(f.severity == "error" and f.id in ("L2", "L3", "L6") for f in found):
        groups = picked if subject.sampled else subject.groups
        found += state_checks.findings(subject.engine, subject.method, groups, subject.held_out, subject.job)
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted({(f.id, f.message): f for f in found}.values(), key=lambda f: (order[f.severity], f.id))


def preflight(
    subject: Subject, file: Path, accepted: Sequence[str] = (), say: Callable[[str], None] = print
) -> list[Finding]:
    """Check, write check.json, print what matters. Raises PreflightError on errors and on warnings that are not accepted."""
    began = time.perf_counter()
    fingerprint = subject.fingerprint()
    found = _known(file, fingerprint)
    known = found is not None
    if found is None:
        found = inspect(subject)
        body = {"fingerprint": fingerprint, "seconds": round(time.perf_counter() - began, 2)}
        write_json(file, {**body, "findings": [f.to_json() for f in found]})
    blocking = [f for f in found if f.severity == "error" or (f.severity == "warning" and f.id not in accepted)]
    for finding in found:
        if finding not in blocking:
            mark = "accepted " if finding.severity == "warning" else ""
            say(f"check {finding.id} {mark}{finding.severity}: {finding.message}")
    if blocking:
        raise PreflightError(blocking)
    how = "known from check.json" if known else f"{time.perf_counter() - began:.1f} s"
    say(f"preflight: no error in {len(subject.groups)} groups ({how})")
    return found


def _known(file: Path, fingerprint: str) -> list[Finding] | None:
    if not file.is_file():
        return None
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
        if body["fingerprint"] != fingerprint:
            return None
        return [Finding(**f) for f in body["findings"]]
    except (json.JSONDecodeError, KeyError, TypeError):
        return None


def _is_chat(groups: Sequence[Group]) -> bool:
    return any(m.role != "document" for g in groups for r in g.responses for m in r.turns)
