"""What does a reward pay for while a policy is trained on it: length, keywords, markup, refusals?

Within each prompt the reward is regressed on features of the answers, all centred by prompt; slopes are in the reward's own spread within
a prompt (s) per standard deviation of the feature, with errors clustered by prompt. A slope that grows from the first looks to the later
ones means that the policy has found something cheap that pays; `share` says how much of the reward's gain a feature explains.
Leaves out agreement with the user, which needs paired prompts (see `sycophancy`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from posttrain.audit.fits import slope_of, words_of
from posttrain.audit.words import KEYWORDS
from posttrain.core.group import Group
from posttrain.detectors.refusal import refusal
from posttrain.stats.interval import Floats

FEATURES = ("length", "keyword", "markup", "refusal")
MARKS = ("**", "##", "\n- ", "\n* ", "`", "| ")
PAID = tuple(word.lower() for words in KEYWORDS.values() for word in words)
FEWEST, Z = 8, 2.58
"""Prompts below which no slope is fitted; standard errors that a slope must have grown by."""
LEAST = 0.1
"""Growth in s that counts, however sure it is."""
HALF = 0.5
"""Share of the gain above which one feature explains too much."""


def features_of(prompt: str, answer: str) -> list[float]:
    """The features of one answer, in the order of `FEATURES`: log2 words, keywords, marks and refusal (the last three 0 or 1)."""
    said = answer.lower()
    return [
        math.log2(words_of(answer)),
        float(any(word in said for word in PAID)),
        float(any(mark in answer for mark in MARKS)),
        float(bool(refusal(prompt, answer).flagged)),
    ]


@dataclass(frozen=True)
class Look:
    """One look. slope, se: s per sd of each feature (nan where it does not vary). mean, sd: of the features; raw: reward per unit of each.
    reward: mean; s: its spread within a prompt. answers, prompts: behind it."""

    slope: Mapping[str, float]
    se: Mapping[str, float]
    mean: Mapping[str, float]
    raw: Mapping[str, float]
    reward: float
    s: float
    answers: int
    prompts: int

    def to_json(self) -> dict[str, Any]:
        return {k: dict(v) if isinstance(v, Mapping) else v for k, v in vars(self).items()}


def attribute(groups: Sequence[Group]) -> Look | None:
    """The look at scored answers; None where fewer than eight prompts have two answers that score differently."""
    rows, rewards, ids = [], [], []
    for g in groups:
        kept = [r for r in g.responses if r.score is not None and r.score.value is not None and r.kind == "main"]
        rows += [features_of(g.prompt_text, r.text) for r in kept]
        rewards += [float(r.score.value) for r in kept if r.score is not None and r.score.value is not None]
        ids += [g.prompt_hash] * len(kept)
    if not rows:
        return None
    x, y = np.asarray(rows, float), np.asarray(rewards, float)
    centred_x, centred_y, varied = _within(x, y, ids)
    if len(varied) < FEWEST:
        return None
    s = math.sqrt(float(np.square(centred_y).sum()) / max(len(ids) - len(set(ids)), 1)) or 1.0
    slope, se, raw = {}, {}, {}
    spread = np.sqrt(np.square(centred_x).mean(axis=0))
    live = [j for j in range(len(FEATURES)) if spread[j] > 1e-9]
    for j, name in enumerate(FEATURES):
        slope[name] = se[name] = raw[name] = math.nan
        if j in live:  # this feature first, the others beside it
            order = [j, *(k for k in live if k != j)]
            b, error, _ = slope_of(centred_x[:, order] / spread[order], centred_y / s, ids)
            slope[name], se[name], raw[name] = b, error, b * s / float(spread[j])
    mean = dict(zip(FEATURES, map(float, x.mean(axis=0)), strict=True))
    return Look(slope, se, mean, raw, float(y.mean()), s, len(ids), len(set(ids)))


def _within(x: Floats, y: Floats, ids: Sequence[str]) -> tuple[Floats, Floats, set[str]]:
    """Features and rewards less their prompt's mean, and the prompts whose rewards differ."""
    x, y, varied = x.copy(), y.copy(), set()
    names = np.asarray(ids)
    for name in dict.fromkeys(ids):
        mine = names == name
        x[mine] -= x[mine].mean(axis=0)
        y[mine] -= y[mine].mean()
        if np.ptp(y[mine]) > 0:
            varied.add(name)
    return x, y, varied


@dataclass
class Growth:
    """Looks in order, and what grew. first: the looks that are the baseline (the first two that could be fitted)."""

    looks: list[Look] = field(default_factory=list)
    late: dict[str, int] = field(default_factory=dict)

    def note(self, look: Look) -> dict[str, str]:
        """Add a look; alarms by feature: the slope has grown at two looks in a row, or the feature explains most of the gain."""
        self.looks.append(look)
        if len(self.looks) < 3:
            return {}
        said = {}
        for name in FEATURES:
            grown = self._grown(name)
            self.late[name] = self.late.get(name, 0) + 1 if grown else 0
            if grown and self.late[name] >= 2:
                then, now = self._base(name)[0], look.slope[name]
                said[name] = (
                    f"the reward pays {now:+.2f} s for {name} (a standard deviation of it), {then:+.2f} at the start: read "
                    "rollouts.jsonl, audit the reward, add counter-examples or a term against it"
                )
            share = self.share(name)
            if share is not None and share > HALF and name not in said:
                said[name] = (
                    f"{name} explains {share:.0%} of what the reward has gained: audit the reward before going on"
                )
        return said

    def _base(self, name: str) -> tuple[float, float]:
        """Slope and error of the baseline: the mean of the first two looks."""
        slopes, errors = ([getattr(x, k)[name] for x in self.looks[:2]] for k in ("slope", "se"))
        known = [(b, e) for b, e in zip(slopes, errors, strict=True) if math.isfinite(b)]
        if not known:
            return 0.0, 0.0  # the feature did not occur: it paid nothing
        return float(np.mean([b for b, _ in known])), math.sqrt(sum(e * e for _, e in known)) / len(known)

    def _grown(self, name: str) -> bool:
        now, error = self.looks[-1].slope[name], self.looks[-1].se[name]
        then, before = self._base(name)
        if not math.isfinite(now) or now <= 0:
            return False
        return now - then > max(LEAST, Z * math.hypot(error, before))

    def share(self, name: str) -> float | None:
        """Part of the gain in reward that the shift of a feature explains, at the slope of now; None without a clear gain."""
        first, last = self.looks[0], self.looks[-1]
        gain = last.reward - first.reward
        if not math.isfinite(last.raw[name]) or gain < LEAST * last.s:
            return None
        return last.raw[name] * (last.mean[name] - first.mean[name]) / gain

    def state(self) -> dict[str, Any]:
        return {"looks": [x.to_json() for x in self.looks], "late": dict(self.late)}

    def load(self, state: Mapping[str, Any]) -> None:
        self.looks = [Look(**x) for x in state["looks"]]
        self.late = {k: int(v) for k, v in state["late"].items()}
