"""Runs that learn from answers of the policy itself: the recipe's `rollout` and `reward`, and the source that they make.

    method: grpo    rollout: {n: 8, max_new_tokens: 64}    reward: math          any method that learns from scored answers
    method: sft     rollout: {n: 8, select: best}          reward: runs/rm       rejection sampling, iterated
    method: dpo     rollout: {n: 8, select: pairs}         reward: runs/rm       online DPO

Products of the same parts: prompts in the run's order, a sampler on the live weights, a reward, a selection.
"""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, NonNegativeInt, PlainSerializer, PositiveFloat, PositiveInt

from posttrain.core.files import append_line, read_lines, write_text
from posttrain.core.group import Group
from posttrain.core.method import Method
from posttrain.core.protocols import Environment, Sampling, Source
from posttrain.core.recipe import Kind, Members, Spec, dump_kind, one_of
from posttrain.jobs.assembly import Part
from posttrain.jobs.mixing import source_of
from posttrain.jobs.watching import Attribution, HumanCheck
from posttrain.models.load import save
from posttrain.readingroom.lookup import Catalogue
from posttrain.rewards import Criterion
from posttrain.rollout.ahead import Ahead, OwnWeights
from posttrain.rollout.best_of import Best, PairUp
from posttrain.rollout.curriculum import Curriculum, Measured, Pace, PassRates
from posttrain.rollout.episodes import Episodes
from posttrain.rollout.replay import Again, Replay
from posttrain.rollout.rollouts import Rollouts
from posttrain.rollout.sampler import Sampler
from posttrain.rollout.together import Together
from posttrain.rollout.workers import MOST, alike, allowed

if TYPE_CHECKING:
    from posttrain.jobs.train import Train
    from posttrain.models.load import Loaded
    from posttrain.models.render import Renderer
    from posttrain.rollout.vllm import VLLM


def as_reward_node(value: Any) -> Any:
    """What `reward` takes: a criterion's name or node, the path of a reward run, ``module:function``, or a function."""
    import_module("posttrain.jobs.catalogue")  # rewards that need a model stand with the jobs and are known from there
    if isinstance(value, Mapping) and set(value) == {"name"}:  # how the command line writes --reward NAME
        value = value["name"]
    if isinstance(value, str) and value not in Criterion.members:
        module, colon, function = value.partition(":")
        if Path(value).exists() or "/" in value:
            value = {"name": "model", "path": value}
        elif colon and module.replace(".", "_").isidentifier() and function.isidentifier():
            value = {"name": "function", "call": value}
    return Criterion.of(value)


RewardNode = Annotated[
    Criterion | None,
    BeforeValidator(as_reward_node),
    PlainSerializer(dump_kind, return_type=Any),
    Members(Criterion),
]


class Select(Kind):
    """Which of a prompt's answers are learned from."""

    family: ClassVar[str] = "select"

    def over(self, source: Source) -> Source:
        """The source as the method reads it."""
        return source


class All(Select):
    """All of them, with their scores."""

    name: ClassVar[str] = "all"


class BestOf(Select):
    """The best by score: rejection sampling."""

    name: ClassVar[str] = "best"
    k: PositiveInt = 1
    """How many of each prompt."""

    def over(self, source: Source) -> Source:
        return Best(source, self.k)


class Pairs(Select):
    """The best against the worst, as a preference pair: online DPO. Equal scores give no pair."""

    name: ClassVar[str] = "pairs"

    def over(self, source: Source) -> Source:
        return PairUp(source)


