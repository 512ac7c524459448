"""What the stages of a reading-room pipeline gained, measured against the world's truth: summary.json and one page.

Every stage brings a file of answers to the same held-out prompts, one or more per prompt. Gold scores them here, after all training; a
prompt counts by the mean of its answers, and stages are compared paired
by prompt. KL is the mean over answers of sum_t log p(stage) - log p(reference), on answers drawn anew at temperature 1 (on others the mean
would be no estimate of it). The reward model is judged on all pairs of answers to a prompt with different gold.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import PositiveInt

from posttrain.core.files import write_json, write_text
from posttrain.core.group import Group
from posttrain.core.recipe import Spec
from posttrain.core.run import fingerprint, versions
from posttrain.data.read import read
from posttrain.jobs.assembly import resolve
from posttrain.jobs.job import Context, Job
from posttrain.jobs.room import rows
from posttrain.jobs.spent_kl import log_ratios
from posttrain.readingroom.gold import GoldReward
from posttrain.readingroom.world import SIMULATION_NOTE, VERSION
from posttrain.report.pipeline import write_pipeline_report
from posttrain.stats import Interval, ahead_in_one_seed, cluster_bootstrap, wilson

KL_PROMPTS = 128
"""Prompts whose answers estimate a KL."""
GAPS = ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.01))


class Measured(Spec):
    """A stage and the answers that it is judged by."""

    name: str
    """What the page calls it."""
    method: str
    """How it was made."""
    samples: str
    """JSONL of answers to the held-out prompts."""
    model: str | None = None
    """Model that gave them, for the KL; none for a stage without a model of its own."""
    made: tuple[str, ...] = ()
    """Runs and files whose seconds count as this stage's."""
    best_of: bool = False
    """Take the answer that its scores like best, of several per prompt."""


