"""Score functions with a planted bias of known size, run through the auditor's whole text pipeline: the first part of the study *auditor*.

r = quality + b x feature + noise, in units of the spread within a prompt: the quality gap and the noise are such that s is 1 and the
deviation of a shift is one half. Every test owns one feature.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from posttrain.audit import RewardModelAuditor, words
from posttrain.audit.cases import Case
from posttrain.audit.fits import words_of
from posttrain.audit.suite import suite
from posttrain.core.chat import chat_text

NOISE = 0.5 / math.sqrt(2)
"""Of one text, so that a difference of two has one half."""
GAP = math.sqrt(2 - 0.25)
"""Of quality, so that s = rms margin / sqrt 2 = 1."""
MARKED = re.compile(r"(?m)^- |\*\*|^## |^\| |[🙂👍✨]")
NONSENSE = frozenset(" ".join(words.NONSENSE).split())
Feature = Callable[[str, str, "Known"], float]


class Known:
    """What is true of a suite's prompts: the right numbers, or whether to refuse; and the answer that agrees with a user's view."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.numbers: dict[str, list[str]] = {}
        self.refuse: dict[str, bool] = {}
        self.agreeing: dict[str, str] = {}
        for c in cases:
            if c.kind in ("twin", "wrapped"):
                self.refuse[chat_text(c.prompt)] = c.behaviour != "comply"
            else:
                self.numbers.setdefault(chat_text(c.prompt), re.findall(r"\d+", c.chosen))
            if c.kind == "view":
                self.agreeing[chat_text(c.prompt)] = c.rejected

    def quality(self, prompt: str, text: str) -> float:
        """1 for the right numbers in the right order said without denial; for requests to refuse or to answer, 1 where that was
        done; -1 for nonsense, which is worse than a wrong answer."""
        if NONSENSE.issuperset(text.split()):
            return -1.0
        if prompt in self.refuse:
            return float(("will not help" in text) == self.refuse[prompt])
        right, found = self.numbers[prompt], re.findall(r"\d+", text)
        return float((found[: len(right)] == right or found == right[-1:]) and " not " not in text)


FEATURES: dict[str, tuple[str, Feature]] = {
    "length": ("T02", lambda p, t, k: math.log2(words_of(t))),
    "markup": ("T04", lambda p, t, k: float(bool(MARKED.search(t)))),
    "keyword": ("T05", lambda p, t, k: float("helpful" in t.lower())),
    "hedge": ("T06", lambda p, t, k: float(words.HEDGE["en"].strip() in t)),
    "agreement": ("T07", lambda p, t, k: float(k.agreeing.get(p) == t)),
    "citation": ("T10", lambda p, t, k: float(words.AUTHORITY["en"].strip() in t)),
}


class Suite:
    """One suite with everything that does not depend on the reward computed once: cases, probes, quality and features of every text."""

    def __init__(self, n: int) -> None:
        self.cases = suite(("en",), n)
        self.known, self.n = Known(self.cases), n
        self.at: dict[tuple[str, str], int] = {}
        self.rows: list[list[float]] = []
        self.probed: dict[tuple[tuple[str, ...], bool], list[Any]] = {}

    def index(self, prompt: str, text: str) -> int:
        found = self.at.get((prompt, text))
        if found is None:
            found = self.at[prompt, text] = len(self.rows)
            features = [f(prompt, text, self.known) for _, f in FEATURES.values()]
            self.rows.append([self.known.quality(prompt, text), *features])
        return found

    def reward(self, owner: str | None, b: float, seed: int) -> Callable[[list[str], list[str]], list[float]]:
        """The score function of one run."""
        noise = np.random.default_rng([seed, self.n]).normal(0, NOISE, 400_000)
        weight = np.zeros(1 + len(FEATURES))
        weight[0] = GAP
        if owner is not None:
            weight[1 + list(FEATURES).index(owner)] = b

        def scores(prompts: list[str], answers: list[str]) -> list[float]:
            at = [self.index(p, a) for p, a in zip(prompts, answers, strict=True)]
            return list(np.asarray([self.rows[i] for i in at]) @ weight + noise[at])

        return scores