class Rollout(Spec):
    """How the policy answers the prompts of a step."""

    n: PositiveInt = 8
    """Answers per prompt."""
    max_new_tokens: PositiveInt = 256
    """Longest answer."""
    temperature: PositiveFloat | None = None
    """Sampling temperature; none takes the method's own, or 1."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Draw from the likeliest tokens that hold this share of the probability; below 1, methods of scored answers need `correction`."""
    top_k: NonNegativeInt = 0
    """Draw from this many likeliest tokens; 0 does not cut."""
    slots: PositiveInt = 32
    """Answers decoded together."""
    select: one_of(Select) = All()  # type: ignore[valid-type]
    """Which answers are learned from: all, best, pairs."""
    curriculum: Pace | None = None
    """Prompts that are always or never solved come less often; none takes them all alike."""
    replay: Again | None = None
    """Learn again from answers of earlier steps; methods of scored answers then need `correction`."""
    ahead: bool = False
    """Draw a step's answers while the one before is learned from, by a copy of the weights; methods of scored answers need `correction`."""
    environment: str | None = None
    """What answers the policy between its turns: `catalogue` (the reading room's look-up tool) or `module:function`."""
    turns: PositiveInt = 4
    """How often the policy may speak in one answer to an environment."""
    attribution: Attribution | None = Attribution()
    """What the reward pays for (length, keywords, markup, refusals), looked at every so many steps; none does not look."""
    human: HumanCheck | None = None
    """Warn when no person has rated samples lately; none does not ask."""
    vllm: str | None = None
    """Address of a vLLM server that answers in place of the built-in sampler; it gets the weights after every step (`rollout.vllm`)."""
    pushed: str | None = None
    """Directory, seen by that server under the same path, through which weights are pushed; needed with `vllm`."""
    keep_every: PositiveInt = 10
    """Every so many steps one prompt with all its answers and scores goes to rollouts.jsonl."""

    def sampling(self, method: Method) -> Sampling:
        """The sampler's settings. Raises ValueError where the method has a temperature and this one is another."""
        old = "ahead" if self.ahead else "replay"
        if (self.ahead or self.replay) and method.online and getattr(method, "correction", None) is None:
            raise ValueError(
                f"rollout.{old}: answers of older weights need the method's `correction`, such as {{high: 2}}"
            )
        own = getattr(method, "temperature", None) if method.online else None
        if own is not None and self.temperature not in (None, own):
            raise ValueError(
                f"rollout.temperature is {self.temperature}, but {method.name} takes log-probs at its own temperature "
                f"{own}; set the method's alone"
            )
        return Sampling(
            temperature=own or self.temperature or 1.0,
            top_p=self.top_p,
            top_k=self.top_k,
            max_tokens=self.max_new_tokens,
        )


def environment_of(name: str) -> Environment:
    """The environment that a recipe names. Raises ValueError when there is none of that name."""
    if name == "catalogue":
        return Catalogue()
    module, colon, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function) if colon else None
    except (ImportError, AttributeError) as error:
        raise ValueError(f"rollout.environment: {name} cannot be imported ({error})") from error
    if not callable(found):
        raise ValueError(
            f"rollout.environment: {name!r} is unknown; write catalogue, or module:function that makes one"
        )
    return found()


def server(rollout: Rollout, loaded: Loaded, renderer: Renderer) -> VLLM:
    """The vLLM server that a recipe names. Raises ValueError for what cannot go together with it."""
    if rollout.pushed is None:
        raise ValueError("rollout.pushed: name a directory that the vLLM server sees too; weights go through it")
    if rollout.ahead or rollout.environment is not None:
        raise ValueError("rollout.vllm answers whole steps in one turn; leave `ahead` and `environment` out")
    from posttrain.rollout.vllm import VLLM

    assert rollout.vllm is not None, "asked for by its address"
    write = partial(save, loaded)
    return VLLM(rollout.vllm, loaded.tokenizer, loaded.stops, renderer.prompt, write, rollout.pushed)


class Stream:
    """The parts of an online run, joined: prompts, sampler, reward, and what the recipe puts around them.

    drawn: the rollouts themselves. source: what the method reads, before `Fitting`.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        job: Train,
        rollout: Rollout,
        loaded: Loaded,
        renderer: Renderer,
        steps: int = 1,
    ) -> None:
        def sampler(model: Any) -> Sampler | Together | Episodes | VLLM:
            if rollout.vllm is not None:
                return server(rollout, loaded, renderer)
            threads = 0 if rollout.ahead else None  # a second thread must not change the trainer's setting
            plain = Sampler(
                model, loaded.tokenizer, loaded.stops, renderer.prompt, slots=rollout.slots, threads=threads
            )
            if rollout.environment is None:
                count = min(allowed(), job.threads or MOST, MOST) if alike(plain) and threads is None else 1
                return Together(plain, count) if count > 1 else plain
            return Episodes(plain, environment_of(rollout.environment), renderer, rollout.turns)

        self.sampler_of = sampler
        pace, seed = rollout.curriculum, job.seed
        self.rates = PassRates(pace.pass_at if pace else 0.5)
        self.curricula: list[Curriculum] = []
        over = None if pace is None else self._paced(pace, seed)
        prompts = source_of(parts, job.batch, seed, over, job.mixture, steps)
        answers = OwnWeights(sampler, loaded.model) if rollout.ahead else sampler(loaded.model)
        self.drawn = Rollouts(prompts, answers, job.reward, rollout.n, rollout.sampling(job.method), seed)
        self.source: Source = self.drawn
        if pace is not None:
            self.source = Measured(self.source, self.rates)
        if rollout.ahead:
            self.source = Ahead(self.source)
        if rollout.replay is not None:
            self.source = Replay(self.source, rollout.replay, seed)
        self.source = rollout.select.over(self.source)

    def _paced(self, pace: Pace, seed: int) -> Callable[[Source], Source]:
        def over(source: Source) -> Source:
            self.curricula.append(Curriculum(source, self.rates, pace, seed + len(self.curricula)))
            return self.curricula[-1]

        return over

    @property
    def passed_over(self) -> int:
        """Turns of prompts that the curriculum left out."""
        return sum(c.passed_over for c in self.curricula)


PROBE_STEP = 2**40
"""The step number that the probe's seeds hang on: none that a run reaches."""


