"""How a Train job runs: assemble, check, resume, loop, save, report. Each step is one short method, in the order they happen."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from posttrain.core.batch import Batch
from posttrain.core.files import crash_point, hash_json
from posttrain.core.finding import Finding
from posttrain.core.group import Group
from posttrain.core.protocols import Source
from posttrain.core.run import Run, fingerprint
from posttrain.engine import ranks
from posttrain.engine.kept import Kept
from posttrain.engine.local import LocalEngine
from posttrain.engine.optimizer import NonFiniteGradient
from posttrain.jobs import assembly, mixing, online, reward_checks
from posttrain.jobs.assembly import Part
from posttrain.jobs.before_after import Samples
from posttrain.jobs.compiling import compile_where_it_pays
from posttrain.jobs.job import Context
from posttrain.jobs.manifest import manifest_of
from posttrain.jobs.probe import Probing, probing
from posttrain.jobs.rollback import resume, roll_back, save_wreck
from posttrain.jobs.threads import choose_threads
from posttrain.jobs.train import Train
from posttrain.jobs.watching import looked, watchers
from posttrain.models import adapters, freeze, heads
from posttrain.models.load import Loaded, load, save
from posttrain.models.recompute import recompute_blocks
from posttrain.models.render import Overlong, Renderer
from posttrain.models.teacher import load_teacher
from posttrain.train import checkpoint, hooks
from posttrain.train.loop import train
from posttrain.train.monitors import Monitors
from posttrain.train.preflight import PreflightError, Subject, preflight
from posttrain.train.state_checks import fits_well

PROBED = 4
"""Prompts that an online run answers before its first step, to check sampler, reward and losses with."""


class Training:
    """One execution of a Train job."""

    def __init__(self, job: Train, context: Context) -> None:
        self.job, self.context, self.out = job, context, job.run_dir
        self.asked = job  # what the recipe says; a run that goes on after a rollback changes `job`
        self.rollbacks: list[dict[str, Any]] = []
        self.began = time.time()
        self.notes: list[str] = []
        self.validation: hooks.Validation | None = None
        self.alerts = Monitors(context.say, job.limits)

    def run(self) -> Run:
        reused = self._reusable()
        if reused is not None:
            self.context.say(f"{self.out.path}: finished with the same recipe and inputs; reused")
            return self.out
        self._prepare()
        self.out.start(self.job.recipe())
        self._preflight(self.context.say)
        self._loop()
        return self._finish()

    def check(self) -> list[Finding]:
        """Everything up to step 1 and the preflight's findings, whatever their weight; nothing is trained."""
        self._prepare()
        with suppress(PreflightError):
            self._preflight(lambda _: None)
        return [Finding(**f) for f in json.loads(self.out.check.read_text(encoding="utf-8"))["findings"]]

    def _prepare(self) -> None:
        ranks.start()
        checkpoint.seed_everything(self.job.seed)
        self.loaded = self._model()
        self.parts, self.held_out = self._data()
        self.steps = self._steps()
        self.engine = self._engine()
        self.source, self.probe = self._source()
        self.probing: Probing | None = probing(self)
        compile_where_it_pays(self.engine, self.job.method, self.probe, self.job.compile, self.context.say)
        self.threads = choose_threads(self.engine, self.job.method, self.probe, self.job.threads, self.out.path)

    # Reuse and inputs

    @cached_property
    def inputs(self) -> list[dict[str, str]]:
        """Every file that the result depends on, by content."""
        found = [("model", self.job.model, assembly.resolve(self.job.model))]
        if self.job.teacher is not None:
            found.append(("teacher", self.job.teacher, assembly.resolve(self.job.teacher)))
        found += [("reward", path, assembly.resolve(path)) for path in online.models_in(self.job.reward)]
        if self.job.probe is not None:
            found.append(("probe", self.job.probe.data, self.job.probe.data))
            found += [("gold", path, assembly.resolve(path)) for path in online.models_in(self.job.probe.gold)]
        if isinstance(self.job.data, tuple):
            found += [("data", d.path, d.path) for d in self.job.data]
        if isinstance(self.job.validation, str):
            found.append(("validation", self.job.validation, self.job.validation))
        return [{"name": n, "path": p, "hash": fingerprint(at) if exists(at) else "hub"} for n, p, at in found]

    @cached_property
    def recipe_hash(self) -> str:
        """What decides the result: the recipe without where it is written and how it is watched."""
        body = {k: v for k, v in self.asked.recipe().items() if k not in ("out", "log_to", "project", "keep", "cache")}
        if not isinstance(self.job.data, tuple):
            body["data"] = hash_json([g.to_json() for g in self.job.data.groups])
        return hash_json(body)

    def _reusable(self) -> dict[str, Any] | None:
        done = self.out.finished
        if done is None or done.get("recipe_hash") != self.recipe_hash or done.get("inputs") != self.inputs:
            return None
        return done

    # Assembly

    def _model(self) -> Loaded:
        job = self.job
        loaded = load(
            assembly.resolve(job.model),
            dtype=job.dtype,
            template=job.template,
            device=job.pick_device(),
            trust_remote_code=job.trust_remote_code,
            base="same" if job.lora is None else job.lora.base,
        )
        adapters.fold(loaded)  # of a run that saved its adapter alone: the reference is where this run starts
        if job.lora is not None:
            adapters.add_lora(loaded, job.lora)
        chosen = freeze.apply_train(loaded.model, only=list(job.train.only), freeze=list(job.train.freeze))
        self.notes += [*loaded.notes, *chosen.notes]
        for note in self.notes:
            self.context.say(f"note: {note}")
        return loaded

    def _data(self) -> tuple[list[Part], list[Group]]:
        job = self.job
        overlong = "stop" if job.overlong == "split" else job.overlong
        limit = job.max_tokens or context_length(self.loaded)
        cut = limit if job.overlong == "split" else None
        self.renderer = Renderer.of(self.loaded, job.mask, None if cut else limit, overlong)
        parts = assembly.gather(job.data, self.context)
        held: list[Group] = []
        if job.sampled is not None:
            return self._prompts(parts), held
        for part in parts:
            assembly.accept(part, job.method)
            assembly.render(part, self.renderer, cut, self.context.say)
        if isinstance(job.validation, str):
            (part,) = assembly.gather((assembly.Data(path=job.validation),), self.context)
            assembly.accept(part, job.method)
            assembly.render(part, self.renderer, cut, self.context.say)
            held = part.groups
        elif job.validation:
            share = int(job.validation) if job.validation >= 1 else job.validation
            held = assembly.hold_out(parts, share, job.seed)
        return parts, held

    def _prompts(self, parts: list[Part]) -> list[Part]:
        """Prompts that leave room for an answer; the answers they came with are not read."""
        rollout, limit = self.job.sampled, self.job.max_tokens or context_length(self.loaded)
        assert rollout is not None
        room = None if limit is None else limit - rollout.max_new_tokens
        if room is not None and room < 1:
            raise ValueError(f"rollout.max_new_tokens: {rollout.max_new_tokens} leave no room for a prompt in {limit}")
        overlong: Overlong = "drop" if self.job.overlong == "drop" else "stop"
        prompts = Renderer.of(self.loaded, self.job.mask, room, overlong)
        for part in parts:
            part.groups = [g.with_responses(()) for g in part.groups]
            assembly.render(part, prompts, None, self.context.say)
        return parts

    def _steps(self) -> int:
        job, rows = self.job, sum(len(p.groups) for p in self.parts)
        per_epoch = rows / job.batch
        steps = mixing.steps_of(self.parts, job.mixture, job.batch, job.steps, job.epochs)
        self.context.say(
            f"{job.method.name}: {rows} groups, {steps} steps of {job.batch} = {steps / per_epoch:.2f} epochs"
        )
        return steps

    def _engine(self) -> LocalEngine:
        job, needs = self.job, self.job.method.needs()
        torch.manual_seed(job.seed)
        made = heads.for_needs(self.loaded, needs)
        at = assembly.resolve(job.teacher) if job.teacher is not None else None
        teacher = {"teacher": load_teacher(at, self.loaded, job.pick_device())} if at is not None else {}
        engine = LocalEngine(
            self.loaded.model,
            made,
            teacher,
            needs=needs,
            token_budget=job.token_budget,
            path=None if job.layout == "auto" else job.layout,
            attention=job.pick_attention(),
        )
        default = job.method.learning_rate[0 if job.lora is None else 1]
        passes, minibatches = job.method.updates()
        rate, settings, heads_rate = job.optimizer.lr or default, job.optimizer, job.method.head_learning_rate
        if heads_rate is not None and settings.head_lr is None:
            settings = settings.changed(head_lr=max(heads_rate, rate))
        engine.optimize(settings, rate, self.steps * passes * minibatches)
        self.loaded.model.eval()  # dropout is off in every role; eval() keeps library code from turning it on
        self._recompute(engine)
        return engine

    def _source(self) -> tuple[Source, list[Group]]:
        """Where the run's groups come from, and a few of them to measure and check with."""
        job, rollout = self.job, self.job.sampled
        if rollout is None:
            rows = mixing.source_of(self.parts, job.batch, job.seed, None, job.mixture, self.steps)
            return rows, self.parts[0].groups[: min(8, job.batch)]
        self.online = online.Stream(self.parts, job, rollout, self.loaded, self.renderer, self.steps)
        fitting = online.Fitting(self.online.source, job.method, self.out.path / "rollouts.jsonl", rollout.keep_every)
        return fitting, online.probe(self.online.drawn, rollout.select, self.parts[0].groups[: min(PROBED, job.batch)])

    def _recompute(self, engine: LocalEngine) -> None:
        """Blocks are computed again in the backward where a step would not fit otherwise, or where the recipe says so."""
        groups = [g for p in self.parts for g in p.groups]
        fits = self.job.sampled is not None or fits_well(engine, groups, self.job.batch)
        if self.job.recompute == "on" or (self.job.recompute == "auto" and not fits):
            count = recompute_blocks(self.loaded.model)
            self.notes.append(f"{count} blocks are computed again in the backward, to save memory")
            self.context.say(f"note: {self.notes[-1]}")

    def _keep_scores(self) -> None:
        """Log-probs of frozen roles go to disk where they can be read again: by other runs, or in a later pass."""
        again = self.steps * self.job.batch > sum(len(p.groups) for p in self.parts)
        if self.job.sampled is None and self.job.method.needs().roles and (self.job.cache is not None or again):
            self.engine.kept = Kept(self.job.cache or self.out.path)

    def _preflight(self, say: Callable[[str], None]) -> None:
        if self.job.preflight == "off":
            self.findings: list[Any] = []
            return
        probed = [(self.parts[0].account(), self.probe)]
        subject = Subject(
            job=self.job.recipe(),
            method=self.job.method,
            loaded=self.loaded,
            renderer=self.renderer,
            engine=self.engine,
            parts=probed if self.job.sampled is not None else [(p.account(), p.groups) for p in self.parts],
            held_out=self.held_out,
            inputs=self.inputs,
            source=lambda seed: mixing.source_of(self.parts, self.job.batch, seed, None, self.job.mixture, self.steps),
            full=self.job.preflight == "full",
            sampled=self.job.sampled is not None,
            scored_by=None if self.job.reward is None else lambda answers: reward_checks.findings(self.job, answers),
        )
        self.findings = preflight(subject, self.out.check, accepted=self.job.accept, say=say)

    # The loop

    def _loop(self) -> None:
        self.resumed: dict[str, Any] | None = None
        start = resume(self)
        self._keep_scores()
        self.samples = Samples.before(self, fresh=start == 0)
        watching = self._hooks(start)
        self.done = start
        try:
            if self.probing is not None and start == 0:
                self.probing.look(0)
            self._through()
            while self.stopped is not None and roll_back(self):
                self._through()
        except NonFiniteGradient as error:
            save_wreck(self, error)
            raise
        finally:
            for hook in watching:
                hook.close()
        if self.job.sampled is not None and self.online.curricula:
            turns = f"{self.online.passed_over} turns of prompts that are always or never solved were passed over"
            self.notes.append(f"curriculum: {turns}")
            self.context.say(f"note: {self.notes[-1]}")
        if self.validation is not None and self.validation.restore_best():
            self.context.say(f"weights of step {self.validation.best_step} are kept: the best validation loss")

    def _through(self) -> None:
        """Steps from where the run is, to its end or to where a hook ends it."""
        self.stopped: str | None = None
        for step in train(self.engine, self.job.method, self.source, self.steps, start=self.done, seed=self.job.seed):
            self.done = step.number
            reasons = [hook(step) for hook in self.watching]
            self.stopped = next((r for r in reasons if r is not None), None)
            if self.stopped is not None:
                self.context.say(f"stopped at step {step.number}: {self.stopped}")
                return

    def _hooks(self, start: int) -> list[hooks.Hook]:
        job, extra, meter = self.job, self._validation_figures, hooks.Meter(self.engine)
        out: list[hooks.Hook] = [meter]
        if self.held_out:
            every = job.evaluate_every or max(1, self.steps // 10)
            self.validation = hooks.Validation(
                self.engine, job.method, self._batches(self.held_out), every, self.steps, job.patience
            )
            out.append(self.validation)
        if self.probing is not None:
            self.probing.keep = self._keep_best
            out.append(self.probing)
        self.watchers = watchers(self)
        out += [*self.watchers, self.alerts, hooks.MetricsLog(self.out, meter, extra)]
        if "tensorboard" in job.log_to:
            out.append(hooks.TensorBoard(self.out.path / "tensorboard", extra))
        for service in job.log_to:
            if service != "tensorboard":
                out.append(hooks.Tracker(service, job.project, self.out.path.name, job.recipe(), extra))
        if self.context.bars:
            shown = ("reward", "kl_sequence", "length") if job.sampled is not None else ("loss", "accuracy", "nll")
            out.append(hooks.ProgressBar(self.context.console, job.method.name, self.steps, start, shown, meter))
        out.append(hooks.Checkpoints(self._checkpoint, job.checkpoint_every, self.steps))
        if self.resumed is not None:
            for hook, state in zip(out, self.resumed["hooks"]):
                hook.load(state)
        self.watching = out
        return out

    def _validation_figures(self) -> dict[str, float]:
        found = dict(self.validation.latest) if self.validation is not None else {}
        return found | (self.probing.latest if self.probing is not None else {}) | looked(self.watchers)

    def _batches(self, groups: list[Group]) -> list[Batch]:
        size = self.job.batch * 4
        groups = list(self.job.method.arrange(groups))  # all of them: a last chunk may hold one prompt only
        order = sorted(groups, key=lambda g: -sum(len(r.tokens) for r in g.responses if r.tokens is not None))
        chunks = [order[i : i + size] for i in range(0, len(order), size)]  # the longest first: memory shows at once
        return [self.job.method.prepare(self.engine.layout(c), self.engine) for c in chunks]

    # Checkpoints

    def everything(self) -> dict[str, Any]:
        return {
            "engine": self.engine.state(),
            "source": self.source.state(),
            "method": self.job.method.state(),
            "hooks": [h.state() for h in self.watching],
            "rng": checkpoint.random_state(),
            "recipe": self.recipe_hash,
            "inputs": self.inputs,
            "rollbacks": self.rollbacks,
        }

    def _keep_best(self, step: int) -> None:
        """The state of the probe's best look, where the run may have to go back to it."""
        if self.job.probe is not None and self.job.probe.action == "rollback" and ranks.world()[0] == 0:
            checkpoint.write(self.out.path / "best", step, self.everything(), keep=1)

    def _checkpoint(self, step: int) -> None:
        if ranks.world()[0] == 0:
            checkpoint.write(self.out.checkpoints, step, self.everything(), self.job.keep)

    # Results

    def _finish(self) -> Run:
        from posttrain.report import write_report

        self.samples.after(self)
        if self.engine.kept is not None:
            self.context.say(self.engine.kept.told())
        crash_point("before-model")
        if self.job.save_dtype != "same":
            stored = torch.float32 if self.job.save_dtype == "fp32" else torch.bfloat16
        else:
            stored = None
        self._save_model(stored)
        crash_point("model-written")
        self.out.finish(manifest_of(self))
        write_report(self.out.path)
        self.context.say(f"model {self.out.model}, report {self.out.report}")
        return self.out

    def _save_model(self, stored: torch.dtype | None) -> None:
        trained_heads = dict(self.engine.heads.state_dict())
        if self.engine.critic is not None:  # its head stands on a trunk that is not saved
            trained_heads = {n: v for n, v in trained_heads.items() if not n.startswith("value.")}
        save(self.loaded, self.out.model, heads=trained_heads or None, dtype=stored)


def exists(path: str) -> bool:
    return Path(path).exists()


def context_length(loaded: Loaded) -> int | None:
    """The longest sequence that the model's positions cover, when its config says so."""
    config: Any = loaded.model.config
    return getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