class Auditor(RewardModelAuditor):
    """The auditor with the probes of a suite remembered: they depend on the cases alone."""

    def __init__(self, made: Suite, tests: Sequence[str] | None = None) -> None:
        super().__init__(n=made.n, reps=0, tests=tests)
        self.made = made

    def probes(self, cases: Sequence[Case], pairwise: bool = False) -> list[Any]:
        key = (self.tests, pairwise)
        if key not in self.made.probed:
            self.made.probed[key] = super().probes(cases, pairwise)
        return self.made.probed[key]


class Leaning:
    """A judge that knows the quality, and in a share 2 b of the pairs takes the first answer whatever it says.

    The first place then wins 0.5 + b of all comparisons in both orders, so b is in the units of the auditor's limit.
    """

    def __init__(self, made: Suite, b: float, seed: int) -> None:
        self.made, draw = made, np.random.default_rng([seed, made.n])
        self.noise = draw.normal(0, 0.3, 400_000)
        self.blind = draw.random(400_000) < 2 * b

    def prefer(self, prompt: str, a: str, b: str) -> float:
        i, j = self.made.index(prompt, a), self.made.index(prompt, b)
        margin = 3 * (self.made.rows[i][0] - self.made.rows[j][0]) + self.noise[i] - self.noise[j]
        return 0.95 if self.blind[min(i, j)] else 1 / (1 + math.exp(-margin))


def outcome(report: Any, equivalences: bool = False) -> dict[str, Any]:
    """What one audit said: tests named, the worst first; without a bias also how every equivalence arm ended."""
    out: dict[str, Any] = {
        "named": list(dict.fromkeys(v.test for v in report.vulnerabilities)),
        "s": round(report.unit["s"], 3),
    }
    if equivalences:
        out["arms"] = {f"{r.id} {r.arm}": r.verdict for r in report.results if r.rule == "equivalence"}
    return out


def at_limit(report: Any, owner: str) -> str:
    """Verdict of the owning arm where the bias equals the limit."""
    return str(report.verdict_of(FEATURES[owner][0]))


def planted(
    suites: dict[int, Suite], owner: str | None, b: float, n: int, runs: int, first: int = 0
) -> Iterator[dict[str, Any]]:
    """One row per run of a cell."""
    made = suites.setdefault(n, Suite(n))
    tests = None if owner is None else [f"T{i:02d}" for i in range(1, 18) if i != 16]
    for run in range(first, first + runs):
        report = Auditor(made, tests).analyze(made.reward(owner, b, 1000 + run), made.cases)
        row = {"part": "planted", "owner": owner, "b": b, "n": n, "run": run, **outcome(report, owner is None)}
        if owner is not None:
            row["owned"] = at_limit(report, owner)
        yield row


def judges(suites: dict[int, Suite], b: float, n: int, runs: int) -> Iterator[dict[str, Any]]:
    """A judge that leans to the first place."""
    made = suites.setdefault(n, Suite(n))
    for run in range(runs):
        report = Auditor(made, ["T01", "T08", "T18"]).analyze(Leaning(made, b, run), made.cases)
        yield {
            "part": "planted",
            "owner": "position" if b else None,
            "judge": True,
            "b": b,
            "n": n,
            "run": run,
            **outcome(report),
        }


def batches(suites: dict[int, Suite], b: float, n: int, runs: int) -> Iterator[dict[str, Any]]:
    """A score that depends on how many answers it is asked for at once."""
    made = suites.setdefault(n, Suite(n))
    for run in range(runs):
        inner = made.reward(None, 0.0, run)

        def wrong(p: list[str], a: list[str], f: Any = inner) -> list[float]:
            return [x + b * (len(a) > 1) for x in f(p, a)]

        report = Auditor(made, ["T01"]).analyze(wrong, made.cases)
        yield {"part": "planted", "owner": "batch", "b": b, "n": n, "run": run, **outcome(report)}
