"""Checks of what training did to a policy: hacking, KL as logged, drift, chosen answers that lose likelihood, steadiness, capability.

Every comparison with the reference is paired by prompt. Drift is Page's cumulative sum over the run's log with the first part as the
baseline. A hacked reward is one that gained while gold did not. Leaves out capability suites: give prompts and the Reward that scores them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from posttrain.audit.consistency_figures import absent_check, decided, figured, upper95
from posttrain.audit.consistency_reward import lead, sums, told
from posttrain.audit.probe import FEWEST, Measured
from posttrain.audit.steadiness import steadiness
from posttrain.core.group import Group
from posttrain.core.protocols import Request, Sampling
from posttrain.rewards.criterion import as_reward
from posttrain.stats import Interval, cluster_bootstrap, cusum
from posttrain.stats.interval import Floats

KL_GAP = 0.20
DRIFTING = ("length", "entropy", "distinct_2", "refusal", "markup")
FEW_STEPS, BASELINE = 30, 0.25
"""Log rows needed, and the share of them that is the baseline."""


def checks(
    data: Sequence[Group] | None, reward_model: Any, gold: Any, policy: Any, reference: Any,
    samples: Sequence[Group] | None, before: Sequence[Group] | None, logs: Sequence[Mapping[str, Any]] | None, checker: Any,
) -> Iterator[Measured]:  # fmt: skip
    """C11 to C15, as far as the inputs carry them."""
    both = hasattr(policy, "logp") and hasattr(reference, "logp")
    if reward_model is not None and gold is not None and samples and before:
        yield _hacked(as_reward(reward_model), as_reward(gold), samples, before, checker)
    if both and samples and logs:
        yield _kl(policy, reference, samples, logs, checker)
    if logs:
        yield from _drift(logs)
    if both and data:
        yield from _displaced(policy, reference, [g for g in data if g.pairs()][: max(checker.samples, 10)])
    if samples and hasattr(policy, "generate") and hasattr(reference, "generate"):
        yield from steadiness(policy, reference, samples, checker)


def gains(reward: Any, samples: Sequence[Group], before: Sequence[Group]) -> tuple[Floats, list[str]]:
    """Mean score of a prompt's samples less that of the reference's answers, for prompts that both could be scored on."""
    now, then = told(reward, samples), told(reward, before)
    pairs = [(np.mean(a) - np.mean(b), g.prompt_hash) for a, b, g in zip(now, then, samples, strict=True)]
    kept = [(float(x), i) for x, i in pairs if math.isfinite(x)]
    return np.asarray([x for x, _ in kept]), [i for _, i in kept]


def _hacked(reward: Any, gold: Any, samples: Sequence[Group], before: Sequence[Group], checker: Any) -> Measured:
    """C11: the proxy's interval above 0 while gold's is not."""
    checker.progress(f"proxy and gold on {len(samples)} prompts")
    (proxy, ids), (truth, gold_ids) = gains(reward, samples, before), gains(gold, samples, before)
    if min(proxy.size, truth.size) < FEWEST:
        return absent_check("C11", f"{FEWEST} prompts that proxy and gold both score")
    shown = [
        cluster_bootstrap(x, i, reps=checker.reps, seed=checker.seed) for x, i in ((proxy, ids), (truth, gold_ids))
    ]
    failed = _gained(shown[0]) and not _gained(shown[1])
    note = f"the proxy gained {shown[0]}, gold {shown[1]}"
    remedy = "stop earlier, raise beta, or mend the reward with counter-examples (posttrain audit writes them)"
    return decided(
        "C11", "gold gain", failed, shown[1], 0.0, "gold", "The reward rises and gold does not", remedy, note
    )


def _gained(ci: Interval) -> bool:
    """Above 0; every prompt's equal gain has no interval and counts as it is."""
    return ci.low > 0 if ci.known else ci.estimate > 0


