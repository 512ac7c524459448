"""Every monitor fires on a trace made to trip it and on no healthy one; limits end a run; the stop rule finds a planted turn."""

from __future__ import annotations

import json

import numpy as np
import pytest

from posttrain.train.loop import Step
from posttrain.train.monitors import WATCHES, Limits, Monitors, StopRule

HEALTHY = {
    "grad_norm": 0.5, "kl": 0.02, "kl_sequence": 1.0, "clip_fraction": 0.05, "value_clip_fraction": 0.05, "explained_variance": 0.4,
    "sampler_gap": 0.0, "omega": 1.0, "entropy": 0.3, "stopped": 0.95, "length": 40.0, "flat_groups": 0.2, "unscored": 0.0,
    "approx_kl": 0.01, "reward": 0.5, "accuracy": 0.7, "margin": 0.4, "logp_chosen": -1.0,
}  # fmt: skip


def step(number: int, **figures: float) -> Step:
    return Step(number, {**HEALTHY, **figures}, {"token": 1.0}, 1, 0.1)


def play(monitors: Monitors, steps: int = 60, **traces: object) -> list[str | None]:
    return [monitors(step(n, **{k: float(f(n)) for k, f in traces.items()})) for n in range(1, steps + 1)]  # type: ignore[operator]


TRIPPED = {
    "grad_norm": {"grad_norm": lambda n: 50 if n == 30 else 0.5},
    "logp_chosen": {"logp_chosen": lambda n: -1 - n / 50},
    "leak": {"accuracy": lambda n: 1.0, "margin": lambda n: 9},
    "kl": {"kl": lambda n: 2.5},
    "kl_negative": {"kl": lambda n: -0.05},
    "kl_slope": {"kl_sequence": lambda n: 2 ** (n / 15)},
    "ratio": {"clip_fraction": lambda n: 0.4},
    "no_clip": {"clip_fraction": lambda n: 0.0},
    "value_clip": {"value_clip_fraction": lambda n: 0.8},
    "critic": {"explained_variance": lambda n: -0.2},
    "sampler_gap": {"sampler_gap": lambda n: 1.5},
    "omega": {"omega": lambda n: 0.01},
    "entropy_low": {"entropy": lambda n: 0.3 / n**2},
    "entropy_high": {"entropy": lambda n: 0.3 * n},
    "clipped_answers": {"stopped": lambda n: 0.1},
    "stop_rate": {"stopped": lambda n: 0.95 if n < 30 else 0.6},
    "length": {"length": lambda n: 40 + n, "stopped": lambda n: 0.4},
    "flat_groups": {"flat_groups": lambda n: 1.0},
    "unscored": {"unscored": lambda n: 0.9},
}


def test_a_healthy_run_is_quiet() -> None:
    said: list[str] = []
    assert play(Monitors(said.append), 120, length=lambda n: 40 + n % 7, kl_sequence=lambda n: n / 30) == [None] * 120
    assert said == []


def test_every_monitor_has_a_trace() -> None:
    assert set(TRIPPED) == {w.alert for w in WATCHES}


@pytest.mark.parametrize("alert", TRIPPED)
def test_alert_fires(alert: str) -> None:
    said: list[str] = []
    monitors = Monitors(said.append)
    assert set(play(monitors, 60, **TRIPPED[alert])) == {None}  # alerts warn
    assert alert in monitors.raised and monitors.sick is None
    (line,) = (s for s in said if s.startswith(f"alert: {alert}:"))  # once
    assert line.count(":") >= 3, "what is wrong and what to try"


def test_a_resumed_run_raises_the_same_alerts() -> None:
    trace = TRIPPED["kl_slope"]
    whole, first = Monitors(lambda _: None), Monitors(lambda _: None)
    play(whole, 60, **trace)
    play(first, 30, **trace)
    second = Monitors(lambda _: None)
    second.load(json.loads(json.dumps(first.state())))
    for n in range(31, 61):
        second(step(n, **{k: float(f(n)) for k, f in trace.items()}))
    assert second.state() == whole.state()


@pytest.mark.parametrize(
    ("limits", "trace", "at"),
    [
        ({"kl": 5}, {"kl_sequence": lambda n: n / 2}, 11),
        ({"ratio": 0.1}, {"approx_kl": lambda n: n / 100}, 11),
        ({"entropy": 0.1}, {"entropy": lambda n: 0.501 - n / 50}, 21),
    ],
)
def test_limits_end_a_run(limits: dict[str, float], trace: dict[str, object], at: int) -> None:
    reasons = play(Monitors(lambda _: None, Limits(**limits)), 30, **trace)
    assert next(n for n, r in enumerate(reasons, 1) if r is not None) == at
    assert "limit of" in str(reasons[at - 1])


# The stop rule: gold peaks at check 8 and falls, the proxy rises throughout


def turn(
    seed: int, peak: int = 8, checks: int = 24, prompts: int = 200, fall: float = 0.06
) -> tuple[int | None, int, list[float]]:
    """(check of the stop, best check, true gold by check) of a run with planted over-optimisation."""
    rng = np.random.default_rng(seed)
    prompt = rng.normal(0, 1, prompts)
    truth = [0.08 * min(t, peak) - fall * max(0, t - peak) for t in range(checks)]
    rule = StopRule(planned=checks)
    for t, mean in enumerate(truth):
        if (
            rule.note(t, (mean + prompt + rng.normal(0, 0.3, prompts)).tolist(), (0.1 * t + prompt).tolist())
            is not None
        ):
            return t, rule.best[0], truth
    return None, rule.best[0], truth


def test_it_stops_after_the_peak_and_goes_back_near_it() -> None:
    for seed in range(20):
        stopped, best, truth = turn(seed)
        assert stopped is not None and 9 <= stopped <= 13, (seed, stopped)
        assert truth[best] >= max(truth) - 0.1 * (max(truth) - truth[0])


def test_it_rarely_stops_a_run_that_is_well() -> None:
    assert sum(turn(seed, peak=30)[0] is not None for seed in range(100)) == 0
    flat = [turn(seed, peak=0, fall=0.0)[0] is not None for seed in range(100)]
    assert sum(flat) <= 5


def test_it_does_not_stop_where_the_proxy_falls_too() -> None:
    rule = StopRule()
    gold, noise = np.zeros(50), np.random.default_rng(0).normal(0, 0.01, (10, 50))
    assert all(rule.note(t, (gold - t + noise[t]).tolist(), [-float(t)] * 50) is None for t in range(10))
    with pytest.raises(ValueError, match="keep the same ones"):
        rule.note(11, [0.0], [0.0])
