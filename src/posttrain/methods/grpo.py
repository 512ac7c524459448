"""Group-relative policy optimisation: an answer's advantage is its lead over the other answers to the same prompt. No critic.

Shao et al. 2024, arXiv:2402.03300. One objective; what later papers changed are members of its families: how advantages are
scaled (`objectives.advantages`), the surrogate and its ratio (`objectives.surrogates`: clip-higher, two-sided, CISPO, GSPO, SAPO,
GMPO, VESPO), how tokens are averaged (`objectives.aggregations`: DAPO, Dr. GRPO, LUSPO) and what a truncated answer is worth
(`objectives.endings`). Groups whose scores are all equal teach nothing: they are counted, not computed, and stay in the
denominators. Leaves out: resampling such groups (the source's work).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, PrivateAttr, model_validator
from torch import Tensor

from posttrain.core.batch import Batch
from posttrain.core.group import Group, Response, Score
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.core.protocols import Engine
from posttrain.core.recipe import one_of
from posttrain.objectives.advantages import ByGroup, Scale, flat
from posttrain.objectives.aggregations import Aggregation, ByAnswer
from posttrain.objectives.control import Constraint, Ledger
from posttrain.objectives.endings import Ending, Keep
from posttrain.objectives.kl import K3, Estimator
from posttrain.objectives.sampled import Correction, Figures, moved, sampled_figures, scored, with_old, with_reference
from posttrain.objectives.surrogates import Clip, Ratio, Sampled, Surrogate, TokenRatio


class GRPO(Method):
    """Learn from scored answers of the policy, each against the others of its prompt."""

    name: ClassVar[str] = "grpo"
    sums: ClassVar[dict[str, Unit]] = {"policy": "share", "kl": "share", "entropy": "token"}
    atom: ClassVar[Atom] = "row"
    wants: ClassVar[str] = "prompts; it samples n answers to each, and a reward scores them"
    learning_rate: ClassVar[tuple[float, float]] = (1e-6, 1e-5)
    symmetric: ClassVar[bool] = True
    online: ClassVar[bool] = True
    past: ClassVar[Mapping[str, str]] = {
        "epsilon": "surrogate: {name: clip, low: 0.2, high: 0.2}",
        "epsilon_high": "surrogate: {name: clip, low: 0.2, high: 0.28}",
        "delta": "surrogate: {name: two_sided, delta: 4}",
        "loss_type": "aggregation (grpo, dapo, dr_grpo, luspo) and surrogate (clip, cispo, sapo, vespo)",
        "num_generations": "n, in the job's rollout: {n: 8}",
        "num_iterations": "passes",
        "scale_rewards": "scale: group, batch or none",
        "mask_truncated_completions": "ending: mask",
        "importance_sampling_level": "ratio: token or sequence",
        "max_completion_length": "max_new_tokens, in the job's rollout: {max_new_tokens: 256}",
        "use_bias_correction_kl": "always so: the KL term is multiplied by the ratio",
    }

    beta: NonNegativeFloat = 0.0
    """Weight of the KL to the reference in the loss; 0 holds no reference."""
    estimator: one_of(Estimator) = K3()  # type: ignore[valid-type]
    """How that KL is estimated from the drawn tokens: k3, or mse."""
    scale: one_of(Scale) = ByGroup()  # type: ignore[valid-type]
    """What leads are divided by: the group's spread, the step's (batch), the leads' own (leads), or nothing (none)."""
    surrogate: one_of(Surrogate) = Clip()  # type: ignore[valid-type]
    """The loss of a token by its ratio and advantage: clip, two_sided, cispo, sapo, gmpo, vespo."""
    ratio: one_of(Ratio) = TokenRatio()  # type: ignore[valid-type]
    """Each token's own ratio, or one per answer (sequence: GSPO)."""
    aggregation: one_of(Aggregation) = ByAnswer()  # type: ignore[valid-type]
    """How tokens are averaged: grpo, dapo, dr_grpo, luspo, prompt."""
    ending: one_of(Ending) = Keep()  # type: ignore[valid-type]
    """What a truncated answer is worth: keep, mask, set, subtract, soft."""
    entropy: float = 0.0
    """Weight of an entropy bonus per token; above 0 the head runs twice in the backward."""
    correction: Correction | None = None
    """Weigh samples that other weights or a truncated distribution drew; none refuses them."""
    constraint: Constraint | None = None
    """Keep a cost within a limit, at a price that is learned."""
    temperature: PositiveFloat = 1.0
    """Sampling temperature; log-probs are taken at it everywhere."""
    passes: PositiveInt = 1
    """How often a step's samples are learned from."""
    minibatches: PositiveInt = 1
    """Updates per pass, over whole groups reshuffled each pass."""

    _ledger: Ledger | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _fits(self) -> GRPO:
        if not self.estimator.sampled:
            raise ValueError("estimator: full is for penalties in the reward (ppo); in the loss use k3 or mse")
        return self

    def model_post_init(self, _: Any, /) -> None:
        self._ledger = None if self.constraint is None else Ledger(self.constraint)

    def needs(self) -> Needs:
        reference = frozenset({"reference"}) if self.beta else frozenset[str]()
        return Needs(logp=True, entropy=self.entropy != 0, roles=reference, temperature=self.temperature)

    def updates(self) -> tuple[int, int]:
        return self.passes, self.minibatches

    def accepts(self, group: Group) -> str | None:
        return scored(group, 2)

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        batch, _ = with_old(batch, engine, self.temperature, self.correction)
        if self.beta:
            batch = with_reference(batch, engine, self.temperature)
        advantage = self._advantage(batch, engine)
        taught = self.ending.taught(batch) * torch.from_numpy(batch.main).to(advantage)
        share = self.aggregation.share(batch) * torch.from_numpy(batch.main).to(advantage)
        per_token = self.aggregation.weight(batch)  # of the whole step: a piece may hold a part of a group
        made = batch.plus("row", advantage=advantage * taught, taught=taught, per_token=per_token)
        return made.counting("row", share=share)

    def _advantage(self, batch: Batch, engine: Engine) -> Tensor:
        """[R] leads of the scores; under a constraint those of reward and cost, mixed at its price."""
        score = self.ending.score(batch.data["score"], batch)
        lead = self.scale(score, batch, engine)
        if self._ledger is None:
            return lead
        return self._ledger.mixed(lead, self.scale(self._ledger.constraint.costs(batch), batch, engine))

    def figures(self, batch: Batch, engine: Engine) -> Figures:
        still = flat(self.ending.score(batch.data["score"], batch), batch)
        advantage = batch.data["advantage"]
        out = sampled_figures(batch, engine) | {
            "flat_groups": (float(still.sum()), float(batch.G)),
            "advantage_abs": (float(advantage.abs().sum()), float(batch.R)),
        }
        return out if self._ledger is None else out | self._ledger.figures(batch)

    def idle(self, batch: Batch) -> Sequence[int]:
        if self.beta or self.entropy:
            return ()
        return torch.nonzero(batch.data["advantage"] == 0)[:, 0].tolist()

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.logp is not None
        old, row = batch.data["old"], batch.row
        log_ratio = self.ratio(out.logp - old, batch)
        of = Sampled(log_ratio, out.logp, batch.data["advantage"][row], batch)
        weight = (batch.data["per_token"] * batch.data["taught"])[row]
        policy = self.surrogate(of) * batch.data["omega"]
        kl = policy.new_zeros(())
        if self.beta:
            kl = (weight * of.ratio * self.estimator(out.logp, batch.data["ref"])).sum()
        bonus = policy.new_zeros(()) if out.entropy is None else (out.entropy * batch.data["taught"][row]).sum()
        return Loss(
            sums={"policy": (weight * policy).sum(), "kl": self.beta * kl, "entropy": -self.entropy * bonus},
            metrics=moved(log_ratio, self.surrogate.held(of), batch.data["taught"][row]),
        )

    def after(self, step: int, metrics: Mapping[str, float], engine: Engine) -> None:
        if self._ledger is not None and "cost" in metrics:
            self._ledger.note(metrics["cost"], metrics["answers"])

    def state(self) -> dict[str, Any]:
        return {} if self._ledger is None else self._ledger.state()

    def load(self, state: Mapping[str, Any]) -> None:
        if self._ledger is not None and state:
            self._ledger.load(state)

    @classmethod
    def example(cls) -> Example:
        zero = {"logp": [0.0] * 9}
        lead = {"advantage": [1.0, -1.0], "taught": [1.0] * 2, "per_token": [1 / 6, 1 / 3]}
        even = {"old": [0.0] * 9, "omega": [1.0] * 9} | lead
        risen = even | {"old": [-0.5] * 9}
        ref = {"ref": [-1.0] * 9}
        return Example(
            groups=answered(),
            anchors={
                "ratio 1: -A, the mean over answers": Anchor(zero, {"policy": 0.0}, even, "clip at rho = 1"),
                "clipped above": Anchor(zero, {"policy": -1.2 + np.exp(0.5)}, risen, "closed form"),
                "by token": Anchor(
                    zero, {"policy": -6.0 + 3.0}, even | {"per_token": [1.0, 1.0]}, "6 and 3 tokens of weight 1"
                ),
                "k3 at the old policy": Anchor(
                    zero, {"kl": 0.04 * 2 * np.exp(-1.0)}, even | ref, "k3 = 1/e", {"beta": 0.04}
                ),
            },
            variants=(
                {"beta": 0.04, "aggregation": "dapo", "scale": "batch"},
                {"aggregation": {"name": "dr_grpo", "budget": 16}, "scale": "none", "ending": "mask", "entropy": 0.01},
                {"ratio": "sequence", "aggregation": "luspo", "surrogate": {"name": "two_sided", "delta": 1.5}},
                {"surrogate": "gmpo", "aggregation": "prompt", "beta": 0.1, "estimator": "mse", "scale": "leads"},
                {"surrogate": "sapo", "passes": 2, "ending": {"name": "soft", "budget": 8, "buffer": 4}},
            ),
        )


def answered() -> list[Group]:
    """Two prompts with scored answers, one of them cut off by its budget: for the laws of methods that learn from samples."""
    rng = np.random.default_rng(4)

    def response(n: int, score: float | None, cost: float, stop: str = "stop") -> Response:
        return Response(
            tokens=rng.integers(3, 60, n),
            trained=np.ones(n, dtype=bool),
            score=Score(score, {"cost": cost}),
            stop=stop,
        )

    first = (response(6, 1.0, 0.5), response(3, 0.0, -0.5))
    second = (response(4, 0.3, 0.2), response(5, -0.4, 0.9, "length"), response(2, 2.0, 0.0), response(3, None, 0.1))
    return [
        Group((), first, prompt_tokens=rng.integers(3, 60, 5)),
        Group((), second, prompt_tokens=rng.integers(3, 60, 2)),
    ]