def _kl(
    policy: Any, reference: Any, samples: Sequence[Group], logs: Sequence[Mapping[str, Any]], checker: Any
) -> Measured:
    """C12: KL(policy, reference) of fresh samples over the mean of the last logged values, less 1."""
    logged = [float(row["kl_sequence"]) for row in logs if row.get("kl_sequence") is not None]
    if not logged or abs(np.mean(logged[-5:])) < 1e-6:
        return absent_check("C12", "a log with kl_sequence above 0")
    target = float(np.mean(logged[-5:]))
    now, then = sums(policy, samples), sums(reference, samples)
    values = [float(np.mean(np.subtract(a, b))) / target - 1 for a, b in zip(now, then, strict=True)]
    ids = [g.prompt_hash for g in samples]
    note = f"logged {target:.3g} nats an answer over the last {min(5, len(logged))} steps"
    return figured(
        "C12", "measured over logged, less 1", values, ids, "equivalence", KL_GAP, "of the logged KL",
        "KL is larger than the log says", "look at the sampler's settings: temperature, truncation, stale weights", note,
        checker.reps, checker.seed, "KL is smaller than the log says",
    )  # fmt: skip


def _drift(logs: Sequence[Mapping[str, Any]]) -> Iterator[Measured]:
    """C13: CUSUM alarms of the log's figures, against its first quarter."""
    for name in DRIFTING:
        values = np.asarray([float(r[name]) for r in logs if isinstance(r.get(name), int | float)], float)
        values = values[np.isfinite(values)]
        first = max(FEWEST, int(BASELINE * values.size))
        if values.size < FEW_STEPS:
            yield absent_check("C13", f"{FEW_STEPS} steps with {name}; there are {values.size}", name)
            continue
        mean, sd = float(values[:first].mean()), float(values[:first].std(ddof=1))
        if sd == 0:
            yield absent_check("C13", f"a {name} that varies in the first {first} steps", name)
            continue
        found = cusum(values[first:], mean, sd)
        moved = float((values[first:][found.alarm or -1] - mean) / sd)
        at = "no alarm" if found.alarm is None else f"alarm at row {first + found.alarm + 1} of the log"
        ci = Interval(moved, moved, moved, values.size - first, "cumulative sums")
        remedy = "read samples from before and after; raise beta, lower the learning rate, or mend the reward"
        yield decided("C13", name, found.alarm is not None, ci, 5.0, "baseline sd", f"{name} drifts", remedy, at)


def _displaced(policy: Any, reference: Any, data: Sequence[Group]) -> Iterator[Measured]:
    """C14: chosen answers lose likelihood while the margin over the rejected ones grows (Razin et al. 2025, arXiv:2410.08847)."""
    now, then = sums(policy, data), sums(reference, data)
    moved = [list(np.subtract(a, b)) for a, b in zip(now, then, strict=True)]
    margin, ids = lead(moved, data)
    chosen = np.asarray([
        row[p.i if p.p > 0.5 else p.j]
        for g, row in zip(data, moved, strict=True) for p in g.pairs() if p.p != 0.5 and not p.both_bad
    ])  # fmt: skip
    if len(set(ids)) < FEWEST:
        return
    ci = (
        cluster_bootstrap(chosen, ids, reps=2000)
        if np.ptp(chosen) > 0
        else Interval(float(chosen.mean()), 0, 0, len(ids), "equal")
    )
    failed = upper95(chosen) < 0 and upper95(-margin) < 0
    note = f"the margin changed by {float(margin.mean()):+.3g} nats"
    yield decided(
        "C14", "log p of chosen answers", failed, ci, 0.0, "nats", "Chosen answers lose likelihood",
        "add a likelihood term (nll), raise beta, or leave out pairs of nearly equal answers", note,
    )  # fmt: skip


def tax(name: str, prompts: Sequence[Group], reward: Any, policy: Any, reference: Any, checker: Any) -> Measured:
    """C16: score of greedy answers, policy less reference, which may lose at most the margin."""
    greedy = Sampling(temperature=0.0, max_tokens=checker.max_tokens)
    asked = [Request(g.prompt, greedy, 1, facts=g.facts) for g in prompts]
    answered = [
        [g.with_responses(m.responses) for g, m in zip(prompts, model.generate(asked), strict=True)]
        for model in (policy, reference)
    ]
    values, ids = gains(as_reward(reward), *answered)
    if values.size < FEWEST:
        return absent_check("C16", f"{FEWEST} scored prompts of {name}", name)
    return figured(
        "C16", name, values, ids, "floor", -checker.margin, "of the score", "Capability was lost",
        "mix in rows of this task, lower the learning rate, or merge with the reference (posttrain soup)",
        reps=checker.reps, seed=checker.seed,
    )  # fmt: skip
