"""`RewardModelAuditor`: twenty tests of a reward, each a number with an interval and a verdict.

    report = RewardModelAuditor().analyze(reward_model=rm, test_cases=cases)
    report.vulnerabilities        # ["Prefers verbose responses", ...], each with .sentence, .effect, .ci, .examples

The tests and limits are listed in docs/audit.md. A reward is anything `rewards.as_reward` takes, a reward model, an ensemble, a Python
function, an HTTP endpoint (`client.RewardEndpoint`), or a judge with ``prefer``.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from posttrain.audit import batch, derived, fits, given, search
from posttrain.audit import variants as v
from posttrain.audit.best_of_n import Curve, curve, judged_curve
from posttrain.audit.cases import Case, EmptyAudit, read_cases
from posttrain.audit.findings import AuditReport, TestResult, rule_family, vulnerabilities_of
from posttrain.audit.probe import Measured, Probe, measure
from posttrain.audit.repair import counter_examples
from posttrain.audit.scorer import BudgetSpent, Margin, Progress, Scorer, Unit, unit_of
from posttrain.audit.suite import suite
from posttrain.audit.thresholds import Thresholds
from posttrain.core.files import hash_json
from posttrain.core.group import Group
from posttrain.core.run import versions
from posttrain.stats import Interval

TESTS = tuple(f"T{i:02d}" for i in range(1, 21))
FAST_SEARCH, SEARCHES = (1000,), (100, 1000, 10_000)
PAIRWISE_ONLY = ("T08", "T18")


class RewardModelAuditor:
    """How to audit. See `analyze`."""

    def __init__(
        self,
        langs: Sequence[str] | None = None,
        fast: bool = True,
        n: int = 300,
        seed: int = 0,
        tests: Sequence[str] | None = None,
        thresholds: Thresholds | Mapping[str, float] | None = None,
        budget: int | None = None,
        reps: int = 2000,
        progress: Progress | None = None,
    ) -> None:
        """langs: languages of the built-in suite (default English; all four when not `fast`) or of the cases to use. fast: fewer arms, one
        search at 1,000 scorings. n: items per test and language. tests: ids to run. budget: scorings (for a judge: comparisons) that may be
        spent; tests beyond it say so. reps: bootstrap draws of the intervals shown."""
        unknown = sorted(set(tests or ()) - set(TESTS))
        if unknown:
            raise ValueError(f"tests: {unknown[0]!r} is unknown; accepted: {', '.join(TESTS)}")
        self.langs, self.fast, self.n, self.seed = langs, fast, n, seed
        self.tests = tuple(tests or TESTS)
        self.limits = (
            thresholds if isinstance(thresholds, Thresholds) else Thresholds.model_validate(dict(thresholds or {}))
        )
        self.budget, self.reps, self.progress = budget, reps, progress

    # What is asked

    def cases(self, test_cases: Any) -> list[Case]:
        """The cases of an audit: the caller's, or the built-in suite. At most n per kind and language."""
        if test_cases is None:
            return suite(tuple(self.langs or (("en",) if self.fast else ("en", "fr", "ru", "zh"))), self.n, self.seed)
        read = [c for c in read_cases(test_cases) if self.langs is None or c.lang in self.langs]
        if not read:
            raise EmptyAudit(f"no test case in {', '.join(self.langs or ())}: leave out `langs` or give such cases")
        seen: dict[tuple[str, str, str], int] = {}
        kept = []
        for c in read:
            key = (c.kind, c.lang, c.behaviour)
            seen[key] = seen.get(key, 0) + 1
            if seen[key] <= self.n:
                kept.append(c)
        return kept

    def probes(self, cases: Sequence[Case], pairwise: bool = False) -> list[Probe]:
        """Everything measured through margins, in order of the tests."""
        langs = list(dict.fromkeys(c.lang for c in cases))
        out: list[Probe] = []
        for lang in langs:
            out += derived.derived(cases, lang, self.limits, self.fast, self.seed)
            out += given.given(cases, lang, self.limits)
            out += given.families(cases, lang, self.limits)
            if pairwise:
                out += given.judged(cases, lang, self.limits)
                pairs = [c for c in cases if c.kind == "pair" and c.lang == lang]
                third = [v.renumbered(c.chosen, lang, random.Random(c.id)) for c in pairs]
                out += given.triples(cases, lang, third, self.limits)
        if langs:
            out += given.languages(cases, langs[0], self.limits)
        return sorted((p for p in out if p.test in self.tests), key=lambda p: p.test)

    def cost(self, test_cases: Any = None, pairwise: bool = False) -> dict[str, int]:
        """Scorings that each test adds, without asking anything (`--dry-run`)."""
        cases, out = self.cases(test_cases), dict[str, int]()
        seen: set[Any] = set()
        for p in self.probes(cases, pairwise):
            margins = [m for need in p.needs for m in need]
            asked: set[Any] = set(margins) | {Margin(m.prompt, m.b, m.a) for m in margins}
            if not pairwise:
                asked = {x for m in margins for x in ((m.prompt, m.a), (m.prompt, m.b))}
            out[p.test] = out.get(p.test, 0) + len(asked - seen)
            seen |= asked
        if "T16" in self.tests:
            out["T16"] = sum(self.searches) + 2 * 3 * search.HELD_OUT + 4 * search.HELD_OUT
        return out

    @property
    def searches(self) -> tuple[int, ...]:
        return FAST_SEARCH if self.fast else SEARCHES

    # The audit

    def analyze(
        self,
        reward_model: Any,
        test_cases: Any = None,
        samples: Sequence[Group] | None = None,
        gold: Any = None,
        about: Mapping[str, Any] | None = None,
    ) -> AuditReport:
        """Audit a reward.

        test_cases: a JSONL path, dicts {prompt, chosen, rejected, category?, lang?, kind?}, Groups with a preference, or None for the
        built-in suite. samples: groups with many answers of one policy each, for the best-of-n curve; gold: another Reward that says what
        they are worth (not trained on what the audited one was). about: what the report should say of the model.
        Raises EmptyAudit, BadTestCase, DegenerateReward.
        """
        began = time.time()
        cases = self.cases(test_cases)
        scorer = Scorer(reward_model, self.budget, self.progress)
        base = [c for c in cases if c.kind == "pair"] or cases
        margins = scorer.margins([Margin(c.prompt, c.chosen, c.rejected) for c in base], "pairs")
        unit = unit_of(margins)
        measured = list(self._measured(scorer, cases, base, margins, unit))
        curves: dict[str, Any] = {}
        if samples and gold is not None and "T19" in self.tests:
            found = best_of_n(scorer, samples, gold, self.seed)
            measured.append(judged_curve(found, [g.id for g in samples]))
            curves["best_of_n"] = found.to_json()
        results = rule_family(measured) + tuple(self._absent(measured, scorer.pairwise))
        results = tuple(sorted(results, key=lambda r: (r.id, r.lang)))
        told = self._about(cases, scorer, time.time() - began, about or {})
        shown = {"s": unit.s, "robust": unit.robust, "pairs": unit.pairs, "warning": unit.warning}
        pairs = tuple(counter_examples(measured, results))
        return AuditReport(results, vulnerabilities_of(results), shown, told, curves, tuple(measured), pairs)

    def _measured(
        self, scorer: Scorer, cases: Sequence[Case], base: Sequence[Case], margins: np.ndarray, unit: Unit
    ) -> Iterator[Measured]:
        probes = self.probes(cases, scorer.pairwise)
        if not scorer.pairwise:
            with suppress(BudgetSpent):  # what was scored is known; tests that lack more say so below
                scorer.margins([m for p in probes for need in p.needs for m in need], "variants")
            yield from _within("P0", "all", lambda: batch.precheck(scorer, base, unit.s, self.limits.batch))
        for p in probes:
            yield self._timed(partial(self._probed, scorer, p, unit.s), p)
        for lang in dict.fromkeys(c.lang for c in base):
            yield from self._fitted(scorer, [c for c in base if c.lang == lang], lang, margins, base, unit.s)
        twins = {}
        for p in [p for p in probes if p.test == "T14"]:
            with suppress(BudgetSpent):  # the tests themselves say so above
                m = self._probed(scorer, p, unit.s)
                twins[m.lang, m.arm] = m
        for lang in dict.fromkeys(lang for lang, _ in twins):
            both = twins.get((lang, "refuses harmful")), twins.get((lang, "answers benign"))
            if both[0] and both[1]:
                yield fits.youden(both[0], both[1], self.limits.youden, self.reps, self.seed)

    def _probed(self, scorer: Scorer, p: Probe, s: float) -> Measured:
        rows = [m for need in p.needs for m in need]
        if scorer.pairwise and p.test == "T08":
            values = np.asarray([scorer.prefer(m) - 0.5 for m in rows])
        else:
            values = scorer.margins(rows, p.test)
        return measure(p, values.reshape(len(p.needs), len(p.needs[0]) if p.needs else 1), s, self.reps, self.seed)

    def _fitted(
        self, scorer: Scorer, cases: Sequence[Case], lang: str, margins: np.ndarray, base: Sequence[Case], s: float
    ) -> Iterator[Measured]:
        mine = np.asarray([m for m, c in zip(margins, base, strict=True) if c.lang == lang])
        ids = [c.id for c in cases]
        if "T02" in self.tests:
            made = partial(fits.slope, scorer, cases, lang, s, self.limits.shift, v.repeated)
            yield from _within("T02", lang, lambda: [m for m in (made(),) if m is not None], "slope")
        if "T17" in self.tests:
            yield fits.calibration(mine, ids, lang, self.limits.ece, self.seed)
        if "T20" in self.tests:
            spread = fits.uncertainty(scorer.given, cases, mine, lang)
            if spread is not None:
                yield spread
        if "T16" in self.tests:
            for budget in self.searches:
                found = partial(search.search, scorer, cases, lang, s, self.limits, budget, self.seed, self.reps)
                yield from _within("T16", lang, found, f"suffix, {budget:,} scorings")

    def _timed(self, work: Callable[[], Measured], p: Probe) -> Measured:
        began = time.perf_counter()
        try:
            made = work()
        except BudgetSpent as spent:
            return absent(p.test, p.arm, p.lang, str(spent))
        return replace(made, seconds=round(time.perf_counter() - began, 4))

    def _absent(self, measured: Sequence[Measured], pairwise: bool) -> Iterator[TestResult]:
        """Tests asked for that had nothing to work on: they stay in the output and say why."""
        there = {m.test for m in measured}
        why = {
            "T03": "needs cases of kind styles",
            "T07": "needs cases of kind view",
            "T09": "needs cases of kind family (the judge's own model family against others, rated equal)",
            "T11": "needs pairs in two languages with the same id",
            "T14": "needs cases of kind twin",
            "T15": "needs cases of kind wrapped",
            "T19": "needs samples of a policy and a gold reward",
            "T20": "needs a reward with several votes (an ensemble)",
        }
        for test in self.tests:
            if test not in there:
                scalar = test in PAIRWISE_ONLY and not pairwise
                note = "scalar model" if scalar else why.get(test, "no case it applies to")
                yield from rule_family([absent(test, "", "", note)])

    def _about(self, cases: Sequence[Case], scorer: Scorer, seconds: float, about: Mapping[str, Any]) -> dict[str, Any]:
        changed = {k: x for k, x in self.limits.model_dump().items() if x != Thresholds.model_fields[k].default}
        checked: dict[str, int] = {}
        for c in cases:
            checked[c.checked] = checked.get(c.checked, 0) + 1
        human = any(k.startswith("human") for k in checked)
        return {
            "about": dict(about),
            "seed": self.seed,
            "depth": "fast" if self.fast else "full",
            "scorings": scorer.asked,
            "seconds": round(seconds, 2),
            "cases": len(cases),
            "checked": checked,
            "human_validated": human,
            "suite_hash": hash_json([c.to_json() for c in cases])[:16],
            "thresholds": self.limits.model_dump(),
            "changed_thresholds": changed,
            "versions": versions(),
        }


def _within(test: str, lang: str, work: Callable[[], Sequence[Measured]], arm: str = "") -> Iterator[Measured]:
    """What `work` measures, or the reason why the budget ended it."""
    try:
        yield from work()
    except BudgetSpent as spent:
        yield absent(test, arm, lang, str(spent))


def absent(test: str, arm: str, lang: str, note: str) -> Measured:
    """A test that did not run, with its reason."""
    ci = Interval(float("nan"), float("nan"), float("nan"), 0, "not run")
    return Measured(test, arm, lang, np.zeros(0), (), (), ci, None, "information", 0.0, "", "", note)


def best_of_n(scorer: Scorer, samples: Sequence[Group], gold: Any, seed: int = 0) -> Curve:
    """The best-of-n curve of a scalar reward on groups of samples. Raises ValueError when gold is the reward itself."""
    from posttrain.rewards.criterion import as_reward

    if gold is scorer.given:
        raise ValueError("gold is the audited reward itself: give a verifier, another model's scores or human labels")
    proxy = scorer.raw(samples)
    truth = [[float("nan") if s.value is None else float(s.value) for s in row] for row in as_reward(gold)(samples)]
    return curve(proxy, truth, seed=seed)
