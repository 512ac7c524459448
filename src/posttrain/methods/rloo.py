"""REINFORCE leave-one-out: the baseline of an answer is the mean score of the other answers to its prompt.

The KL to the reference is taken off the score before (k1, summed over the answer), and the whole answer is one action: its ratio is the
product of its tokens'. Ahmadian et al. 2024, arXiv:2402.14740; the estimator is Kool et al. 2019. A group's answers must all be there, so
denominators count answers and groups stay whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from posttrain.core.batch import Batch
from posttrain.core.group import Group
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.core.protocols import Engine
from posttrain.core.recipe import one_of
from posttrain.methods.grpo import answered
from posttrain.objectives.advantages import flat, leave_one_out
from posttrain.objectives.endings import Ending, Keep
from posttrain.objectives.kl import LARGEST_LOG_RATIO
from posttrain.objectives.sampled import Correction, Figures, moved, sampled_figures, scored, with_old, with_reference
from posttrain.objectives.sequence import row_sum
from posttrain.objectives.surrogates import clipped


class RLOO(Method):
    """Learn from scored answers of the policy, each against the mean of the others."""

    name: ClassVar[str] = "rloo"
    sums: ClassVar[dict[str, Unit]] = {"policy": "row"}
    atom: ClassVar[Atom] = "row"
    wants: ClassVar[str] = "prompts; it samples n answers to each, and a reward scores them"
    learning_rate: ClassVar[tuple[float, float]] = (1e-6, 1e-5)
    symmetric: ClassVar[bool] = True
    online: ClassVar[bool] = True
    past: ClassVar[Mapping[str, str]] = {
        "epsilon": "low and high",
        "num_generations": "n, in the job's rollout: {n: 2}",
        "num_iterations": "passes",
        "kl_coef": "beta",
        "rloo_k": "n, in the job's rollout: {n: 2}",
    }

    beta: NonNegativeFloat = 0.05
    """Nats of KL to the reference that cost one unit of reward, times this; 0 holds no reference."""
    low: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """How far an answer's probability may fall below its old one before it stops teaching."""
    high: PositiveFloat = 0.2
    """How far it may rise."""
    ending: one_of(Ending) = Keep()  # type: ignore[valid-type]
    """What a truncated answer is worth: keep, mask, set, subtract, soft."""
    correction: Correction | None = None
    """Weigh samples that other weights or a truncated distribution drew; none refuses them. Its level is the whole answer."""
    temperature: PositiveFloat = 1.0
    """Sampling temperature; log-probs are taken at it everywhere."""
    passes: PositiveInt = 1
    """How often a step's samples are learned from."""
    minibatches: PositiveInt = 1
    """Updates per pass, over whole groups reshuffled each pass."""

    def needs(self) -> Needs:
        reference = frozenset({"reference"}) if self.beta else frozenset[str]()
        return Needs(logp=True, roles=reference, temperature=self.temperature)

    def updates(self) -> tuple[int, int]:
        return self.passes, self.minibatches

    def accepts(self, group: Group) -> str | None:
        return scored(group, 2)

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        whole = None if self.correction is None else self.correction.changed(level="sequence")
        batch, _ = with_old(batch, engine, self.temperature, whole)
        score = self.ending.score(batch.data["score"], batch)
        if self.beta:
            batch = with_reference(batch, engine, self.temperature)
            score = score - self.beta * row_sum(batch.data["old"] - batch.data["ref"], batch)
        taught = self.ending.taught(batch) * torch.from_numpy(batch.main).to(score)
        return batch.plus("row", advantage=leave_one_out(score, batch) * taught, taught=taught)

    def figures(self, batch: Batch, engine: Engine) -> Figures:
        still = flat(self.ending.score(batch.data["score"], batch), batch)
        return sampled_figures(batch, engine) | {
            "flat_groups": (float(still.sum()), float(batch.G)),
            "advantage_abs": (float(batch.data["advantage"].abs().sum()), float(batch.R)),
        }

    def idle(self, batch: Batch) -> Sequence[int]:
        return torch.nonzero(batch.data["advantage"] == 0)[:, 0].tolist()

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.logp is not None
        advantage, taught = batch.data["advantage"], batch.data["taught"]
        log_ratio = row_sum(out.logp - batch.data["old"], batch)
        ratio = log_ratio.clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO).exp()
        first = torch.from_numpy(batch.tokens_of[:-1]).to(batch.row.device)
        omega = batch.data["omega"][first] if batch.N else ratio
        held = (ratio < 1 - self.low) & (advantage < 0), (ratio > 1 + self.high) & (advantage > 0)
        return Loss(
            sums={"policy": (omega * clipped(ratio, advantage, self.low, self.high)).sum()},
            metrics=moved(log_ratio, held, taught),
        )

    @classmethod
    def example(cls) -> Example:
        zero = {"logp": [0.0] * 9}
        lead = {"advantage": [1.0, -0.5], "taught": [1.0, 1.0], "omega": [1.0] * 9}
        return Example(
            groups=answered(),
            anchors={
                "ratio 1": Anchor(zero, {"policy": -0.5}, lead | {"old": [0.0] * 9}, "-A at s = 1"),
                "clipped": Anchor(
                    zero,
                    {"policy": -1.2 + 0.5 * float(np.exp(0.3))},
                    lead | {"old": [-0.1] * 9},
                    "s = e^0.6 and e^0.3",
                ),
            },
            variants=({"beta": 0.0, "ending": "mask", "passes": 2}, {"ending": {"name": "set", "value": -2.0}}),
        )
