"""Proximal policy optimisation for answers of a language model, with a critic.

Every token is an action: its reward is -beta times an estimate of the KL to the reference, and the answer's score stands at its
last trained token (the stop token, not one later). A value head reads the state before each token; generalised advantage estimation
turns rewards and values into advantages, which are whitened over all trained tokens of the step; ratio and value are clipped.
Schulman et al. 2017, arXiv:1707.06347; Ziegler et al. 2019, arXiv:1909.08593 (KL penalty, adaptive coefficient); details as listed by
Huang et al. 2024, arXiv:2403.17031. Leaves out: a pretraining loss beside the policy's, separate discounts for value and policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, PrivateAttr
from torch import Tensor

from posttrain.core.batch import Batch
from posttrain.core.group import Group
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Critic, Loss, Needs, Output
from posttrain.core.protocols import Engine
from posttrain.core.recipe import one_of
from posttrain.methods.grpo import answered
from posttrain.objectives.advantages import at_last, gae, moments, usable, whitened
from posttrain.objectives.control import Adaptive, Constraint, Fixed, KLControl, Ledger
from posttrain.objectives.endings import Ending, Keep
from posttrain.objectives.kl import K1, Estimator, penalties
from posttrain.objectives.running import Moments
from posttrain.objectives.sampled import Correction, Figures, moved, sampled_figures, scored, with_old, with_reference
from posttrain.objectives.surrogates import Clip, Sampled, Surrogate

Unit01 = Annotated[float, Field(ge=0, le=1)]


class PPO(Method):
    """Learn from scored answers of the policy, token by token, with a learned critic."""

    name: ClassVar[str] = "ppo"
    sums: ClassVar[dict[str, Unit]] = {"policy": "token", "value": "token", "entropy": "token"}
    atom: ClassVar[Atom] = "row"
    wants: ClassVar[str] = "prompts; it samples an answer or more to each, and a reward scores them"
    learning_rate: ClassVar[tuple[float, float]] = (3e-6, 3e-5)
    symmetric: ClassVar[bool] = True
    online: ClassVar[bool] = True
    head_learning_rate: ClassVar[float | None] = 1e-3
    past: ClassVar[Mapping[str, str]] = {
        "init_kl_coef": "beta, the KL coefficient of the first step",
        "kl_coef": "beta",
        "adap_kl_ctrl": "control: adaptive, or control: fixed",
        "target": "control: {name: adaptive, target: 6}, in nats per answer",
        "horizon": "control: {name: adaptive, target: 6, horizon: 10000}",
        "kl_penalty": "penalty: kl, abs, mse, k3 or full",
        "kl_estimator": "penalty: kl or k3",
        "cliprange": "surrogate: {name: clip, low: 0.2, high: 0.2}",
        "cliprange_value": "value_clip",
        "vf_coef": "value_weight",
        "ppo_epochs": "passes",
        "num_ppo_epochs": "passes",
        "mini_batch_size": "minibatches, the number of updates per pass (their size is the job's batch divided by it)",
        "num_mini_batches": "minibatches",
        "batch_size": "batch, in the job: prompts per step",
        "whiten_rewards": "the same name",
        "missing_eos_penalty": "ending: {name: subtract, penalty: 1}",
        "score_clip": "reward_clip",
        "use_score_scaling": "running: [scale]",
        "use_score_norm": "running: [shift, scale]",
        "target_kl": "stop_at",
        "early_stopping": "stop_at",
        "reward_model": "reward, in the job",
        "ref_model": "nothing: the reference is the model that the run starts from",
        "value_model": "critic: separate",
        "response_length": "max_new_tokens, in the job's rollout: {max_new_tokens: 256}",
    }

    beta: NonNegativeFloat = 0.05
    """KL coefficient inside the reward; with adaptive control, that of the first step."""
    control: one_of(KLControl) = Fixed()  # type: ignore[valid-type]
    """Keep beta (fixed), or move it until the KL per answer is at a target (adaptive)."""
    penalty: one_of(Estimator) = K1()  # type: ignore[valid-type]
    """How the KL is estimated per token: kl, abs, mse, k3, full."""
    gamma: Unit01 = 1.0
    """Discount of later rewards per token."""
    lam: Unit01 = 0.95
    """Lambda of GAE: 1 trusts the rewards, 0 the critic."""
    surrogate: one_of(Surrogate) = Clip()  # type: ignore[valid-type]
    """The loss of a token by its ratio and advantage: clip, dual_clip and others."""
    value_clip: PositiveFloat | None = 0.2
    """How far a value may move from its old one in a step; none does not bound it."""
    value_weight: PositiveFloat = 0.1
    """Weight of the critic's loss."""
    entropy: float = 0.0
    """Weight of an entropy bonus per token; above 0 the head runs twice in the backward."""
    whiten: bool = True
    """Advantages of the step to mean 0 and variance 1."""
    whiten_rewards: bool = False
    """Token rewards of the step to variance 1, their mean kept."""
    reward_clip: PositiveFloat | None = None
    """Scores are clipped to plus and minus this, after normalising; 10 is usual."""
    running: tuple[Literal["shift", "scale"], ...] = ("shift", "scale")
    """Subtract the running mean of the scores (shift), divide by their running standard deviation (scale). Without the shift, scores below
    0 under a critic that still says 0 reward length: early tokens are farther from the bad end."""
    ending: one_of(Ending) = Keep()  # type: ignore[valid-type]
    """What a truncated answer is worth: keep, set (-1), subtract, soft, mask."""
    critic: Critic = "head"
    """Who estimates values: a linear head on the policy's trunk, an adapter of its own on that trunk (with lora), or a separate copy."""
    correction: Correction | None = None
    """Weigh samples that other weights or a truncated distribution drew; none refuses them."""
    constraint: Constraint | None = None
    """Keep a cost within a limit, at a price that is learned."""
    temperature: PositiveFloat = 1.0
    """Sampling temperature; log-probs are taken at it everywhere."""
    passes: PositiveInt = 4
    """How often a step's samples are learned from."""
    minibatches: PositiveInt = 1
    """Updates per pass, over whole groups reshuffled each pass."""
    stop_at: PositiveFloat | None = None
    """End a step's passes when the mean of (log ratio)^2 / 2 exceeds this; none never does."""

    _beta: float = PrivateAttr(0.0)
    _kl: list[float] = PrivateAttr(default_factory=list)
    _moments: Moments = PrivateAttr(default_factory=Moments)
    _ledger: Ledger | None = PrivateAttr(None)

    def model_post_init(self, _: Any, /) -> None:
        if isinstance(self.control, Adaptive) and self.control.most is not None and self.beta > self.control.most:
            raise ValueError(f"beta starts at {self.beta}, above control.most = {self.control.most}")
        self._beta = self.beta
        self._ledger = None if self.constraint is None else Ledger(self.constraint)

    def needs(self) -> Needs:
        return Needs(
            logp=True,
            value=1,
            critic=self.critic,
            entropy=self.entropy != 0,
            roles=frozenset({"reference"}),
            temperature=self.temperature,
        )

    def updates(self) -> tuple[int, int]:
        return self.passes, self.minibatches

    def enough(self, metrics: Mapping[str, float]) -> bool:
        return self.stop_at is not None and metrics.get("approx_kl", 0.0) > self.stop_at

    def accepts(self, group: Group) -> str | None:
        return scored(group, 1)

    # What needs no gradient

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        batch, out = with_old(batch, engine, self.temperature, self.correction, value=1, critic=self.critic)
        batch = with_reference(batch, engine, self.temperature)
        assert out.value is not None
        score = self.scores(batch, engine)
        taught = self.ending.taught(batch) * usable(score) * torch.from_numpy(batch.main).to(score)
        weight = taught[batch.row]
        kl = penalties(self.penalty, batch, engine, self.temperature)
        reward = at_last(score.nan_to_num(0.0), batch) - self._beta * kl
        if self.whiten_rewards:
            reward = whitened(reward, weight, engine, shift=False)
        value = out.value[:, 0]
        advantage = gae(reward, value, batch, self.gamma, self.lam)
        target = advantage + value
        if self.whiten:
            advantage = whitened(advantage, weight, engine)
        made = batch.plus("token", advantage=advantage * weight, target=target, value=value, taught=weight)
        return made.plus("row", used_score=score)

    def scores(self, batch: Batch, engine: Engine) -> Tensor:
        """[R] scores as they enter the rewards: the ending's rule, the constraint's price, running moments, clipping."""
        score = self._priced(batch)
        if self.running:
            known = self._moments if self._moments.seen else self._of_step(score, engine)
            score = known.applied(score, "shift" in self.running, "scale" in self.running)
        return score if self.reward_clip is None else score.clamp(-self.reward_clip, self.reward_clip)

    def _priced(self, batch: Batch) -> Tensor:
        """[R] scores before they are normalised, which is what the running moments are of."""
        score = self.ending.score(batch.data["score"], batch)
        return score if self._ledger is None else self._ledger.mixed(score, self._ledger.constraint.costs(batch))

    @staticmethod
    def _of_step(score: Tensor, engine: Engine) -> Moments:
        """The moments of the first step, which has none before it."""
        return Moments(*_counted(moments(score.nan_to_num(0.0), usable(score), engine)))

    def figures(self, batch: Batch, engine: Engine) -> Figures:
        weight, target, value = batch.data["taught"], batch.data["target"], batch.data["value"]
        _, missed, _ = moments(target - value, weight, engine)
        _, spread, _ = moments(target, weight, engine)
        tokens = float(weight.sum())
        raw = self._priced(batch)
        _, variance, _ = moments(raw.nan_to_num(0.0), usable(raw), engine)
        known = usable(raw)
        out = sampled_figures(batch, engine) | {
            "beta": (self._beta, 1.0),
            "value_mean": (float((value * weight).sum()), tokens),
            "return_mean": (float((target * weight).sum()), tokens),
            "explained_variance": (1 - missed / spread if spread > 0 else 0.0, 1.0),
            "score_mean": (float((raw.nan_to_num(0.0) * known).sum()), float(known.sum())),
            "score_variance": (variance, 1.0),
        }
        return out if self._ledger is None else out | self._ledger.figures(batch)

    # What needs it

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.logp is not None and out.value is not None
        taught = batch.data["taught"]
        log_ratio = out.logp - batch.data["old"]
        of = Sampled(log_ratio, out.logp, batch.data["advantage"], batch)
        policy = (taught * batch.data["omega"] * self.surrogate(of)).sum()
        missed, held = self._value_loss(out.value[:, 0], batch)
        bonus = policy.new_zeros(()) if out.entropy is None else (taught * out.entropy).sum()
        count = taught.sum()
        metrics = moved(log_ratio, self.surrogate.held(of), taught) | {
            "value_loss": ((taught * missed).detach().sum(), count),
            "value_clip_fraction": ((taught * held).sum(), count),
        }
        sums = {
            "policy": policy,
            "value": self.value_weight * (taught * missed).sum(),
            "entropy": -self.entropy * bonus,
        }
        return Loss(sums, metrics)

    def _value_loss(self, value: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """[N] half squared errors, the larger of plain and clipped; and where the clipped one held the value back."""
        target, old = batch.data["target"], batch.data["value"]
        plain = (value - target) ** 2
        if self.value_clip is None:
            return 0.5 * plain, torch.zeros_like(plain)
        near = torch.maximum(torch.minimum(value, old + self.value_clip), old - self.value_clip)
        clipped = (near - target) ** 2
        return 0.5 * torch.maximum(plain, clipped), (clipped > plain).to(plain.dtype)

    # What changes between steps

    def after(self, step: int, metrics: Mapping[str, float], engine: Engine) -> None:
        if "kl_sequence" in metrics:
            self._kl = [*self._kl, metrics["kl_sequence"]][-self.control.memory :]
            self._beta = self.control.next(self._beta, self._kl, metrics["answers"])
        if "score_mean" in metrics:
            self._moments = self._moments.joined(metrics["answers"], metrics["score_mean"], metrics["score_variance"])
        if self._ledger is not None and "cost" in metrics:
            self._ledger.note(metrics["cost"], metrics["answers"])

    def state(self) -> dict[str, Any]:
        ledger = {} if self._ledger is None else self._ledger.state()
        return {"beta": self._beta, "kl": self._kl, "moments": list(self._moments), "ledger": ledger}

    def load(self, state: Mapping[str, Any]) -> None:
        self._beta, self._moments = float(state["beta"]), Moments(*map(float, state["moments"]))
        self._kl = [float(kl) for kl in state["kl"]]
        if self._ledger is not None and state["ledger"]:
            self._ledger.load(state["ledger"])

    @classmethod
    def example(cls) -> Example:
        ones, nothing = [1.0] * 9, [[0.0]] * 9
        even = {"old": [0.0] * 9, "omega": ones, "taught": ones, "target": [0.0] * 9, "value": [0.0] * 9}
        lead = {"advantage": [1.0] * 6 + [-1.0] * 3}
        at = {"logp": [0.0] * 9, "value": nothing}
        risen = even | lead | {"old": [-0.5] * 9}
        return Example(
            groups=answered(),
            anchors={
                "ratio 1, values right": Anchor(at, {"policy": -3.0, "value": 0.0}, even | lead, "-A; V = target"),
                "clipped above": Anchor(at, {"policy": -6 * 1.2 + 3 * float(np.exp(0.5))}, risen, "closed form"),
                "value clipped": Anchor(
                    {"logp": [0.0] * 9, "value": [[1.0]] * 9},
                    {"value": 0.1 * 9 * 0.5 * 0.8**2},
                    even | lead | {"target": ones},
                    "near = 0.2, target 1",
                ),
                "dual clip": Anchor(
                    at,
                    {"policy": -6 * 1.2 + 3 * 3.0},
                    risen | {"old": [-2.0] * 9},
                    "rho = e^2 costs 3",
                    {"surrogate": "dual_clip"},
                ),
            },
            variants=(
                {"penalty": "abs", "beta": 0.2, "control": {"name": "adaptive", "target": 6.0}, "value_clip": None},
                {
                    "whiten_rewards": True,
                    "running": ("shift", "scale"),
                    "reward_clip": 1.5,
                    "ending": "set",
                    "passes": 2,
                },
                {"constraint": {"limit": 0.1}, "whiten": False, "entropy": 0.01, "lam": 1.0, "surrogate": "dual_clip"},
            ),
        )


def _counted(found: tuple[float, float, float]) -> Sequence[float]:
    mean, variance, count = found
    return count, mean, variance * count
