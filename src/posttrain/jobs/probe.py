"""A held-out probe: answers to the same prompts, scored every few steps by the reward that is trained on and by one that is not.

    probe: {data: held_out.jsonl, gold: runs/other-rm, every: 50, action: rollback}
    again: {beta: 2}

The rule is `train.monitors.StopRule` (gold falls while the proxy does not; Gao et al. 2023, arXiv:2210.10760). The first look is before
step 1, every look draws with the same seeds, and the state of the best look is kept where the run may have to go back. Leaves out which
feature of the answers (length, markup, refusals) explains a gain, and a queue for people.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import PositiveFloat, PositiveInt, field_validator, model_validator

from posttrain.core.group import Group, Score
from posttrain.core.recipe import Spec, dump_kind
from posttrain.core.run import Run
from posttrain.jobs import assembly
from posttrain.jobs.online import RewardNode, models_in
from posttrain.rewards import Criterion
from posttrain.rollout.rollouts import Rollouts
from posttrain.train.hooks import Quiet
from posttrain.train.loop import Step
from posttrain.train.monitors import StopRule

if TYPE_CHECKING:
    from posttrain.jobs.training import Training

LOOK = 2**41
"""The step number that the looks' seeds hang on: none that a run reaches, and the same at every look."""


class Probe(Spec):
    """Hold the reward that is trained on against one that is not, on prompts that are not trained on."""

    data: str
    """Prompts to answer at every look: a file that the run does not train on."""
    gold: RewardNode
    """What they are judged by: a rule, another reward run, a judge, `module:function`; never the reward that is trained on."""
    prompts: PositiveInt = 200
    """How many of them, from the file's start."""
    every: PositiveInt = 50
    """Steps between looks."""
    n: PositiveInt = 1
    """Answers to each prompt; a prompt counts by their mean."""
    action: Literal["warn", "stop", "rollback"] = "stop"
    """When gold falls and the reward does not: say so, end the run, or end it with the weights of the best look."""

    @field_validator("gold")
    @classmethod
    def _given(cls, gold: Criterion | None) -> Criterion:
        if gold is None:
            raise ValueError("name a reward that is not trained on")
        return gold


class Again(Spec):
    """Go on after a rollback, from where it led to, with a new seed and a changed setting."""

    beta: PositiveFloat = 1.0
    """Factor on the method's KL coefficient, each time; 2 holds the policy twice as near to its reference."""
    lr: PositiveFloat = 1.0
    """Factor on the learning rate, each time."""
    times: Literal[1, 2] = 2
    """How often; after that a rollback ends the run."""

    @model_validator(mode="after")
    def _changes(self) -> Again:
        if self.beta == 1.0 and self.lr == 1.0:
            raise ValueError("say what changes: `beta: 2` or `lr: 0.5`; the same settings lead to the same end")
        return self


