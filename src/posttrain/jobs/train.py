"""The Train job: a model, a method and rows in; a run directory with a model out.

Every method goes through here. The recipe is this class; `posttrain sft`, `posttrain dpo` ... are it with the method filled in.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import AliasChoices, Field, PositiveFloat, PositiveInt, model_validator

import posttrain.methods  # noqa: F401  (a recipe names methods, so all must be known)
from posttrain.core.method import Method
from posttrain.core.recipe import dump, dump_kind, one_of
from posttrain.core.run import Run
from posttrain.engine.optimizer import Optimizer
from posttrain.jobs.job import Context, Job, Selection, Source
from posttrain.jobs.mixing import Mixture
from posttrain.jobs.online import All, RewardNode, Rollout
from posttrain.jobs.probe import Again, Probe
from posttrain.models.adapters import Lora
from posttrain.models.kernels import Kernel, on_cpu
from posttrain.train.monitors import Limits


class Train(Job):
    """Train a model with any method on rows of any recognised shape."""

    name: ClassVar[str] = "train"

    model: str
    """Model to start from: a directory, a run, or a hub id."""
    method: one_of(Method)  # type: ignore[valid-type]
    """How to learn, by name (`dpo`) or with its settings (`{name: dpo, beta: 0.2}`)."""
    teacher: str | None = None
    """Model that a distilled student learns from: a directory, a run, or a hub id with the student's vocabulary."""
    data: Annotated[Source, Field(validation_alias=AliasChoices("data", "source"))]
    """Rows to learn from: a path, several with weights, or groups in Python."""
    mixture: Mixture = Mixture()
    """How several tasks are mixed: weights, temperature, cap, passes over each, from easy to hard."""
    out: str
    """Directory of the run."""
    reward: RewardNode = None
    """What scores the policy's own answers: a rule (`math`), a reward run, `module:function`, or a node."""
    rollout: Rollout | None = None
    """How the policy answers the prompts of a step; none learns from the rows as they are, where the method can."""
    steps: PositiveInt | None = None
    """Optimiser steps; give this or `epochs`."""
    epochs: PositiveFloat | None = None
    """Passes over the data; give this or `steps` (neither = 1 epoch)."""
    batch: PositiveInt = 16
    """Groups (prompts with their answers) per optimiser step."""
    optimizer: Optimizer = Optimizer()
    """Learning rate, schedule, decay, clipping."""
    lora: Lora | None = None
    """Train low-rank adapters in place of all weights; the reference is then the adapter turned off."""
    train: Selection = Selection()
    """Which tensors move, by name patterns."""
    validation: Annotated[float, Field(ge=0)] | str = 0.0
    """Held-out share of the prompts (below 1), number of rows, or a file."""
    evaluate_every: PositiveInt | None = None
    """Steps between validations; none makes ten of the run."""
    patience: PositiveInt | None = None
    """Stop after this many validations without a better loss, and keep the best weights."""
    limits: Limits = Limits()
    """Bounds on KL, ratio and entropy that end the run, or take it back to its last healthy checkpoint."""
    probe: Probe | None = None
    """Hold the reward against one that is not trained on, every few steps; none leaves over-optimisation unseen."""
    again: Again | None = None
    """Go on after a rollback with a changed setting and a new seed, at most twice; none ends the run there."""
    template: str | None = None
    """Chat template: a built-in name or a .jinja file; none takes the tokenizer's own."""
    mask: Literal["all", "last"] = "all"
    """Which assistant turns of a conversation are trained."""
    max_tokens: PositiveInt | None = None
    """Longest prompt with answer, in tokens; none takes the model's context."""
    overlong: Literal["stop", "drop", "truncate", "split"] = "stop"
    """What to do with longer rows: stop the run, drop or truncate and count them, or split (documents only)."""
    seed: int = 0
    """Seeds the weights of new heads, the order of the data and every draw."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the weights; auto is fp32 on CPUs, bf16 on GPUs."""
    save_dtype: Literal["same", "fp32", "bf16"] = "same"
    """Precision of the weights as written."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""
    threads: PositiveInt | None = None
    """CPU threads; none measures how many are fastest on this shape. Whether they share each operation or work on pieces of a step
    side by side is measured, too."""
    token_budget: PositiveInt | None = None
    """Stream tokens of one forward; a batch beyond it is cut, with the same gradient. None takes 1024 on CPUs, 8192 on GPUs."""
    recompute: Literal["auto", "on", "off"] = "auto"
    """Compute blocks again in the backward: a third more work for much less memory; auto does so only where a step would not fit."""
    layout: Literal["auto", "shared", "dense"] = "auto"
    """Share prompts between answers (auto verifies it on the first batch), or pad as others do."""
    attention: Literal["auto", "buckets", "native", "varlen", "flex"] = "auto"
    """Kernel of the shared layout: auto takes our own on CPUs with a C compiler (native), buckets without one, and on GPUs what is right
    and fastest on the first batch."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the blocks (torch.compile): auto does so on GPUs where it is right and saves time on the first batch."""
    cache: str | None = None
    """Directory where log-probs of the reference and the teacher are kept by content for other runs to read (a sweep); none keeps
    them inside the run, where it makes several passes."""
    checkpoint_every: PositiveInt = 200
    """Steps between checkpoints."""
    keep: PositiveInt = 2
    """Checkpoints to keep."""
    accept: tuple[str, ...] = ()
    """Ids of preflight warnings that you have read and accept."""
    preflight: Literal["fast", "full", "off"] = "fast"
    """Check tokens, masks, data, losses and state before step 1."""
    log_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ("tensorboard",)
    """Where metrics go beside metrics.jsonl."""
    project: str = "posttrain"
    """Project name for wandb and trackio."""
    samples: Annotated[int, Field(ge=0)] = 4
    """Prompts whose answers before and after are shown in the report."""
    sample_tokens: PositiveInt = 96
    """Longest such answer."""
    trust_remote_code: bool = False
    """Run code that comes with a model repository. Off unless you trust it."""

    @model_validator(mode="after")
    def _consistent(self) -> Train:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("steps and epochs are both given; give one, the other is printed")
        if self.patience is not None and not self.validation:
            raise ValueError("patience needs `validation`: what should stop improving?")
        if (self.teacher is None) == ("teacher" in self.method.needs().roles):
            raise ValueError(
                f"teacher: {self.method.name} needs one to learn from; name a model directory"
                if self.teacher is None
                else f"teacher: {self.method.name} has no use for one; leave it out, or take method distill"
            )
        self._consistent_online()
        self._consistent_rollback()
        if self.lora is not None and self.lora.save == "adapter" and self.save_dtype != "same":
            raise ValueError(
                "save_dtype: an adapter saved alone keeps its own precision; leave it, or use lora.save: merge"
            )
        if self.overlong == "split" and self.method.name != "lm":
            raise ValueError("overlong: split is for documents (method lm); use drop or truncate")
        return self

    def _consistent_online(self) -> None:
        rollout = self.sampled
        if rollout is None:
            if self.reward is not None:
                raise ValueError("reward scores answers that the policy gives: set `rollout`, or leave it out")
            return
        rollout.sampling(self.method)
        wanted = self.method.online or not isinstance(rollout.select, All)
        if wanted and self.reward is None:
            raise ValueError(f"reward: {self.method.name} needs one here: a rule, a reward run, or module:function")
        if self.validation:
            raise ValueError("validation: there are no rows to hold out where the policy answers; leave it out")
        if self.method.updates()[1] > self.batch:
            raise ValueError(f"minibatches: {self.method.updates()[1]} of them need a batch of as many prompts")

    def _consistent_rollback(self) -> None:
        if self.probe is not None and (self.sampled is None or self.reward is None):
            raise ValueError("probe: it holds the reward of the policy's answers against another; this run has none")
        if self.again is None:
            return
        if self.limits.action != "rollback" and (self.probe is None or self.probe.action != "rollback"):
            raise ValueError("again: nothing rolls back; set `action: rollback` in limits or probe")
        if self.again.beta != 1.0 and not getattr(self.method, "beta", 0.0):
            raise ValueError(f"again.beta: {self.method.name} has no KL coefficient above 0; change lr")

    @property
    def sampled(self) -> Rollout | None:
        """How the policy's answers are drawn, None where the run learns from rows as they are."""
        return self.rollout or (Rollout() if self.method.online else None)

    def run(self, context: Context | None = None) -> Run:
        """Train, and return the run. A finished run with unchanged inputs is reused; an interrupted one goes on."""
        from posttrain.jobs.task_training import TaskTraining
        from posttrain.jobs.training import Training

        kind = TaskTraining if self.method.task else Training
        return kind(self, context or Context()).run()

    def recipe(self) -> dict[str, Any]:
        """The recipe as plain values."""
        return {"job": self.name, **dump(self), "method": dump_kind(self.method)}

    def pick_device(self) -> str:
        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device: no CUDA device here; use cpu or auto")
        return self.device

    def pick_attention(self) -> Kernel | None:
        """None lets the engine measure."""
        if self.attention in ("varlen", "flex") and self.pick_device() == "cpu":
            raise ValueError(f"attention: {self.attention} trains on CUDA GPUs alone; use auto or buckets")
        if self.attention == "native" and (self.pick_device() != "cpu" or on_cpu() != "native"):
            raise ValueError("attention: native needs a CPU and a C compiler (cc); use auto or buckets")
        return None if self.attention == "auto" else self.attention

    @property
    def run_dir(self) -> Run:
        return Run(Path(self.out))


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S")
