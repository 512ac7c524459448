"""How well a model does on rows: answers scored, references' likelihood, means with intervals, and one line per prompt for later pairing.

    exact_match   the answer equals a reference, white space folded          (rows with reference answers)
    gold, gold/*  the reading room's verdict and its parts                   (prompts of the reading room)
    reward        mean score of a reward run                                 (`reward` given)
    logp          mean log-probability per reference token, its stop included (rows with reference answers)

An estimate is the mean over prompts of the mean over each prompt's answers; intervals resample prompts (`stats.cluster_bootstrap`).
Leaves out extraction of final answers, judges and paired comparisons of two runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt

from posttrain.core.files import write_json, write_text
from posttrain.core.group import Group, Response
from posttrain.core.protocols import Request, Sampling
from posttrain.core.run import Run
from posttrain.jobs import assembly
from posttrain.jobs.job import Context, Job, Source
from posttrain.jobs.sample import answering, device_of
from posttrain.jobs.scoring import ModelReward
from posttrain.jobs.stage import Stage, paths_of
from posttrain.models.render import Renderer
from posttrain.readingroom.gold import GoldReward
from posttrain.rollout.sampler import Sampler
from posttrain.stats import Interval, cluster_bootstrap


@dataclass
class Evaluated:
    """What was measured. metrics: interval by name. rows: one mapping per row of the data, with answers and their figures."""

    metrics: dict[str, Interval]
    rows: list[dict[str, Any]]
    path: Path


class Evaluate(Job):
    """Measure a model on rows: answers scored, references' likelihood, intervals."""

    name: ClassVar[str] = "eval"
    positional: ClassVar[tuple[str, ...]] = ("model", "data")

    model: str
    """Model to measure: a directory, a run or a hub id."""
    data: Source
    """Prompts, with reference answers or reading-room facts."""
    out: str
    """Directory for eval.json (figures) and rows.jsonl (one line per row)."""
    n: PositiveInt = 1
    """Answers per prompt."""
    temperature: NonNegativeFloat = 0.0
    """0 always takes the likeliest token."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Draw from the likeliest tokens that hold this share of the probability."""
    max_tokens: PositiveInt = 256
    """Longest answer."""
    seed: int = 0
    """Seed of the draws and of the intervals."""
    reward: str | None = None
    """Reward run whose mean score is measured too."""
    logp: bool = True
    """Measure the likelihood of reference answers."""
    template: str | None = None
    """Chat template: a built-in name or a .jinja file; none takes the tokenizer's own."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""

    def run(self, context: Context | None = None) -> Evaluated:
        """Measure, write the files, return both. Reuses a finished result of the same recipe and inputs."""
        context = context or Context()
        inputs = [self.model, *paths_of(self.data), *([self.reward] if self.reward else [])]
        stage = Stage(self, self.name, self.out, inputs, file=False)
        files = (stage.out / "eval.json", stage.out / "rows.jsonl")
        if stage.finished:
            context.say(f"{self.out}: finished with the same recipe and inputs; reused")
            return read_result(stage.out)
        rows = self._rows(context)
        metrics = summary(rows, self.seed)
        if not metrics:
            raise ValueError("nothing to measure: no reference answers, no reading-room facts, and no `reward` given")
        Run(stage.out).start({"job": self.name, **self.model_dump(mode="json")})
        write_json(files[0], {"rows": len(rows), "metrics": {k: plain(v) for k, v in metrics.items()}})
        write_text(files[1], "".join(json.dumps(r, ensure_ascii=False, default=str) + "\n" for r in rows))
        stage.finish(files, rows=len(rows))
        for name, made in metrics.items():
            context.say(f"{name:<18} {made} ({made.n} prompts, {made.method})")
        return Evaluated(metrics, rows, stage.out)

    def _rows(self, context: Context) -> list[dict[str, Any]]:
        device = device_of(self.device)
        asked = [g for part in assembly.gather(self.data, context) for g in part.groups]
        _, renderer, sampler = answering(self.model, self.template, device)
        drawn = Sampling(temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens)
        requests = [Request(g.prompt, drawn, self.n, self.seed, g.id, facts=g.facts, tools=g.tools) for g in asked]
        made = sampler.generate(requests)
        rows = [_row(a, m) for a, m in zip(asked, made, strict=True)]
        if self.reward is not None:
            for row, scores in zip(rows, ModelReward(self.reward, device=device)(made), strict=True):
                row["figures"]["reward"] = [s.value for s in scores]
        if self.logp:
            for row, value in zip(rows, reference_logps(asked, renderer, sampler), strict=True):
                if value is not None:
                    row["figures"]["logp"] = [value]
        return rows


def _row(asked: Group, made: Group) -> dict[str, Any]:
    """A row with its answers and what a rule can say of them."""
    figures: dict[str, list[float | None]] = {}
    wanted = references(asked)
    if wanted:
        figures["exact_match"] = [float(fold(r.text) in {fold(t) for t in wanted}) for r in made.responses]
    if str(asked.facts.get("id", "")).startswith("rr") and "gold" in asked.facts:
        scores = GoldReward()([made])[0]
        figures["gold"] = [s.value for s in scores]
        for part in scores[0].parts:
            figures[f"gold/{part}"] = [s.parts[part] for s in scores]
    return {
        "id": asked.id,
        "prompt_hash": asked.prompt_hash,
        "prompt": [m.to_json() for m in asked.prompt],
        "answers": [r.text for r in made.responses],
        "stops": [r.stop for r in made.responses],
        "references": wanted,
        "figures": figures,
    }


def references(group: Group) -> list[str]:
    """Texts that count as right: the answers of the row that no other answer is preferred to, and none labelled bad."""
    worse = {p.j if p.p > 0.5 else p.i for p in group.pairs() if p.p != 0.5 or p.both_bad}
    worse |= {i for p in group.pairs() if p.both_bad for i in (p.i, p.j)}
    return [r.text for i, r in enumerate(group.responses) if i not in worse and r.label is not False and r.turns]


def fold(text: str) -> str:
    """Text with runs of white space as one space."""
    return " ".join(text.split())


def reference_logps(groups: Sequence[Group], renderer: Renderer, sampler: Sampler) -> list[float | None]:
    """Mean log-probability per trained token of each row's references; None for rows without one."""
    out: list[float | None] = []
    for group in groups:
        good = references(group)
        kept = [r for r in group.responses if r.text in good]
        if not kept:
            out.append(None)
            continue
        bare = group.with_responses([replace(r, tokens=None, trained=None) for r in kept])
        rendered = renderer.render(bare)
        assert rendered is not None
        out.append(_mean_logp(rendered.responses, sampler.logp([rendered])[0]))
    return out


