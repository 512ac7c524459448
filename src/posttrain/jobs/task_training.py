"""How a Train job runs for task heads: texts without a template, a task class or a linear head, a directory that the library loads.

It is `Training` with another model, another rendering and another way to save; the loop, checkpoints and reports are the same. Checks of
chat templates and of answers before and after do not apply, as such a model answers nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from posttrain.core.files import write_json
from posttrain.core.finding import Finding
from posttrain.core.group import Group
from posttrain.core.method import Method
from posttrain.jobs import assembly
from posttrain.jobs.assembly import Part
from posttrain.jobs.job import Context
from posttrain.jobs.train import Train
from posttrain.jobs.training import Training, context_length
from posttrain.models import adapters, freeze, tasks
from posttrain.models.load import Loaded
from posttrain.models.texts import TextRenderer
from posttrain.models.trunk import is_encoder
from posttrain.train import data_checks
from posttrain.train.preflight import PreflightError


class TaskTraining(Training):
    """One execution of a Train job whose method has a `task`."""

    def __init__(self, job: Train, context: Context) -> None:
        if job.overlong in ("truncate", "split"):
            raise ValueError("overlong: texts with labels are not cut, as a label may be about what is lost; use drop")
        super().__init__(job, context)
        _ = self.recipe_hash, self.inputs  # of the recipe as asked for, before the data fill anything in
        self.job = job.changed(samples=0)

    def _prepare(self) -> None:
        self._gathered = assembly.gather(self.job.data, self.context)
        super()._prepare()

    def _model(self) -> Loaded:
        from posttrain.models.load import read_tokenizer

        path = assembly.resolve(self.job.model)
        groups = [g for p in self._gathered for g in p.groups]
        settled = self.job.method.settled(groups, read_tokenizer(path, local=True))
        self.job = self.job.changed(method=settled)
        job = self.job
        loaded = tasks.load_for_task(
            path,
            settled.task,
            outputs_of(settled),
            settled.needs(),
            job.dtype,
            job.pick_device(),
            job.trust_remote_code,
        )
        if job.lora is not None and is_encoder(loaded.model):
            tasks.add_task_lora(loaded, settled.task, job.lora)
        elif job.lora is not None:
            adapters.add_lora(loaded, job.lora)
        if job.lora is None or job.train.only or job.train.freeze:
            chosen = freeze.apply_train(loaded.model, only=list(job.train.only), freeze=list(job.train.freeze))
            self.notes += chosen.notes
        self.notes += loaded.notes
        for note in self.notes:
            self.context.say(f"note: {note}")
        return loaded

    def _data(self) -> tuple[list[Part], list[Group]]:
        job = self.job
        limit = job.max_tokens or context_length(self.loaded)
        renderer = TextRenderer(self.loaded.tokenizer, limit, "drop" if job.overlong == "drop" else "stop")
        self.renderer = renderer  # type: ignore[assignment]
        parts, held = self._gathered, []
        for part in parts:
            assembly.accept(part, job.method)
            assembly.render(part, renderer, None, self.context.say)  # type: ignore[arg-type]
        if isinstance(job.validation, str):
            (part,) = assembly.gather((assembly.Data(path=job.validation),), self.context)
            assembly.accept(part, job.method)
            assembly.render(part, renderer, None, self.context.say)  # type: ignore[arg-type]
            held = part.groups
        elif job.validation:
            share = int(job.validation) if job.validation >= 1 else job.validation
            held = assembly.hold_out(parts, share, job.seed)
        return parts, held

    def _preflight(self, say: Callable[[str], None]) -> None:
        accounts = [(p.account(), p.groups) for p in self.parts]
        found = data_checks.nothing_vanished(accounts, self.held_out, self.job.recipe())
        for account, groups in accounts:
            found += data_checks.row_accounting(account)
            found += data_checks.overlapping(groups, self.held_out) if groups[0].prompt else []
        self.findings: list[Finding] = found
        write_json(self.out.check, {"findings": [f.to_json() for f in found]})
        blocking = [f for f in found if f.severity != "info" and f.id not in self.job.accept]
        if blocking and self.job.preflight != "off":
            raise PreflightError(blocking)
        for finding in found:
            say(f"check {finding.id} {finding.severity}: {finding.message}")

    def _save_model(self, stored: torch.dtype | None) -> None:
        method = self.job.method
        tasks.save_task(self.loaded, self.engine.heads, method.task, outputs_of(method), self.out.model, stored)


def outputs_of(method: Method) -> tuple[str, ...]:
    """Names of a head's outputs, in order: tags where the method has them, else labels."""
    return tuple(getattr(method, "tags", ()) or getattr(method, "labels", ()))