def probe(source: Rollouts, select: Select, prompts: Sequence[Group]) -> list[Group]:
    """Answers to a few prompts before the first step, selected as the run's will be; the run does not learn from them."""
    source.sampler.sync()  # type: ignore[attr-defined]
    drawn = source.sample(prompts, PROBE_STEP)
    return next(iter(select.over(Once(drawn)).stream(None)), drawn)


class Once:
    """A source of one step."""

    def __init__(self, groups: list[Group]) -> None:
        self.groups = groups

    def stream(self, policy: Any) -> Iterator[list[Group]]:
        yield self.groups

    def publish(self, engine: Any, version: int) -> None:
        return None

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        return None


class Fitting:
    """The groups that a method can learn from, with a sample of them written down; a Source over a Source.

    latest: what the step learns from. dropped: groups that it could not, by reason.
    file: one row per `every` steps, so that people can read what is rewarded.
    """

    def __init__(self, source: Source, method: Method, file: Path, every: int) -> None:
        self.source, self.method, self.file, self.every = source, method, file, every
        self.dropped: Counter[str] = Counter()
        self.latest: list[Group] = []
        self.steps = 0

    def stream(self, policy: Any) -> Iterator[list[Group]]:
        """Steps of groups that fit. Raises ValueError when nothing of a step does."""
        for groups in self.source.stream(policy):
            kept = self._fitting(groups)
            if self.steps % self.every == 0:
                self._write(kept[0])
            self.steps += 1
            self.latest = kept
            yield kept

    def _fitting(self, groups: Sequence[Group]) -> list[Group]:
        reasons = [self.method.accepts(g) for g in groups]
        self.dropped.update(r for r in reasons if r is not None)
        kept = [g for g, reason in zip(groups, reasons, strict=True) if reason is None]
        if not kept:
            raise ValueError(
                f"{self.method.name} cannot learn from these answers ({reasons[0]}); it needs {self.method.wants}. "
                "Set rollout.select: best for sft, pairs for dpo"
            )
        return kept

    def _write(self, group: Group) -> None:
        row = {"step": self.steps + 1, **group.to_json()}
        append_line(self.file, json.loads(json.dumps(row, default=str)))

    def publish(self, engine: Any, version: int) -> None:
        """New weights, for the source below."""
        self.source.publish(engine, version)

    def state(self) -> dict[str, Any]:
        """The source's state, steps, and what was dropped."""
        return {"source": self.source.state(), "steps": self.steps, "dropped": dict(self.dropped)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; rows of later steps are forgotten, they come again."""
        self.source.load(state["source"])
        self.steps, self.dropped = int(state["steps"]), Counter(state["dropped"])
        if self.file.is_file():
            rows = [r for r in read_lines(self.file) if r["step"] <= self.steps]
            write_text(self.file, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))


def models_in(reward: Criterion | None) -> list[str]:
    """Paths of every reward model that a reward is made of: inputs of the run."""
    found: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, Mapping):
            if node.get("name") == "model" and isinstance(node.get("path"), str):
                found.append(node["path"])
            for inner in node.values():
                walk(inner)
        elif isinstance(node, list | tuple):
            for inner in node:
                walk(inner)

    walk(dump_kind(reward))
    return list(dict.fromkeys(found))