def _mean_logp(responses: Sequence[Response], logps: Sequence[Any]) -> float | None:
    total, count = 0.0, 0
    for response, logp in zip(responses, logps, strict=True):
        trained = np.asarray(response.trained) > 0
        total += float(logp.double().cpu().numpy()[trained].sum())
        count += int(trained.sum())
    return total / count if count else None


def summary(rows: Sequence[Mapping[str, Any]], seed: int = 0) -> dict[str, Interval]:
    """An interval per figure: prompts are the clusters, so several answers or rows of one prompt count once."""
    names = list(dict.fromkeys(name for r in rows for name in r["figures"]))
    out = {}
    for name in names:
        values: list[float] = []
        prompts: list[str] = []
        for row in rows:
            known = [v for v in row["figures"].get(name, ()) if v is not None and math.isfinite(v)]
            if known:
                values.append(float(np.mean(known)))
                prompts.append(row["prompt_hash"])
        if values:
            out[name] = cluster_bootstrap(values, prompts, seed=seed)
    return out


def plain(made: Interval) -> dict[str, Any]:
    """An interval as JSON; nan (no interval) becomes null."""
    return {
        "estimate": made.estimate,
        "low": made.low if made.known else None,
        "high": made.high if made.known else None,
        "n": made.n,
        "method": made.method,
        "level": made.level,
    }


def interval(told: Mapping[str, Any]) -> Interval:
    """Inverse of `plain`."""
    low, high = (math.nan if told[side] is None else float(told[side]) for side in ("low", "high"))
    return Interval(told["estimate"], low, high, told["n"], told["method"], told["level"])


def read_result(path: Path) -> Evaluated:
    """What an earlier run of the same job wrote."""
    body = json.loads((path / "eval.json").read_text(encoding="utf-8"))
    metrics = {name: interval(told) for name, told in body["metrics"].items()}
    rows = [json.loads(line) for line in (path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    return Evaluated(metrics, rows, path)
