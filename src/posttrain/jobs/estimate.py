"""Time, memory and tokens of a recipe's training jobs, before they start: measured on a few of their own steps.

A job is prepared as `run` prepares it, in a scratch directory. Its longest step is run first (that is the memory), then a few steps spread
over the run; seconds are scaled by tokens of the stream. Preflight, samples, one validation batch, a checkpoint and the saved model are
timed once each. What is measured is lost: nothing is trained. Leaves out: time spent waiting for remote services, and reading of a cache
that another run may have filled.
"""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from posttrain.core.group import Group
from posttrain.core.recipe import Spec
from posttrain.engine import work
from posttrain.jobs import mixing
from posttrain.jobs.before_after import answers, asked
from posttrain.jobs.check import there
from posttrain.jobs.job import Context
from posttrain.jobs.pipeline import load
from posttrain.jobs.train import Train
from posttrain.jobs.training import Training
from posttrain.models.load import save
from posttrain.train import checkpoint
from posttrain.train.loop import evaluate, learn, train
from posttrain.train.preflight import PreflightError

PROBES = 4
"""Steps that are timed, after the longest one."""
PATIENCE = 30.0
"""Seconds after which no further step is timed."""
ONLINE = 2
"""Sampled steps that are timed, after a first one."""
FULL = 0.95
"""Share of the memory above which a plan is called too large."""


@dataclass
class Estimated:
    """What a job will take. seconds: by part. memory: bytes at the peak, and by part. tokens: trained, and through the trunk."""

    steps: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    busy: float = 0.0
    """Processor seconds of all parts, which other programs on the machine change less."""
    memory: int = 0
    parts: dict[str, int] = field(default_factory=dict)
    trained_tokens: int = 0
    stream_tokens: int = 0

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


class Estimate(Spec):
    """Say how long a recipe will take, how much memory and how many tokens, before it starts."""

    positional: ClassVar[tuple[str, ...]] = ("recipe", "overrides")

    recipe: str
    """YAML file of a job or of a pipeline."""
    overrides: tuple[str, ...] = ()
    """Changes such as `steps=50` or `dpo.method.beta=0.2`."""

    def run(self, context: Context | None = None) -> dict[str, Estimated]:
        """Measure every training job whose inputs are there; the others are named. Nothing is written beside a scratch directory."""
        context = context or Context()
        pipeline, out = load(self.recipe, self.overrides), dict[str, Estimated]()
        for name, job in pipeline.jobs.items():
            absent = [n for n in pipeline.waits[name] if not there(pipeline.jobs[n])]
            if not isinstance(job, Train):
                context.say(f"{name}: no training; not estimated")
            elif absent:
                context.say(f"{name}: waits for {', '.join(absent)}, and is measured once they are there")
            else:
                out[name] = estimate(job)
                show(name, out[name], context)
        return out


def estimate(job: Train) -> Estimated:
    """What this training job will take here."""
    with tempfile.TemporaryDirectory(prefix="posttrain-estimate-") as scratch:
        quiet = Context(Console(file=io.StringIO()), bars=False)
        training = Training(job.changed(out=str(Path(scratch) / "run"), log_to=(), cache=None), quiet)
        return _Measure(training).all(Path(scratch))


