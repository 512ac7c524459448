"""What would go wrong, before step 1: every job of a recipe is built, and every Train job runs up to its preflight.

A job that waits for another's output which is not there yet is checked as far as its recipe goes, and that is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from rich.padding import Padding
from rich.text import Text

from posttrain.core.finding import Finding
from posttrain.core.recipe import Spec
from posttrain.core.run import Run
from posttrain.jobs.job import Context, Job
from posttrain.jobs.pipeline import Pipeline, load
from posttrain.jobs.train import Train
from posttrain.jobs.training import Training

STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}


@dataclass
class Verdict:
    """Findings by job. refused: why a job could not even be prepared."""

    findings: dict[str, list[Finding]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    accepted: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def blocking(self, name: str) -> list[Finding]:
        """What would stop that job: errors, and warnings that its recipe does not accept."""
        accepted = self.accepted.get(name, ())
        return [
            f
            for f in self.findings[name]
            if f.severity == "error" or (f.severity == "warning" and f.id not in accepted)
        ]

    @property
    def exit_code(self) -> int:
        return int(bool(self.refused) or any(self.blocking(n) for n in self.findings))


class Check(Spec):
    """Say what would go wrong with a recipe, before step 1."""

    positional: ClassVar[tuple[str, ...]] = ("recipe", "overrides")

    recipe: str
    """YAML file of a job or of a pipeline."""
    overrides: tuple[str, ...] = ()
    """Changes such as `steps=50` or `dpo.method.beta=0.2`."""
    full: bool = False
    """Look at every row, not only at a sample."""

    def run(self, context: Context | None = None) -> Verdict:
        """Check every job; nothing is trained. `exit_code` of the result is 1 when a run would be refused."""
        context = context or Context()
        pipeline, verdict = load(self.recipe, self.overrides), Verdict()
        for name, job in pipeline.jobs.items():
            self._job(name, job, pipeline, verdict, context)
        many = sum(len(verdict.blocking(n)) for n in verdict.findings) + len(verdict.refused)
        context.say(
            f"{many} {'thing' if many == 1 else 'things'} would stop this recipe"
            if many
            else "nothing would stop this recipe"
        )
        return verdict

    def _job(self, name: str, job: Job, pipeline: Pipeline, verdict: Verdict, context: Context) -> None:
        absent = [n for n in pipeline.waits[name] if not there(pipeline.jobs[n])]
        if absent:
            context.say(
                f"{name}: the recipe is well formed; it waits for {', '.join(absent)}, so its data are checked then"
            )
            return
        if not isinstance(job, Train):
            context.say(f"{name}: the recipe is well formed")
            return
        context.say(f"{name}:")
        verdict.accepted[name] = job.accept
        try:
            found = Training(job.changed(preflight="full" if self.full else "fast"), context).check()
        except (ValueError, OSError) as error:
            verdict.refused[name] = str(error)
            context.say(f"{name}: error: {error}")
            return
        verdict.findings[name] = found
        show(found, verdict.blocking(name), context)


def there(job: Job) -> bool:
    """Has the job written its output? A run counts when it is finished."""
    out = Path(str(getattr(job, "out", None)))
    return out.is_file() if job.produces == "file" else Run(out).finished is not None


def show(findings: Sequence[Finding], blocking: Sequence[Finding], context: Context) -> None:
    """Findings, the worst first: what was seen, where, and the way out. Text from data is never read as markup."""
    for finding in findings:
        state = "" if finding in blocking or finding.severity != "warning" else " (accepted)"
        row = f" row {finding.row}" if finding.row is not None else ""
        context.console.print(
            Text.assemble((f"{finding.id:<4}{finding.severity}{state}{row}", STYLES[finding.severity])), soft_wrap=False
        )
        context.console.print(Padding(Text(finding.message), (0, 0, 0, 4)))
        if finding.severity != "info":
            context.console.print(Padding(Text(f"Fix: {finding.fix}"), (0, 0, 0, 4)))
    if not findings:
        context.console.print(Text("no finding"))
