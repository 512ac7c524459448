"""What a run left behind, as the inputs of `audit.RLHFConsistencyChecker`, and its page section.

From the recipe: the preference rows and what was held out of them, the model it started from (the reference), the reward model that it
optimised; from the directory: the trained model and the log. Gold is the reading room's own where the rows are of that world. What a run
has not is told by the checks that need it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from posttrain.core.files import read_lines
from posttrain.core.group import Group
from posttrain.core.run import Run
from posttrain.jobs import assembly
from posttrain.jobs.job import Context, as_data
from posttrain.jobs.job import Data as Rows

if TYPE_CHECKING:
    from posttrain.audit import ConsistencyReport
    from posttrain.report.page import Section

MOST = 2000
"""Rows read of each side."""


@dataclass(frozen=True)
class Pieces:
    """Inputs of the checker; None where a run has no such thing."""

    data: list[Group] | None = None
    held_out: list[Group] | None = None
    reward_model: Any = None
    policy: Any = None
    reference: Any = None
    logs: list[dict[str, Any]] | None = None
    gold: Any = None
    beta: float = 0.1


def pieces(target: str, reward: str | None, scored: bool, context: Context) -> Pieces | None:
    """What the run `target` has; None where it is no run with a recipe. reward: a reward run to take in place of the recipe's."""
    from posttrain.jobs.online import models_in
    from posttrain.jobs.scoring import ModelReward
    from posttrain.rollout.policy import Policy

    run = Run(target)
    if not run.recipe.is_file():
        return None
    recipe = yaml.safe_load(run.recipe.read_text(encoding="utf-8")) or {}
    data, held = rows_of(recipe, context)
    node = recipe.get("reward")
    named = [p for p in models_in_node(node, models_in) if Path(p).exists()]
    judged_by = target if scored else reward or next(iter(named), None)
    model = None if judged_by is None else ModelReward(judged_by)
    start = recipe.get("model")
    paired = [g for g in data or () if g.pairs()]
    room = bool(data) and all("gold" in g.facts and "task" in g.facts for g in (data or ())[:20])
    here = not scored and isinstance(start, str) and Path(assembly.resolve(start)).exists()
    method = recipe.get("method")
    return Pieces(
        data=paired or (data if not scored else None),
        held_out=held,
        reward_model=model,
        policy=None if scored else Policy.open(assembly.resolve(target)),
        reference=Policy.open(assembly.resolve(str(start))) if here else None,
        logs=read_lines(run.metrics) if run.metrics.is_file() else None,
        gold=_gold() if room and not scored else None,
        beta=float(method["beta"]) if isinstance(method, dict) and method.get("beta") else 0.1,
    )


def models_in_node(node: Any, models_in: Callable[[Any], list[str]]) -> list[str]:
    """Paths of reward models in a recipe's plain reward node."""
    from posttrain.jobs.online import as_reward_node

    try:
        return [] if node is None else models_in(as_reward_node(node))
    except ValueError:
        return []  # a reward written in Python is not in the recipe


def _gold() -> Any:
    from posttrain.readingroom.gold import GoldReward

    return GoldReward()


def rows_of(recipe: dict[str, Any], context: Context) -> tuple[list[Group] | None, list[Group] | None]:
    """Training and held-out groups of a recipe, split as the run split them; None where files are gone or there was none."""
    try:
        sources: tuple[Rows, ...] = as_data(recipe["data"])
    except (KeyError, ValueError):
        return None, None
    if not all(Path(d.path).exists() for d in sources):
        context.say("consistency: the run's data files are not where they were; checks of data are left out")
        return None, None
    parts, validation = assembly.gather(sources, context), recipe.get("validation") or 0
    held: list[Group] = []
    if isinstance(validation, str) and Path(validation).exists():
        held = assembly.gather(as_data(validation), context)[0].groups
    elif not isinstance(validation, str) and validation:
        share = int(validation) if validation >= 1 else validation
        held = assembly.hold_out(parts, share, int(recipe.get("seed", 0)))
    data = [g for p in parts for g in p.groups]
    if max(len(data), len(held)) > MOST:
        context.say(
            f"consistency: the first {MOST:,} of {len(data):,} rows are checked, {min(MOST, len(held)):,} held-out"
        )
    return data[:MOST] or None, held[:MOST] or None


def consistency(
    target: str, reward: str | None, scored: bool, fast: bool, seed: int, context: Context
) -> ConsistencyReport | None:
    """The checker's report on a run; None where the target is no run, or left nothing to check."""
    from posttrain.audit import RLHFConsistencyChecker

    found = pieces(target, reward, scored, context)
    if found is None or not any((found.data, found.policy, found.reward_model, found.logs)):
        return None
    samples, tokens = (40, 48) if fast else (200, 128)
    checker = RLHFConsistencyChecker(found.beta, samples, tokens, seed=seed, progress=context.say)
    return checker.analyze(
        data=found.data,
        reward_model=found.reward_model,
        policy=found.policy,
        reference=found.reference,
        logs=found.logs,
        held_out=found.held_out,
        gold=found.gold,
    )


def section(report: ConsistencyReport) -> Section:
    """The checks as a section of the audit's page: issues first, then every check."""
    from html import escape

    from posttrain.audit.consistency_figures import CHECKS
    from posttrain.report.page import Section, node, table

    said = "".join(node("li", escape(str(i))) for i in report.issues)
    rows = [
        [
            f"{r.id} {CHECKS[r.id][0]}",
            r.arm,
            "" if r.verdict == "not_run" else f"{r.estimate:+.3f} {r.unit}",
            "" if r.verdict == "not_run" else f"[{r.ci95[0]:+.3f}, {r.ci95[1]:+.3f}]",
            r.verdict + (f" (needs n = {r.n_needed})" if r.verdict == "inconclusive" and r.n_needed else ""),
            r.note,
        ]
        for r in report.results
    ]
    top = node("ul", said) if said else node("p", "No check that ran found an issue.")
    body = table(["check", "arm", "value", "95% interval", "verdict", "note"], rows, "Consistency", (2, 3))
    return Section("consistency", "Data, reward model and policy", top + body)