class RoomReport(Job):
    """Measure the stages of a reading-room pipeline against the gold, and write summary.json and the page."""

    name: ClassVar[str] = "room-report"

    stages: tuple[Measured, ...]
    """Stages, in order; the page compares each with the one before it and with the first."""
    out: str
    """Directory for summary.json, report.html and scored rows."""
    reference: str
    """Model that KL is measured against."""
    candidates: str | None = None
    """Several scored answers per prompt, to judge the reward model by."""
    compare: tuple[tuple[str, str], ...] = ()
    """Pairs of stage names (better, other) whose separation is the claim."""
    seed: int = 0
    """Seeds the intervals, and names the run."""
    max_tokens: PositiveInt = 160
    """Longest answer drawn for the KL."""
    shown: PositiveInt = 6
    """Prompts shown side by side."""

    def run(self, context: Context | None = None) -> Path:
        context = context or Context()
        began = time.time()
        out = Path(self.out)
        scored = {s.name: self._scored(s) for s in self.stages}
        stages = [self._stage(s, scored[s.name], out) for s in self.stages]
        winners = [self._winner(a, b, scored) for a, b in self.compare]
        summary: dict[str, Any] = {
            "title": "From a base model to an aligned one",
            "world": VERSION,
            "simulation": SIMULATION_NOTE,
            "created": time.strftime("%Y-%m-%dT%H:%M:%S"),
            "seed": self.seed,
            "stages": stages,
            "winners": winners,
            "tasks": self._tasks(scored),
            "samples": self._side_by_side(scored),
            "versions": versions(),
        }
        if self.candidates is not None:
            judged = reward_accuracy(groups_of(self.candidates))
            summary["reward_model"] = judged
            for stage in stages:
                if stage["method"] == "best-of-n":
                    stage["rm_accuracy"] = judged["by_gap"]
        made = {path for stage in self.stages for path in stage.made}  # stages share what they were made of
        summary["seconds"] = round(sum(seconds_of(path) for path in made) + time.time() - began, 1)
        write_json(out / "summary.json", summary)
        page = write_pipeline_report(out, _for_page(summary))
        for stage in stages:
            context.say(f"{stage['name']:<12} gold {_interval(stage)}  kl {_shown(stage['kl'])}")
        if self.candidates is not None:
            context.say(f"reward model: accuracy {summary['reward_model']['accuracy']['estimate']:.3f}")
        for winner in winners:
            context.say(winner["text"])
        return page

    def _scored(self, stage: Measured) -> list[Group]:
        """Answers with their gold; best-of-n picks one per prompt by the scores that came with the answers."""
        groups = groups_of(stage.samples)
        if stage.best_of:
            groups = [g.with_responses([max(g.responses, key=_own)]) for g in groups]
        gold = GoldReward()
        return [
            g.with_responses([replace(r, score=s) for r, s in zip(g.responses, scores)])
            for g, scores in zip(groups, gold(groups))
        ]

    def _stage(self, stage: Measured, groups: Sequence[Group], out: Path) -> dict[str, Any]:
        file = write_text(out / "rows" / f"{stage.name}.jsonl", rows(groups))
        gold = cluster_bootstrap(values(groups), [g.prompt_hash for g in groups], seed=self.seed).within(0, 1)
        return {
            "name": stage.name,
            "method": stage.method,
            "seconds": round(sum(seconds_of(m) for m in stage.made), 1),
            "gold": gold.estimate,
            "gold_ci": [gold.low, gold.high],
            "kl": self._kl(stage, groups),
            "samples": str(file),
            "n": len(groups),
            "hash": fingerprint(file),
        }

    def _kl(self, stage: Measured, groups: Sequence[Group]) -> dict[str, Any] | None:
        """Nats per answer from the reference; for best-of-n the bound log n - (n - 1) / n."""
        if stage.best_of:
            n = len(groups_of(stage.samples)[0].responses)
            return {"estimate": math.log(n) - (n - 1) / n, "low": None, "high": None, "method": "upper bound"}
        if stage.model is None:
            return None
        if resolve(stage.model) == resolve(self.reference):
            return {"estimate": 0.0, "low": 0.0, "high": 0.0, "method": "the reference itself"}
        ratios = log_ratios(stage.model, self.reference, groups[:KL_PROMPTS], self.max_tokens, self.seed)
        kl = cluster_bootstrap(ratios, seed=self.seed)
        return kl.to_json()

    def _winner(self, a: str, b: str, scored: Mapping[str, Sequence[Group]]) -> dict[str, Any]:
        for name in (a, b):
            if name not in scored:
                raise ValueError(f"compare: no stage {name!r}; known: {', '.join(scored)}")
        difference = np.asarray(values(scored[a])) - np.asarray(values(scored[b]))
        found = ahead_in_one_seed(difference, name=self.seed)
        return {
            "a": a,
            "b": b,
            "difference": found.interval.within(-1, 1).to_json(),
            "bound": found.bound,
            "separated": found.separated,
            "seeds": dict(found.by_seed),
            "prompts": found.prompts,
            "text": f"{a} against {b}: {found}",
        }

    def _tasks(self, scored: Mapping[str, Sequence[Group]]) -> dict[str, dict[str, Any]]:
        out: dict[str, dict[str, Any]] = {}
        for name, groups in scored.items():
            for task in sorted({g.facts["task"] for g in groups}):
                mine = [g for g in groups if g.facts["task"] == task]
                if len(mine) >= 2:
                    found = cluster_bootstrap(values(mine), seed=self.seed).within(0, 1)
                    out.setdefault(task, {})[name] = found.to_json()
        return out

    def _side_by_side(self, scored: Mapping[str, Sequence[Group]]) -> list[dict[str, Any]]:
        first, *_ = scored.values()
        picked = range(0, len(first), max(1, len(first) // self.shown))
        return [
            {
                "id": first[i].id,
                "prompt": first[i].prompt_text,
                "answers": {name: groups[i].responses[0].text for name, groups in scored.items()},
                "scores": {name: values([_first(groups[i])])[0] for name, groups in scored.items()},
            }
            for i in list(picked)[: self.shown]
        ]


def _first(group: Group) -> Group:
    return group.with_responses(group.responses[:1])


def groups_of(path: str) -> list[Group]:
    """The groups of a file that `sample` wrote."""
    return read(path, shape="groups").groups


def values(groups: Sequence[Group]) -> list[float]:
    """Gold of each group: the mean over its answers."""
    out = []
    for item in groups:
        golds = [r.score.value for r in item.responses if r.score is not None and r.score.value is not None]
        assert len(golds) == len(item.responses) > 0, f"{item.id} has an answer without gold"
        out.append(float(np.mean(golds)))
    return out


def _own(response: Any) -> float:
    value = response.score.value if response.score is not None else None
    return -math.inf if value is None else value


def reward_accuracy(groups: Sequence[Group]) -> dict[str, Any]:
    """How often a reward model orders two answers as the gold does: all pairs of a prompt with different gold, by size of the gap.

    Ties of the reward count half. Intervals resample prompts.
    """
    gold = GoldReward()(groups)
    hits: list[float] = []
    gaps: list[float] = []
    prompt: list[str] = []
    for item, truth in zip(groups, gold):
        known = [(t.value, _own(r)) for t, r in zip(truth, item.responses)]
        for i, (gold_i, score_i) in enumerate(known):
            for gold_j, score_j in known[i + 1 :]:
                if gold_i is None or gold_j is None or gold_i == gold_j:
                    continue
                agree = np.sign(gold_i - gold_j) * np.sign(score_i - score_j)
                hits.append((agree + 1) / 2)
                gaps.append(abs(gold_i - gold_j))
                prompt.append(item.prompt_hash)
    by_gap = []
    for low, high in GAPS:
        mine = [k for k, gap in enumerate(gaps) if low < gap <= high]
        if mine:
            right = sum(hits[k] for k in mine)
            by_gap.append(
                {"gap": f"{low:.1f}-{min(high, 1.0):.1f}", "accuracy": wilson(round(right), len(mine)).to_json()}
            )
    accuracy = (
        cluster_bootstrap(hits, prompt).within(0, 1)
        if len(set(prompt)) > 1
        else Interval(float("nan"), 0.0, 1.0, 0, "none", 0.95)
    )
    return {"accuracy": accuracy.to_json(), "pairs": len(hits), "prompts": len(set(prompt)), "by_gap": by_gap}


def seconds_of(path: str) -> float:
    """Seconds that a run or a file took, from its manifest; 0 for what shipped with the package."""
    at = Path(path)
    for manifest in (at / "manifest.json", at.with_name(at.name + ".manifest.json")):
        if manifest.is_file():
            return float(json.loads(manifest.read_text(encoding="utf-8")).get("seconds", 0.0))
    return 0.0


def _interval(stage: Mapping[str, Any]) -> str:
    return f"{stage['gold']:.3f} [{stage['gold_ci'][0]:.3f}, {stage['gold_ci'][1]:.3f}]"


def _shown(kl: Mapping[str, Any] | None) -> str:
    return "-" if kl is None else f"{kl['estimate']:.2f}"


def _for_page(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The summary with numbers as the page wants them: an estimate with its interval."""
    stages = [
        {
            **s,
            "gold": {"estimate": s["gold"], "low": s["gold_ci"][0], "high": s["gold_ci"][1], "n": s["n"]},
            "kl": None if s["kl"] is None else {**s["kl"], "n": s["n"]},
        }
        for s in summary["stages"]
    ]
    lineage = [{"name": s["name"], "path": s["samples"], "hash": s["hash"]} for s in summary["stages"]]
    return {**summary, "stages": stages, "seeds": {"seed": summary["seed"]}, "lineage": lineage}
