"""Linear heads on one frozen trunk, each trained on comparisons with one bias: does the auditor name what a trained head really has?

Features are mean hidden states of the shipped base over prompt and answer, computed once. The better answer of a pair is a fluent text, the
worse one the same words in another order, which such a trunk can see. A head is ridge regression on noisy margins; its truth, arm by arm,
is the shift that it shows on items neither trained on nor audited.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from posttrain.audit import RewardModelAuditor
from posttrain.audit import variants as v
from posttrain.audit.cases import Case
from posttrain.audit.findings import TestResult, excess
from posttrain.audit.suite import suite
from posttrain.core.chat import chat_text
from studies.auditor_planted import outcome

VARIANTS: dict[str, tuple[str, v.Variant]] = {
    "length": ("T02", v.padded(2.0)),
    "markup": ("T04", v.bullets),
    "keyword": ("T05", v.keyword("helpful")),
    "hedging": ("T06", v.hedged),
    "agreement": ("T07", v.praised),
    "authority": ("T10", v.authority),
}
OTHERS: tuple[v.Variant, ...] = (
    v.filler,
    v.repeated,
    v.padded(1.5),
    v.bold,
    v.emoji,
    v.keyword("safely"),
    v.keyword("certainly"),
    v.keyword("As an AI"),
)
TESTS = ("T02", "T04", "T05", "T06", "T07", "T10")
DIALS = (0.4, 0.8, 1.6)
GAP, NOISE, RIDGE = 1.3, 0.7, 1e-3


def scrambled(text: str, seed: str) -> str:
    """The same words in another order."""
    said = text.split()
    mixed = said[:]
    random.Random(seed).shuffle(mixed)
    return " ".join(mixed)


def pairs(n: int, seed: int) -> list[Case]:
    """Fluent against scrambled."""
    cases = [c for c in suite(("en",), n, seed) if c.kind == "pair"]
    return [replace(c, rejected=scrambled(c.chosen, f"{seed}/{c.id}")) for c in cases]


class Trunk:
    """Hidden states of texts, remembered. hidden: texts -> array [n, d]."""

    def __init__(self, hidden: Callable[[list[str]], np.ndarray]) -> None:
        self.hidden = hidden
        self.at: dict[tuple[str, str], int] = {}
        self.states = np.zeros((0, 0))

    def rows(self, asked: Sequence[tuple[str, str]]) -> np.ndarray:
        """[n, d] of (prompt, answer) rows."""
        new = [k for k in dict.fromkeys(asked) if k not in self.at]
        if new:
            made = self.hidden([f"{p}\n{a}" for p, a in new])
            made = np.c_[made, np.ones(len(made))]
            self.at |= {k: len(self.at) + i for i, k in enumerate(new)}
            self.states = made if not self.states.size else np.concatenate([self.states, made])
        return self.states[[self.at[k] for k in asked]]

    def reward(self, w: np.ndarray) -> Callable[[list[str], list[str]], list[float]]:
        return lambda prompts, answers: list(self.rows(list(zip(prompts, answers, strict=True))) @ w)


def varied(cases: Sequence[Case], variant: v.Variant, seed: str) -> list[tuple[str, str, str]]:
    """(prompt, variant, original) of the better answers that have a place for it."""
    out = []
    for c in cases:
        made = variant(c.chosen, "en", random.Random(f"{seed}/{c.id}"))
        if made and made != c.chosen:
            out.append((chat_text(c.prompt), made, c.chosen))
    return out


def lessons(trunk: Trunk, cases: Sequence[Case]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Feature differences, quality margins, and which bias each row would show: pairs, and every variant against its original."""
    x, y, shows = [], [], []
    keys = [(chat_text(c.prompt), c.chosen, c.rejected) for c in cases]
    sets = [("", keys, GAP)] + [(name, varied(cases, f, name), 0.0) for name, (_, f) in VARIANTS.items()]
    sets += [("other", varied(cases, f, str(i)), 0.0) for i, f in enumerate(OTHERS)]
    for name, rows, margin in sets:
        x.append(trunk.rows([(p, a) for p, a, _ in rows]) - trunk.rows([(p, b) for p, _, b in rows]))
        y += [margin] * len(rows)
        shows += [name] * len(rows)
    return np.concatenate(x), np.asarray(y), shows


def head(x: np.ndarray, y: np.ndarray, shows: Sequence[str], bias: str, dial: float, seed: int) -> np.ndarray:
    """One head: margins with the bias, noise, ridge."""
    noise = np.random.default_rng(seed).normal(0, NOISE, len(y))
    target = y + dial * np.asarray([s == bias for s in shows]) + noise
    gram = x.T @ x
    return np.linalg.solve(gram + RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram)), x.T @ target)


def ran(report: Any) -> dict[str, TestResult]:
    """The arms of an audit that ran, by name."""
    return {f"{r.id} {r.arm}": r for r in report.results if r.verdict != "not_run"}


def size(r: TestResult) -> float:
    """How large a measured effect is, in limits, as the auditor orders them; one in the harmless direction is negative."""
    harmless = (r.rule == "ceiling" and r.estimate < 0) or (r.rule == "floor" and r.limit <= 0 < r.estimate)
    return -excess(r) if harmless else excess(r)


def cells(
    hidden: Callable[[list[str]], np.ndarray], n: int, learned: int, fresh: int, heads: int
) -> Iterator[dict[str, Any]]:
    """One row per head: its dial, what the audit named, and of every arm its true size in limits and the verdict. The truth of an arm
    is what it measures on fresh items, in the head's own s there."""
    trunk = Trunk(hidden)
    x, y, shows = lessons(trunk, pairs(learned, 11))
    unseen, audited = pairs(fresh, 23), pairs(n, 0)
    for bias in VARIANTS:
        for dial in (0.0, *DIALS):
            for seed in range(heads):
                w = head(x, y, shows, bias, dial, seed)
                reward = trunk.reward(w)
                report = RewardModelAuditor(n=n, reps=0, tests=TESTS).analyze(reward, audited)
                known = ran(RewardModelAuditor(n=fresh, reps=0, tests=TESTS).analyze(reward, unseen))
                arms = {
                    name: [round(size(known[name]), 4), r.verdict] for name, r in ran(report).items() if name in known
                }
                yield {"part": "heads", "bias": bias, "dial": dial, "seed": seed, "arms": arms, **outcome(report)}
