"""Monitors: what is watched in every run, its healthy range, and what to try when it leaves it.

A `Watch` reads the history of one figure and says what is wrong, or nothing. `Monitors` is the hook that keeps the histories, raises each
alert once (log, progress output, manifest, report) and, for the limits that the recipe sets, ends the run. Ranges are those of axolotl's
guide to stable RL where it gives one, else starting values; docs/monitors.md has the table. `StopRule` is the one rule against
over-optimisation: gold falls while the proxy does not (Gao et al. 2023, arXiv:2210.10760). Going back belongs to the jobs.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import PositiveFloat
from scipy import stats as distributions

from posttrain.core.recipe import Spec
from posttrain.train.hooks import Quiet
from posttrain.train.loop import Step

WINDOW = 50
"""Steps of history that a watch can look back on, beside the first value."""


class Limits(Spec):
    """Bounds that end a run, whatever its length."""

    kl: PositiveFloat | None = None
    """Highest mean KL of an answer to the reference, in nats."""
    ratio: PositiveFloat | None = None
    """Highest mean of half the squared log-ratio inside a step."""
    entropy: PositiveFloat | None = None
    """Lowest mean entropy of a token, in nats."""
    action: Literal["stop", "rollback"] = "stop"
    """End with the weights as they are, or with those of the last checkpoint before the limit was passed."""


@dataclass(frozen=True, slots=True)
class Past:
    """What a watch sees of one figure: its name, first value, the last `WINDOW` ones (oldest first), and all figures of this step."""

    figure: str
    first: float
    recent: Sequence[float]
    step: int
    now: Mapping[str, float]

    @property
    def last(self) -> float:
        return self.recent[-1]

    def ago(self, steps: int) -> float | None:
        """The value so many steps ago, or None before that."""
        return self.recent[-1 - steps] if len(self.recent) > steps else None


@dataclass(frozen=True, slots=True)
class Watch:
    """One monitor. alert: its name. figure: what it reads. healthy: the range, for people. says: what is wrong and what to try."""

    alert: str
    figure: str
    healthy: str
    says: Callable[[Past], str | None]


def _above(bound: float, text: str) -> Callable[[Past], str | None]:
    return lambda past: f"{past.figure} {past.last:.3g} is above {bound:g}: {text}" if past.last > bound else None


def _below(bound: float, text: str) -> Callable[[Past], str | None]:
    return lambda past: f"{past.figure} {past.last:.3g} is below {bound:g}: {text}" if past.last < bound else None


def _kl_slope(past: Past) -> str | None:
    middle, before = past.ago(20), past.ago(40)
    if middle is None or before is None:
        return None
    now, then = past.last - middle, middle - before
    if now < 1.0 or now < 2 * max(then, 0.0):
        return None
    return (
        f"KL grew by {now:.3g} nats in 20 steps, by {then:.3g} in the 20 before: raise beta, lower lr, or set a target"
    )


def _entropy_high(past: Past) -> str | None:
    if past.last <= 3 * max(past.first, 1e-3) or past.last < 0.5:
        return None
    return f"entropy is {past.last:.3g}, {past.last / max(past.first, 1e-3):.1f} times that of the start: lower lr or the entropy bonus"


def _stopped_drop(past: Past) -> str | None:
    before = past.ago(20)
    if before is None or before - past.last < 0.2:
        return None
    return f"answers that stop fell from {before:.0%} to {past.last:.0%} in 20 steps: look at lengths, punish missing stops"


def _flat(past: Past) -> str | None:
    recent = list(past.recent)[-5:]
    if len(recent) < 5 or min(recent) < 1.0:
        return None
    return "all answers of every prompt score the same for 5 steps, nothing is learned: easier or harder prompts, temperature, n"


def _growth(past: Past) -> str | None:
    recent = list(past.recent)
    if len(recent) < WINDOW or past.now.get("stopped", 1.0) > 0.5:
        return None
    rising = sum(b > a for a, b in zip(recent, recent[10:], strict=False))
    if rising < 0.95 * (len(recent) - 10):
        return None
    return (
        f"length grows without end ({recent[0]:.0f} to {past.last:.0f}): add a length term, or mask unfinished answers"
    )


def _never_clips(past: Past) -> str | None:
    if len(past.recent) < WINDOW or max(past.recent) > 0 or past.now.get("approx_kl", 0.0) == 0.0:
        return None
    return f"nothing was clipped in {WINDOW} steps of several passes: lr is very low, or old log-probs are renewed too often"


def _explained(past: Past) -> str | None:
    if past.step < 50 or past.last >= 0:
        return None
    return f"the critic explains less than nothing ({past.last:.2f}) after 50 steps: raise its lr, start it from the reward model"


def _lost(past: Past) -> str | None:
    if past.last >= past.first - 0.5:
        return None
    return f"preferred answers lost {past.first - past.last:.2f} nats per token: raise beta or lower lr"


def _leak(past: Past) -> str | None:
    if past.step > 20 or past.last < 1.0 or past.now.get("margin", 0.0) <= 5:
        return None
    return "pairs are told apart perfectly at once: the answer may leak into the prompt"


def _gradient(past: Past) -> str | None:
    bound = 10.0 if "reward" in past.now else 100.0
    return f"gradient norm {past.last:.0f}: lower lr or look at the batch" if past.last > bound else None


WATCHES: tuple[Watch, ...] = (
    Watch("grad_norm", "grad_norm", "0.001 to 1 (rewards), 0.1 to 10 (SFT)", _gradient),
    Watch("logp_chosen", "logp_chosen", "falls less than 0.5", _lost),
    Watch("leak", "accuracy", "0.55 to 0.9", _leak),
    Watch("kl", "kl", "0 to 0.1 a token", _above(2.0, "the policy has left the reference; raise beta or lower lr")),
    Watch("kl_negative", "kl", "0 to 0.1 a token", _below(-0.01, "sampling and scoring differ; compare temperatures")),
    Watch("kl_slope", "kl_sequence", "grows steadily", _kl_slope),
    Watch("ratio", "clip_fraction", "0.01 to 0.1", _above(0.3, "steps are too large; lower lr, fewer passes")),
    Watch("no_clip", "clip_fraction", "0.01 to 0.1", _never_clips),
    Watch("value_clip", "value_clip_fraction", "below 0.3", _above(0.5, "the critic jumps; lower its lr or widen value_clip")),
    Watch("critic", "explained_variance", "rises above 0.3", _explained),
    Watch("sampler_gap", "sampler_gap", "below 0.1", _above(1.0, "the sampler's weights are not the trainer's; set correction")),
    Watch("omega", "omega", "near 1", _below(0.1, "samples are too old for these weights; publish more often")),
    Watch("entropy_low", "entropy", "0.05 to 0.5 (reasoning)", _below(0.01, "the policy has collapsed; raise beta or entropy")),
    Watch("entropy_high", "entropy", "below 3 times the start", _entropy_high),
    Watch("clipped_answers", "stopped", "above 0.7", _below(0.2, "most answers hit the budget; raise max_new_tokens")),
    Watch("stop_rate", "stopped", "above 0.7", _stopped_drop),
    Watch("length", "length", "moves slowly", _growth),
    Watch("flat_groups", "flat_groups", "below 0.8", _flat),
    Watch("unscored", "unscored", "0", _above(0.5, "the reward cannot score most answers; read rollouts.jsonl")),
)  # fmt: skip


class Monitors(Quiet):
    """The hook over all watches. `raised` holds each alert once, with its step; `sick` is the step at which a limit was passed."""

    def __init__(
        self, say: Callable[[str], None], limits: Limits | None = None, watches: Sequence[Watch] = WATCHES
    ) -> None:
        self.say, self.limits, self.watches = say, limits or Limits(), watches
        self.raised: dict[str, str] = {}
        self.sick: int | None = None
        self.first: dict[str, float] = {}
        self.recent: dict[str, deque[float]] = {}

    def __call__(self, step: Step) -> str | None:
        for name in {w.figure for w in self.watches}:
            value = step.metrics.get(name)
            if value is not None and math.isfinite(value):
                self.first.setdefault(name, value)
                self.recent.setdefault(name, deque(maxlen=WINDOW)).append(value)
        for watch in self.watches:
            if watch.figure in step.metrics and watch.figure in self.recent and watch.alert not in self.raised:
                recent = tuple(self.recent[watch.figure])
                text = watch.says(Past(watch.figure, self.first[watch.figure], recent, step.number, step.metrics))
                if text is not None:
                    self.note(watch.alert, step.number, text)
        return self._limit(step)

    def _limit(self, step: Step) -> str | None:
        """The reason to end the run, where a limit of the recipe is passed."""
        at, figures = self.limits, step.metrics
        for name, figure, bound, over in (
            ("limit_kl", "kl_sequence", at.kl, True),
            ("limit_ratio", "approx_kl", at.ratio, True),
            ("limit_entropy", "entropy", at.entropy, False),
        ):
            value = figures.get(figure)
            if bound is not None and value is not None and (value > bound if over else value < bound):
                text = f"{figure} {value:.3g} {'exceeds' if over else 'is below'} the limit of {bound:g}"
                self.note(name, step.number, text)
                self.sick = step.number
                return text
        return None

    def note(self, alert: str, step: int, text: str) -> None:
        """Raise an alert, once in a run."""
        if alert not in self.raised:
            self.raised[alert] = f"step {step}: {text}"
            self.say(f"alert: {alert}: {self.raised[alert]}")

    def state(self) -> dict[str, Any]:
        recent = {name: list(values) for name, values in self.recent.items()}
        return {"raised": self.raised, "sick": self.sick, "first": self.first, "recent": recent}

    def load(self, state: Mapping[str, Any]) -> None:
        self.raised, self.sick, self.first = dict(state["raised"]), state["sick"], dict(state["first"])
        self.recent = {name: deque(values, maxlen=WINDOW) for name, values in state["recent"].items()}


class StopRule:
    """Gold against proxy on the same prompts, check by check; `note` returns the reason to stop, or None.

    b is the check with the best mean gold. The run should stop when the upper bound of the paired mean of gold_t - gold_b is below 0 at
    two checks in a row while the mean proxy is not below b's. The level is .05/K for K planned checks, else 6 x .05 / (pi^2 t^2), so that
    looking often costs nothing. Bounds are those of Student's t over prompts.
    """

    def __init__(self, planned: int | None = None) -> None:
        self.planned = planned
        self.checks: list[tuple[int, np.ndarray, float]] = []
        self.bad = 0

    def note(self, step: int, gold: Sequence[float], proxy: Sequence[float]) -> str | None:
        """One check: gold and proxy [prompts] of this step. Raises ValueError when the prompts are not those of the first check."""
        values = np.asarray(gold, dtype=float)
        if self.checks and len(values) != len(self.checks[0][1]):
            raise ValueError(f"the probe had {len(self.checks[0][1])} prompts, now {len(values)}; keep the same ones")
        self.checks.append((step, values, float(np.mean(proxy))))
        at, best, proxy_then = self.best
        if at == step:
            self.bad = 0
            return None
        bound = upper(values - best, self.level(len(self.checks)))
        self.bad = self.bad + 1 if bound < 0 and self.checks[-1][2] >= proxy_then else 0
        if self.bad < 2:
            return None
        return (
            f"over-optimised: gold fell by {float(np.mean(best - values)):.3g} since step {at} (bound {-bound:.3g}) while the reward rose "
            f"from {proxy_then:.3g} to {self.checks[-1][2]:.3g}; go back to step {at}, raise beta, or mend the reward"
        )

    @property
    def best(self) -> tuple[int, np.ndarray, float]:
        """(step, gold, mean proxy) of the check with the best mean gold."""
        return max(self.checks, key=lambda check: float(np.mean(check[1])))

    def level(self, check: int) -> float:
        """Error level of the t-th check."""
        return 0.05 / self.planned if self.planned is not None else 6 * 0.05 / (math.pi**2 * check**2)

    def state(self) -> dict[str, Any]:
        return {"bad": self.bad, "checks": [[s, g.tolist(), p] for s, g, p in self.checks]}

    def load(self, state: Mapping[str, Any]) -> None:
        self.bad = int(state["bad"])
        self.checks = [(int(s), np.asarray(g, dtype=float), float(p)) for s, g, p in state["checks"]]


def upper(differences: np.ndarray, level: float) -> float:
    """Upper bound of the mean of paired differences, one-sided at `level`; infinite below two prompts."""
    n = len(differences)
    if n < 2:
        return math.inf
    error = float(np.std(differences, ddof=1)) / math.sqrt(n)
    return float(np.mean(differences)) + float(distributions.t.isf(level, n - 1)) * error
