"""What hooks onto the steps of the loop: logs, the progress bar, validation, early stopping, checkpoints.

A hook sees every step, may say that the run should end, and keeps state that a checkpoint carries. Order matters and is fixed by the
job: log, validate, checkpoint, so that a checkpoint holds what validation has seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from posttrain.core.batch import Batch
from posttrain.core.method import Method
from posttrain.core.run import Run
from posttrain.engine import work
from posttrain.engine.local import LocalEngine
from posttrain.train.loop import Step, evaluate


class Hook(Protocol):
    """Called after every step. A returned text ends the run and is the reason."""

    def __call__(self, step: Step) -> str | None: ...

    def state(self) -> dict[str, Any]: ...

    def load(self, state: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class Quiet:
    """A hook without state."""

    def __call__(self, step: Step) -> str | None:
        return None

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        return None

    def close(self) -> None:
        return None


class Meter(Quiet):
    """What the machine does: trained tokens a second, share of the peak of matrix products, most memory held. First of the hooks."""

    def __init__(self, engine: LocalEngine) -> None:
        self.device, self.dtype = engine.device, next(engine.model.parameters()).dtype
        self.peak = work.peak(self.device, self.dtype)
        self.latest: dict[str, float] = {}

    def __call__(self, step: Step) -> str | None:
        seconds = max(step.seconds, 1e-9)
        if step.flops / seconds > self.peak:  # no work is faster than the peak: that one was taken on a busy machine
            self.peak = max(work.peak(self.device, self.dtype, again=True), step.flops / seconds)
        self.latest = {
            "tokens_per_second": round(step.counts["token"] / seconds, 1),
            "share_of_peak": round(step.flops / seconds / self.peak, 4),
            "memory_mib": round(work.memory(self.device) / 2**20, 1),
        }
        return None

    def told(self) -> str:
        """The figures of the last step, short: for the progress line."""
        at = self.latest
        share, memory = f"{at['share_of_peak']:.0%} peak", f"{at['memory_mib'] / 1024:.1f} GiB"
        return f"{at['tokens_per_second']:,.0f} tok/s {share} {memory}"


class MetricsLog(Quiet):
    """One line per step in metrics.jsonl; validation adds its figures to the step's line."""

    def __init__(self, run: Run, meter: Meter, extra: Callable[[], Mapping[str, float]] = dict) -> None:
        self.run, self.meter, self.extra = run, meter, extra

    def __call__(self, step: Step) -> str | None:
        self.run.log(
            {
                "step": step.number,
                **step.metrics,
                **self.extra(),
                "trained_tokens": step.counts["token"],
                "stream_tokens": step.stream_tokens,
                "seconds": round(step.seconds, 4),
                **self.meter.latest,
            }
        )
        return None


class ProgressBar(Quiet):
    """Progress with time left, what the machine does and the figures that matter, in one line."""

    def __init__(
        self, console: Console, title: str, steps: int, start: int, shown: tuple[str, ...], meter: Meter
    ) -> None:
        self.shown, self.meter = shown, meter
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=8),
            MofNCompleteColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            transient=False,
        )
        self.task = self.bar.add_task(title, total=steps, completed=start, figures="")
        self.bar.start()

    def __call__(self, step: Step) -> str | None:
        figures = " ".join(f"{n} {step.metrics[n]:.3f}" for n in self.shown if n in step.metrics)
        self.bar.update(self.task, completed=step.number, figures=f"{self.meter.told()} {figures}")
        return None

    def close(self) -> None:
        self.bar.stop()


class TensorBoard(Quiet):
    """Scalars for TensorBoard in the run's directory."""

    def __init__(self, directory: Path, extra: Callable[[], Mapping[str, float]]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer, self.extra = SummaryWriter(str(directory)), extra

    def __call__(self, step: Step) -> str | None:
        for name, value in {**step.metrics, **self.extra()}.items():
            self.writer.add_scalar(name, value, step.number)
        return None

    def close(self) -> None:
        self.writer.close()


class Tracker(Quiet):
    """Scalars to Weights & Biases or trackio (both speak `init` and `log`), when installed and asked for."""

    def __init__(self, service: str, project: str, name: str, recipe: Mapping[str, Any], extra: Any) -> None:
        import importlib

        try:
            self.module = importlib.import_module(service)
        except ImportError:
            raise ValueError(f"log_to: {service} is not installed; `pip install {service}` or leave it out") from None
        self.module.init(project=project, name=name, config=dict(recipe))
        self.extra = extra

    def __call__(self, step: Step) -> str | None:
        self.module.log({**step.metrics, **self.extra()})
        return None

    def close(self) -> None:
        self.module.finish()


class Validation(Quiet):
    """Held-out loss every `every` steps; with `patience`, ends the run after that many evaluations without a better loss.

    The best weights are kept (in memory and in checkpoints) and put back at the end when stopping early is on.
    """

    def __init__(
        self, engine: LocalEngine, method: Method, batches: list[Batch], every: int, steps: int, patience: int | None
    ) -> None:
        self.engine, self.method, self.batches = engine, method, batches
        self.every, self.steps, self.patience = every, steps, patience
        self.best, self.best_step, self.bad = math.inf, 0, 0
        self.weights: dict[str, torch.Tensor] = {}
        self.latest: dict[str, float] = {}
        self._seen_at = -1

    def measure(self) -> dict[str, float]:
        """Held-out figures of the weights as they are, named ``eval_*``."""
        return {f"eval_{n}": v for n, v in evaluate(self.engine, self.method, self.batches).items()}

    def __call__(self, step: Step) -> str | None:
        self.latest = {}
        if step.number % self.every and step.number != self.steps:
            return None
        self.latest = self.measure()
        loss = self.latest["eval_loss"]
        if loss < self.best:
            self.best, self.best_step, self.bad = loss, step.number, 0
            if self.patience is not None:
                self.weights = {n: p.detach().clone() for n, p in self.engine.named_parameters().items()}
            return None
        self.bad += 1
        if self.patience is not None and self.bad >= self.patience:
            return f"validation loss has not fallen below {self.best:.4f} (step {self.best_step}) for {self.bad} evaluations"
        return None

    def restore_best(self) -> bool:
        """Put the best weights back; False when the last ones are the best."""
        if not self.weights or self.bad == 0:
            return False
        with torch.no_grad():
            for name, parameter in self.engine.named_parameters().items():
                parameter.copy_(self.weights[name])
        return True

    def state(self) -> dict[str, Any]:
        best = self.best if math.isfinite(self.best) else None
        return {"best": best, "best_step": self.best_step, "bad": self.bad, "weights": self.weights}

    def load(self, state: Mapping[str, Any]) -> None:
        self.best = math.inf if state["best"] is None else float(state["best"])
        self.best_step, self.bad, self.weights = int(state["best_step"]), int(state["bad"]), dict(state["weights"])


class Checkpoints(Quiet):
    """Calls `save` every `every` steps and at the last one."""

    def __init__(self, save: Callable[[int], None], every: int, steps: int) -> None:
        self.save, self.every, self.steps = save, every, steps

    def __call__(self, step: Step) -> str | None:
        if step.number % self.every == 0 or step.number == self.steps:
            self.save(step.number)
        return None
