"""Answers of a model to prompts of a file, as rows that every reader here takes again; best-of-n where a reward model is given.

Each prompt of the file is answered, whatever answers it came with. The i-th answer depends on (seed, i) and the prompt alone.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from posttrain.core.files import write_text
from posttrain.core.group import Group
from posttrain.core.protocols import Request, Reward, Sampling
from posttrain.jobs import assembly
from posttrain.jobs.job import Context, Job, Source
from posttrain.jobs.scoring import ModelReward
from posttrain.jobs.stage import Stage, paths_of
from posttrain.jobs.traces import Thinking, taught
from posttrain.models.load import Loaded, load
from posttrain.models.render import Renderer
from posttrain.rollout.sampler import Sampler
from posttrain.rollout.workers import Workers

CHUNK = 64
"""Prompts answered between two writes to a pipe."""
Processes = Literal["auto"] | PositiveInt


class Sample(Job):
    """Answer the prompts of a file, n times each; with a reward model, keep the best."""

    name: ClassVar[str] = "sample"
    produces: ClassVar[Literal["run", "file", "text"]] = "file"
    positional: ClassVar[tuple[str, ...]] = ("model", "data")

    model: str
    """Model that answers: a directory, a run or a hub id."""
    data: Source
    """Prompts: rows of any shape; answers in them are not shown to the model."""
    out: str | None = None
    """JSONL file to write; none writes to stdout."""
    n: PositiveInt = 1
    """Answers per prompt."""
    temperature: NonNegativeFloat = 1.0
    """0 always takes the likeliest token; higher is more varied."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Draw from the likeliest tokens that hold this share of the probability."""
    max_tokens: PositiveInt = 256
    """Longest answer."""
    seed: int = 0
    """Seed of the draws."""
    reward: str | None = None
    """Reward run whose scores go with the answers."""
    best: PositiveInt | None = None
    """Keep this many answers per prompt, those that `reward` likes best."""
    thinking: Thinking = "text"
    """Reasoning traces (<think>) in answers: text leaves them there, keep sets them apart for the template, strip removes them."""
    complete: bool = False
    """Leave out answers that ran into max_tokens, counted: a student should not learn to stop in the middle."""
    template: str | None = None
    """Chat template: a built-in name or a .jinja file; none takes the tokenizer's own."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    workers: Processes = "auto"
    """Processes that answer together on a CPU, with the same result: auto starts more where the work pays for it."""

    @model_validator(mode="after")
    def _consistent(self) -> Sample:
        if self.best is not None and self.reward is None:
            raise ValueError("best needs `reward`: the run whose scores decide")
        if self.best is not None and self.best > self.n:
            raise ValueError(f"best is {self.best}, but only n = {self.n} answers are drawn")
        return self

    def run(self, context: Context | None = None) -> Path | None:
        """Write one row per prompt, and return the file (None for stdout). Reuses a finished file of the same recipe and inputs."""
        context = context or Context()
        if self.out is None:
            for group in self.groups(context):
                sys.stdout.write(line_of(group))
                sys.stdout.flush()
            return None
        inputs = [self.model, *paths_of(self.data), *([self.reward] if self.reward else [])]
        stage = Stage(self, self.name, self.out, inputs, file=True)
        if stage.finished:
            context.say(f"{self.out}: finished with the same recipe and inputs; reused")
            return stage.out
        gone: Counter[str] = Counter()
        made = list(self.groups(context, gone))
        for reason, count in gone.items():
            context.say(f"left out: {count} {reason}")
        write_text(self.out, "".join(line_of(g) for g in made))
        stage.finish([stage.out], rows=len(made), answers=sum(len(g.responses) for g in made), left_out=dict(gone))
        context.say(f"{len(made)} prompts, {sum(len(g.responses) for g in made)} answers: {self.out}")
        return stage.out

    def groups(self, context: Context, gone: Counter[str] | None = None) -> Iterator[Group]:
        """Prompts with their answers (scored, the best first, where there is a reward), as they are made. gone: counts of what is not."""
        gone = Counter() if gone is None else gone
        device = device_of(self.device)
        asked = [g for part in assembly.gather(self.data, context) for g in part.groups]
        _, _, sampler = answering(self.model, self.template, device)
        reward = ModelReward(self.reward, device=device) if self.reward is not None else None
        drawn = Sampling(temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens)
        requests = [Request(g.prompt, drawn, self.n, self.seed, g.id, facts=g.facts, tools=g.tools) for g in asked]
        size = CHUNK if self.out is None else max(1, len(requests))
        with Workers(sampler, assembly.resolve(self.model), self.template, self.workers, context.say) as model:
            for at in range(0, len(requests), size):
                made = taught(model.generate(requests[at : at + size]), self.thinking, self.complete, gone)
                yield from made if reward is None else keep_best(made, reward, self.best)


def answering(model: str, template: str | None, device: str) -> tuple[Loaded, Renderer, Sampler]:
    """A model ready to answer: loaded, with the renderer that writes its prompts."""
    loaded = load(assembly.resolve(model), template=template, device=device)
    loaded.model.eval()
    renderer = Renderer.of(loaded)
    return loaded, renderer, Sampler(loaded.model, loaded.tokenizer, loaded.stops, renderer.prompt)


def keep_best(groups: list[Group], reward: Reward, best: int | None) -> list[Group]:
    """Groups with scored responses; with `best`, that many of them, the best first."""
    out = []
    for group, scores in zip(groups, reward(groups), strict=True):
        scored = [replace(r, score=s) for r, s in zip(group.responses, scores, strict=True)]
        if best is not None:
            order = sorted(range(len(scored)), key=lambda i: (-_value(scored[i]), i))
            scored = [scored[i] for i in order[:best]]
        out.append(group.with_responses(scored))
    return out


def _value(response: Any) -> float:
    """A score for ordering; what could not be scored comes last."""
    value = response.score.value if response.score is not None else None
    return float("-inf") if value is None else value


def line_of(group: Group) -> str:
    return json.dumps(group.to_json(), ensure_ascii=False, default=str) + "\n"


def device_of(wanted: str) -> str:
    """`auto` as the device it means. Raises ValueError where there is no GPU."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: no CUDA device here; use cpu or auto")
    return wanted
