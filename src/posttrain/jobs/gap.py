"""How much of the gap between a student and its teacher a distillation closed: all three on the same prompts.

    share = (after - before) / (teacher - before)

Each model answers every prompt (`eval`), each prompt has one figure per model, and the share is a ratio of means over prompts. Its
interval resamples prompts, the three figures of one together, so that it is paired. Where the teacher is not surely better than the
student was, there is no gap to close a share of, and the report says so. Agarwal et al. 2023, arXiv:2306.13649 report the same ratio.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import NonNegativeFloat, PositiveInt

from posttrain.core.files import write_json, write_text
from posttrain.jobs.evaluate import Evaluate, Evaluated
from posttrain.jobs.job import Context, Job, Source
from posttrain.jobs.stage import Stage, paths_of
from posttrain.stats import Interval, cluster_bootstrap, paired_bootstrap

ROLES = ("teacher", "before", "after")
FIGURES = ("gold", "exact_match", "reward", "logp")
SHOWN = 6
"""Prompts whose three answers the page shows."""


class Gap(Job):
    """Compare teacher, student before and student after on the same prompts: the share of the gap that was closed."""

    name: ClassVar[str] = "gap"
    produces: ClassVar[Literal["run", "file", "text"]] = "run"

    teacher: str
    """The model that was learned from."""
    before: str
    """The student as it was."""
    after: str
    """The student as it is."""
    data: Source
    """Prompts that neither trained on, with reference answers or reading-room facts."""
    out: str
    """Directory for gap.json, the three evaluations and report.html."""
    figure: Literal["gold", "exact_match", "reward", "logp"] | None = None
    """What is compared; none takes the first of gold, exact_match, reward and logp that the prompts allow."""
    reward: str | None = None
    """Reward run whose mean score can be compared."""
    temperature: NonNegativeFloat = 0.0
    """0 always takes the likeliest token."""
    max_tokens: PositiveInt = 256
    """Longest answer."""
    seed: int = 0
    """Seed of the draws and of the intervals."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""

    def run(self, context: Context | None = None) -> dict[str, Any]:
        """Evaluate all three, write the files, return what gap.json holds. Raises ValueError where the figure is not there."""
        context = context or Context()
        stage = Stage(
            self, self.name, self.out, [self.teacher, self.before, self.after, *paths_of(self.data)], file=False
        )
        done = {role: self._evaluated(role, context) for role in ROLES}
        figure = self._figure(done)
        found = closed([values(done[role], figure) for role in ROLES], self.seed)
        body = {
            "figure": figure,
            "prompts": found["share"].n,
            **{name: made.to_json() for name, made in found.items()},
            "sure_gap": found["gap"].low > 0,
        }
        files = (stage.out / "gap.json", stage.out / "report.html")
        write_json(files[0], body)
        write_text(files[1], self._page(figure, found, done))
        stage.finish(files)
        context.say(told(figure, found))
        return body

    def _evaluated(self, role: str, context: Context) -> Evaluated:
        context.say(f"{role}: {getattr(self, role)}")
        job = Evaluate(
            model=getattr(self, role),
            data=self.data,
            out=str(Path(self.out) / role),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=self.seed,
            reward=self.reward,
            device=self.device,
        )
        return job.run(context)

    def _figure(self, done: Mapping[str, Evaluated]) -> str:
        there = [f for f in FIGURES if all(f in e.metrics for e in done.values())]
        if self.figure is not None and self.figure not in there:
            raise ValueError(f"figure: these prompts give no {self.figure}; they give {', '.join(there) or 'none'}")
        return self.figure or there[0]

    def _page(self, figure: str, found: Mapping[str, Interval], done: Mapping[str, Evaluated]) -> str:
        from posttrain.report.dots import dot_plot
        from posttrain.report.page import Section, card, page, table, tiles

        share = found["share"]
        named = {"teacher": "teacher", "before": "student before", "after": "student after"}
        three = [(named[role], found[role]) for role in ROLES]
        rows = [[name, getattr(self, role), str(found[role])] for role, name in named.items()]
        rows += [["teacher - before", "paired", str(found["gap"])], ["after - before", "paired", str(found["gain"])]]
        top = tiles(
            [("share of the gap closed", str(share) if found["gap"].low > 0 else "no sure gap", f"{share.n} prompts")]
        )
        body = card("", dot_plot(three, f"mean {figure} over the same prompts", figure)) + table(
            ["", "model", f"mean {figure}"],
            rows,
            "The interval of a difference resamples prompts, both figures of one together.",
        )
        answers = [
            [prompt_text(t), *(first_answer(r) for r in (t, b, a))]
            for t, b, a in zip(*(done[role].rows[:SHOWN] for role in ROLES), strict=True)
        ]
        shown = table(["prompt", *named.values()], answers, "The same prompts, answered by each.")
        sections = [Section("gap", "The gap", body), Section("answers", "Answers", shown)]
        return page(f"Distillation: {Path(self.out).name}", told(figure, found), top, sections, share.method)


def values(done: Evaluated, figure: str) -> dict[str, float]:
    """Mean figure of each prompt, by its hash."""
    by: dict[str, list[float]] = {}
    for row in done.rows:
        known = [v for v in row["figures"].get(figure, ()) if v is not None and math.isfinite(v)]
        if known:
            by.setdefault(row["prompt_hash"], []).append(float(np.mean(known)))
    return {prompt: float(np.mean(v)) for prompt, v in by.items()}


def closed(by_role: Sequence[Mapping[str, float]], seed: int = 0) -> dict[str, Interval]:
    """Intervals of teacher, before, after, both differences and the share, over the prompts that all three have."""
    prompts = [p for p in by_role[0] if all(p in by for by in by_role[1:])]
    if not prompts:
        raise ValueError("no prompt has this figure for all three models")
    x = np.asarray([[by[p] for by in by_role] for p in prompts])
    made = {role: cluster_bootstrap(x[:, i], seed=seed) for i, role in enumerate(ROLES)}
    made["gap"] = paired_bootstrap(x[:, 0], x[:, 1], seed=seed)
    made["gain"] = paired_bootstrap(x[:, 2], x[:, 1], seed=seed)
    made["share"] = cluster_bootstrap(x, stat=share_of_gap, reps=2000, seed=seed)
    return made


def share_of_gap(x: Any) -> float:
    """(after - before) / (teacher - before) of mean figures. x: [prompts, (teacher, before, after)]; 0 where there is no gap."""
    teacher, before, after = np.asarray(x, dtype=np.float64).mean(axis=0)
    gap = teacher - before
    return float((after - before) / gap) if gap else 0.0


def told(figure: str, found: Mapping[str, Interval]) -> str:
    """The result in one line."""
    three = ", ".join(f"{role} {found[role].estimate:.3f}" for role in ROLES)
    if not found["gap"].low > 0:
        return f"{figure}: {three}; the teacher is not surely better than the student was ({found['gap']})"
    return f"{figure}: {three}; share of the gap closed {found['share']} ({found['share'].n} prompts)"


def prompt_text(row: Mapping[str, Any]) -> str:
    return "\n".join(m["content"] for m in row["prompt"])


def first_answer(row: Mapping[str, Any]) -> str:
    return row["answers"][0] if row["answers"] else ""