class Probing(Quiet):
    """The hook that looks. latest: figures of a step that looked. sick: the step at which the rule spoke. keep: stores the best."""

    def __init__(
        self, probe: Probe, asked: Sequence[Group], drawn: Rollouts, steps: int, say: Callable[[str], None]
    ) -> None:
        self.probe, self.asked, self.drawn, self.steps, self.say = probe, asked, drawn, steps, say
        self.rule = StopRule(planned=-(-steps // probe.every))
        self.latest: dict[str, float] = {}
        self.rows: list[dict[str, float]] = []
        self.sick: int | None = None
        self.raised: dict[str, str] = {}
        self.keep: Callable[[int], None] = lambda step: None

    def __call__(self, step: Step) -> str | None:
        self.latest = {}
        if step.number % self.probe.every and step.number != self.steps:
            return None
        return self.look(step.number)

    def look(self, step: int) -> str | None:
        """One look at the weights as they are; the reason to end the run, or None. Raises ValueError where gold cannot score the first."""
        self.drawn.sampler.sync()  # type: ignore[attr-defined]
        answered = self.drawn.sample(self.asked, LOOK)
        assert self.probe.gold is not None
        gold = self._means(self.probe.gold(answered), "probe.gold")
        proxy = self._means([[r.score or Score(None) for r in g.responses] for g in answered], "reward")
        lengths = [len(r.tokens) for g in answered for r in g.responses if r.tokens is not None]
        reason = self.rule.note(step, gold, proxy)
        self.latest = {
            "probe_gold": float(np.mean(gold)),
            "probe_reward": float(np.mean(proxy)),
            "probe_length": float(np.mean(lengths)),
        }
        self.rows.append({"step": step, **self.latest})
        if self.rule.best[0] == step:
            self.keep(step)
        if reason is None:
            return None
        self.sick = self.sick or step
        self.raised.setdefault("over_optimised", f"step {step}: {reason}")
        self.say(f"alert: over_optimised: step {step}: {reason}")
        return None if self.probe.action == "warn" else reason

    def _means(self, scores: Sequence[Sequence[Score]], what: str) -> list[float]:
        """Mean score by prompt. An answer without a score counts as the lowest one seen in this look: it cannot be read any more."""
        known = [s.value for row in scores for s in row if s.value is not None]
        missing = sum(len(row) for row in scores) - len(known)
        if not known or (missing and not self.rows):
            why = next((s.why for row in scores for s in row if s.value is None), "")
            raise ValueError(f"probe: {what} cannot score {missing} answers before the first step ({why})")
        low = min(known)
        return [float(np.mean([low if s.value is None else s.value for s in row])) for row in scores]

    def told(self) -> dict[str, Any]:
        """For the manifest: what gold is, every look, the best one."""
        return {"gold": dump_kind(self.probe.gold), "looks": self.rows, "best": self.rule.best[0], "stopped": self.sick}

    def state(self) -> dict[str, Any]:
        return {"rule": self.rule.state(), "rows": self.rows, "sick": self.sick, "raised": self.raised}

    def load(self, state: Mapping[str, Any]) -> None:
        self.rule.load(state["rule"])
        self.rows, self.sick, self.raised = [dict(r) for r in state["rows"]], state["sick"], dict(state["raised"])


def probing(run: Training) -> Probing | None:
    """The probe of a run, None where its recipe has none. Raises ValueError where gold is not apart from the reward."""
    probe = run.job.probe
    if probe is None:
        return None
    apart(run.job.reward, probe.gold)
    (part,) = assembly.gather((assembly.Data(path=probe.data, limit=probe.prompts),), run.context)
    part.groups = [g.with_responses(()) for g in part.groups]
    trained = {g.prompt_hash for p in run.parts for g in p.groups}
    if shared := sum(g.prompt_hash in trained for g in part.groups):
        raise ValueError(f"probe.data: {shared} of {len(part.groups)} prompts are trained on; hold them out")
    rollout = run.job.sampled
    assert rollout is not None
    sampler = run.online.sampler_of(run.loaded.model)
    drawn = Rollouts(
        run.online.drawn.prompts, sampler, run.job.reward, probe.n, rollout.sampling(run.job.method), run.job.seed
    )
    return Probing(probe, part.groups, drawn, run.steps, run.context.say)


def apart(reward: Criterion | None, gold: Criterion | None) -> None:
    """Raises ValueError where gold is the reward itself, or reward models of both learned from the same rows."""
    if dump_kind(reward) == dump_kind(gold):
        raise ValueError("probe.gold: this is the reward that is trained on; name another")
    rows = [{h for path in models_in(node) for h in learned_from(path)} for node in (reward, gold)]
    if rows[0] & rows[1]:
        raise ValueError("probe.gold: its reward model learned from the same rows as the reward; train it on others")


def learned_from(path: str) -> set[str]:
    """Hashes of the rows that a reward run learned from, by its manifest."""
    manifest = Run(Path(assembly.resolve(path))).manifest
    if not manifest.is_file():
        manifest = Run(Path(path)).manifest
    if not manifest.is_file():
        return set()
    body = json.loads(manifest.read_text(encoding="utf-8"))
    return {str(i["hash"]) for i in body.get("inputs", []) if i["name"] == "data"}
