"""REINFORCE++: plain policy gradient with PPO's clip and KL penalty, and advantages normalised over the whole step in place of a critic.

Each token's reward is -beta * KL estimate, the score stands at the last trained token, returns are summed to the end (gamma 1) and whitened
over all trained tokens of all ranks. Hu 2025, arXiv:2501.03262. The form with a group baseline is `grpo` with ``scale: leads``,
``aggregation: dapo`` and ``estimator: mse``.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from posttrain.objectives.advantages import at_last, backwards, usable, whitened
from posttrain.objectives.endings import Ending, Keep
from posttrain.objectives.kl import K1, Estimator, penalties
from posttrain.objectives.sampled import Correction, Figures, moved, sampled_figures, scored, with_old, with_reference
from posttrain.objectives.surrogates import Clip, Sampled, Surrogate


class ReinforcePP(Method):
    """Learn from scored answers of the policy, against the mean of the step."""

    name: ClassVar[str] = "reinforce_pp"
    sums: ClassVar[dict[str, Unit]] = {"policy": "token"}
    atom: ClassVar[Atom] = "row"
    wants: ClassVar[str] = "prompts; it samples an answer or more to each, and a reward scores them"
    learning_rate: ClassVar[tuple[float, float]] = (1e-6, 1e-5)
    symmetric: ClassVar[bool] = True
    online: ClassVar[bool] = True
    past: ClassVar[Mapping[str, str]] = {"init_kl_coef": "beta", "cliprange": "surrogate: {name: clip, low: 0.2}"}

    beta: NonNegativeFloat = 0.05
    """Weight of the KL penalty inside the reward."""
    penalty: one_of(Estimator) = K1()  # type: ignore[valid-type]
    """How that KL is estimated per token: kl, abs, mse, k3, full."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Discount of later rewards per token."""
    surrogate: one_of(Surrogate) = Clip()  # type: ignore[valid-type]
    """The loss of a token by its ratio and advantage."""
    ending: one_of(Ending) = Keep()  # type: ignore[valid-type]
    """What a truncated answer is worth: keep, mask, set, subtract, soft."""
    correction: Correction | None = None
    """Weigh samples that other weights or a truncated distribution drew; none refuses them."""
    temperature: PositiveFloat = 1.0
    """Sampling temperature; log-probs are taken at it everywhere."""
    passes: PositiveInt = 1
    """How often a step's samples are learned from."""
    minibatches: PositiveInt = 1
    """Updates per pass, over whole groups reshuffled each pass."""

    def needs(self) -> Needs:
        return Needs(logp=True, roles=frozenset({"reference"}), temperature=self.temperature)

    def updates(self) -> tuple[int, int]:
        return self.passes, self.minibatches

    def accepts(self, group: Group) -> str | None:
        return scored(group, 1)

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        batch, _ = with_old(batch, engine, self.temperature, self.correction)
        batch = with_reference(batch, engine, self.temperature)
        score = self.ending.score(batch.data["score"], batch)
        taught = self.ending.taught(batch) * usable(score) * torch.from_numpy(batch.main).to(score)
        rewards = at_last(score.nan_to_num(0.0), batch) - self.beta * penalties(
            self.penalty, batch, engine, self.temperature
        )
        weight = taught[batch.row]
        advantage = whitened(backwards(rewards, batch, self.gamma), weight, engine)
        return batch.plus("token", advantage=advantage * weight, taught=weight)

    def figures(self, batch: Batch, engine: Engine) -> Figures:
        return sampled_figures(batch, engine)

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.logp is not None
        log_ratio = out.logp - batch.data["old"]
        of = Sampled(log_ratio, out.logp, batch.data["advantage"], batch)
        weight = batch.data["omega"] * batch.data["taught"]
        return Loss(
            sums={"policy": (weight * self.surrogate(of)).sum()},
            metrics=moved(log_ratio, self.surrogate.held(of), batch.data["taught"]),
        )

    @classmethod
    def example(cls) -> Example:
        zero, ones = {"logp": [0.0] * 9}, [1.0] * 9
        lead = {"advantage": [1.0] * 6 + [-1.0] * 3, "taught": ones, "omega": ones}
        return Example(
            groups=answered(),
            anchors={
                "ratio 1": Anchor(zero, {"policy": -3.0}, lead | {"old": [0.0] * 9}, "-A at rho = 1"),
                "clipped": Anchor(
                    zero, {"policy": -6 * 1.2 + 3 * float(np.exp(0.5))}, lead | {"old": [-0.5] * 9}, "closed form"
                ),
            },
            variants=({"penalty": "abs", "ending": "mask", "gamma": 0.9}, {"penalty": "k3", "beta": 0.3, "passes": 2}),
        )
