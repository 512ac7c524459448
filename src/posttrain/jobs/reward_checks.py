"""Checks of what scores the answers, before step 1: R4 (the reward model is the one that was trained), R8 (somebody looks besides it).

R4 compares the head in memory with the one on disk, orders pairs that the reward model learned from, and scores the same answers alone and
among others. R8 cannot see over-optimisation early; it asks for what will: a `probe`, and an audit of each reward model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from posttrain.core.finding import Finding
from posttrain.core.group import Group
from posttrain.core.run import Run
from posttrain.data.read import read
from posttrain.jobs import assembly
from posttrain.jobs.online import models_in
from posttrain.jobs.scoring import ModelReward, opened
from posttrain.models import heads
from posttrain.rewards import Criterion

if TYPE_CHECKING:
    from posttrain.jobs.train import Train

KNOWN = 32
"""Pairs that a reward model is asked to order again."""
ALONE = 1e-3
"""Largest difference of a score that the company of other answers may make."""


def findings(job: Train, groups: Sequence[Group]) -> list[Finding]:
    """R4 of every reward model that the run's reward is made of, on these answers of the policy, then R8."""
    out: list[Finding] = []
    for path, dtype, device in nodes(job.reward):
        out += loaded_well(opened(path, dtype, device), path, groups)
    return out + watched(job)


def nodes(reward: Criterion | None) -> list[tuple[str, str, str]]:
    """(path, dtype, device) of the reward models in a reward, as their nodes say."""
    found: dict[str, tuple[str, str, str]] = {}
    for node in parts_of(reward):
        if node.get("name") == "model":
            path = str(node["path"])
            found.setdefault(path, (path, str(node.get("dtype", "auto")), str(node.get("device", "cpu"))))
    return list(found.values())


def parts_of(reward: Criterion | None) -> list[Mapping[str, Any]]:
    """The node of a reward and those inside it."""
    found: list[Mapping[str, Any]] = []

    def walk(node: Any) -> None:
        if isinstance(node, Mapping):
            if isinstance(node.get("name"), str):
                found.append(node)
            for inner in node.values():
                walk(inner)
        elif isinstance(node, list | tuple):
            for inner in node:
                walk(inner)

    walk(None if reward is None else {"name": reward.name, **reward.model_dump(mode="json")})
    return found


def loaded_well(model: ModelReward, path: str, groups: Sequence[Group]) -> list[Finding]:
    """R4 of one reward model."""
    saved = heads.read_heads(model.loaded.path)["score.weight"]
    held = model.engine.heads["score"].weight.detach().cpu()  # type: ignore[union-attr, operator]
    if held.shape != saved.shape or not torch.allclose(
        held.float(), saved.float(), atol=1e-2 * float(saved.abs().max())
    ):
        text = f"{path}: the score head in memory is not the one on disk: it was made anew when the model was loaded."
        return [Finding("R4", "error", text, "Name the reward run itself, or train the reward model again.")]
    return ordered(model, path) + alone(model, path, groups)


def ordered(model: ModelReward, path: str) -> list[Finding]:
    """Does it put the better answer first on pairs that it learned from?"""
    pairs = [(g, p.i, p.j) for g in learned(path) for p in g.pairs() if p.p > 0.5 and not p.both_bad][:KNOWN]
    if not pairs:
        text = f"{path}: the comparisons that it learned from are not there, so its order was not checked."
        return [Finding("R4", "info", text, "")]
    groups = list({id(g): g for g, _, _ in pairs}.values())
    scores = {id(g): [s.value for s in row] for g, row in zip(groups, model(groups), strict=True)}
    right = sum((scores[id(g)][a] or 0.0) > (scores[id(g)][b] or 0.0) for g, a, b in pairs)
    text = f"{path}: puts the better answer first in {right} of {len(pairs)} comparisons that it learned from."
    if 2 * right > len(pairs):
        return [Finding("R4", "info", text, "")]
    return [Finding("R4", "error", text, "Its weights or its template are not those that were trained; compare them.")]


def learned(path: str) -> list[Group]:
    """Groups that a reward run learned from, where its manifest names a file that is still there."""
    for place in (Path(path), Path(assembly.resolve(path)).parent):
        manifest = Run(place).manifest
        if manifest.is_file():
            body = json.loads(manifest.read_text(encoding="utf-8"))
            files = [i["path"] for i in body.get("inputs", []) if i["name"] == "data" and Path(i["path"]).is_file()]
            return [g for f in files for g in read(f, limit=2 * KNOWN).groups]
    return []


def alone(model: ModelReward, path: str, groups: Sequence[Group]) -> list[Finding]:
    """Is an answer's score its own, whatever is scored beside it?"""
    together = model(groups)
    gap = 0.0
    for group, scores in list(zip(groups, together, strict=True))[:2]:
        for response, score in zip(group.responses, scores, strict=True):
            ((own,),) = model([group.with_responses([response])])
            gap = max(gap, abs((own.value or 0.0) - (score.value or 0.0)))
    dtype = next(model.loaded.model.parameters()).dtype
    if gap <= (ALONE if dtype == torch.float32 else 100 * ALONE):
        return []
    text = f"{path}: a score depends on what is scored beside it, by up to {gap:.2g}."
    return [Finding("R4", "error", text, "Use `dtype: fp32` for the reward; if it stays, tell us the architecture.")]


def watched(job: Train) -> list[Finding]:
    """R8: will anybody see that the reward rises and the answers get worse?"""
    if job.reward is None or all(Criterion.members[n["name"]].verifiable for n in _known(job.reward)):  # type: ignore[attr-defined]
        return []
    out = []
    if job.probe is None:
        text = "Nothing but the reward itself will say whether the answers get better."
        fix = "Give the run a `probe` with held-out prompts and a reward that is not trained on, or accept R8."
        out.append(Finding("R8", "warning", text, fix))
    for path in models_in(job.reward):
        if not (Path(path) / "audit" / "audit.json").is_file():
            text = f"{path}: this reward model was not audited for what it can be fooled by."
            out.append(Finding("R8", "warning", text, f"posttrain audit {path} --out {path}/audit, or accept R8."))
    return out


def _known(reward: Criterion) -> list[Mapping[str, Any]]:
    return [n for n in parts_of(reward) if n["name"] in Criterion.members]