class _Measure:
    """Times the parts of one training job, each once."""

    def __init__(self, training: Training) -> None:
        self.training, self.job, self.out = training, training.job, Estimated()

    def all(self, scratch: Path) -> Estimated:
        run, out = self.training, self.out
        self._part("start", run._prepare)
        out.steps = run.steps
        self._part("preflight", self._preflight)
        self._steps()
        engine = run.engine
        groups = asked(run)
        if groups:
            self._part("samples", lambda: answers(run, groups), 2)
        if run.held_out:
            self._validation()
        writes = -(-run.steps // self.job.checkpoint_every)
        run.watching = []
        self._part("checkpoints", lambda: checkpoint.write(scratch / "c", 1, run.everything(), 1), writes)
        self._part("saving", lambda: save(run.loaded, scratch / "model"))
        weights = sum(p.numel() * p.element_size() for p in run.loaded.model.parameters())
        trained = sum(p.numel() * p.element_size() for p in engine.named_parameters().values())
        out.memory = work.memory(engine.device)
        held = {"weights": weights, "gradients": trained, "moments": 2 * trained}
        out.parts = {**held, "frozen models": sum(_bytes(m) for m in engine.roles.values())}
        out.parts["activations, libraries and the rest"] = max(out.memory - sum(out.parts.values()), 0)
        return out

    def _part(self, name: str, do: Callable[[], object], times: float = 1.0) -> None:
        began, busy = time.perf_counter(), time.process_time()
        do()
        self.out.seconds[name] = (time.perf_counter() - began) * times
        self.out.busy += (time.process_time() - busy) * times

    def _preflight(self) -> None:
        with suppress(PreflightError):
            self.training._preflight(lambda _: None)

    def _steps(self) -> None:
        run, job = self.training, self.job
        if job.sampled is not None:
            self._sampled_steps()
            return
        stream = mixing.source_of(run.parts, job.batch, job.seed, None, job.mixture, run.steps).stream(None)
        sizes, kept = [], dict[int, list[Group]]()
        wanted = set(range(0, run.steps, max(1, run.steps // PROBES))) if run.steps > 1 else {0}
        longest: tuple[int, list[Group]] = (0, [])
        for number, groups in zip(range(run.steps), stream):
            size = stream_tokens(groups)
            sizes.append(size)
            self.out.trained_tokens += trained_tokens(groups)
            longest = max(longest, (size, groups), key=lambda pair: pair[0])
            if number in wanted:
                kept[number] = groups
        self.out.stream_tokens = sum(sizes)
        learn(run.engine, job.method, longest[1], 1)
        timed = tokens = 0.0
        busy, began = time.process_time(), time.perf_counter()
        for groups in list(kept.values())[:PROBES]:
            timed += learn(run.engine, job.method, groups, 1).seconds
            tokens += stream_tokens(groups)
            if time.perf_counter() - began > PATIENCE:
                break
        scale = self.out.stream_tokens / max(tokens, 1)
        used = time.process_time() - busy
        saved = self._saved(longest[1])
        self.out.seconds["steps"] = max(timed * scale - saved, 0.0)
        self.out.busy += used * scale * (1 - saved / max(timed * scale, 1e-9))

    def _saved(self, groups: list[Group]) -> float:
        """Seconds that later passes spare, as scores of frozen models are kept in the first."""
        run, job = self.training, self.job
        rows = sum(len(p.groups) for p in run.parts)
        later = run.steps * job.batch - rows
        if later <= 0 or not job.method.needs().roles:
            return 0.0
        began = time.perf_counter()
        job.method.batch(groups, run.engine)
        per_token = (time.perf_counter() - began) / max(stream_tokens(groups), 1)
        return per_token * self.out.stream_tokens * later / (run.steps * job.batch)

    def _sampled_steps(self) -> None:
        run, busy = self.training, time.process_time()
        steps = list(train(run.engine, self.job.method, run.source, min(run.steps, 1 + ONLINE)))
        timed = steps[1:] or steps
        mean = sum(s.seconds for s in timed) / len(timed)
        self.out.seconds["steps"] = mean * run.steps
        self.out.busy += (time.process_time() - busy) / len(steps) * run.steps
        self.out.trained_tokens = int(sum(s.counts["token"] for s in steps) / len(steps) * run.steps)
        self.out.stream_tokens = int(sum(s.stream_tokens for s in steps) / len(steps) * run.steps)

    def _validation(self) -> None:
        run, job = self.training, self.job
        groups = list(job.method.arrange(run.held_out))
        part = sorted(groups, key=lambda g: -stream_tokens([g]))[: job.batch * 4]
        every = job.evaluate_every or max(1, run.steps // 10)
        times = -(-run.steps // every) * stream_tokens(groups) / max(stream_tokens(part), 1)
        batch = run._batches(part)
        self._part("validation", lambda: evaluate(run.engine, job.method, batch), times)


def _bytes(model: object) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())  # type: ignore[attr-defined]


def stream_tokens(groups: Sequence[Group]) -> int:
    """Tokens that run through the trunk: each prompt once."""
    prompts = sum(len(g.prompt_tokens) for g in groups if g.prompt_tokens is not None)
    return prompts + sum(len(r.tokens) for g in groups for r in g.responses if r.tokens is not None)


def trained_tokens(groups: Sequence[Group]) -> int:
    return sum(int((r.trained > 0).sum()) for g in groups for r in g.responses if r.trained is not None)


def show(name: str, found: Estimated, context: Context) -> None:
    """A table of the parts, and one line that says it all."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("part", "time"):
        table.add_column(head, justify="right" if head == "time" else "left")
    for part, seconds in found.seconds.items():
        table.add_row(Text(part), Text(clock(seconds)))
    context.console.print(table)
    for part, size in found.parts.items():
        context.say(f"memory for {part}: {size / 2**20:,.0f} MiB")
    context.say(
        f"{name}: {found.steps} steps, about {clock(found.total)}, {found.memory / 2**20:,.0f} MiB at the peak, "
        f"{found.trained_tokens:,} trained tokens of {found.stream_tokens:,}"
    )
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if found.memory > FULL * whole:
        context.say(f"{name}: too large for {whole / 2**30:.0f} GiB; lower token_budget or batch, or train with lora")


def clock(seconds: float) -> str:
    """Seconds as people read them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
