"""What an audit says: one result per arm, vulnerabilities as phrases that carry their numbers, and the whole as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from posttrain.audit.probe import Measured
from posttrain.core.chat import chat_text
from posttrain.core.files import hash_json
from posttrain.stats import Interval, Verdict, judge, overall

SCHEMA = "audit/1"
SHOWN = 3
"""Worst examples kept per arm."""
NOT_VALIDATED = "not human-validated: items were made by templates or models"


@dataclass(frozen=True, slots=True)
class Example:
    """A row that shows the effect: prompt, the two answers compared, and the value."""

    prompt: str
    a: str
    b: str
    value: float


@dataclass(frozen=True, slots=True)
class TestResult:
    """One arm of one test in one language. ci95: shown; bound: the one-sided 95% end that the rule looks at; p_adj: over the family."""

    __test__ = False  # not a pytest class
    id: str
    arm: str
    lang: str
    n: int
    clusters: int
    estimate: float
    unit: str
    ci95: tuple[float, float]
    bound: float
    limit: float
    rule: str
    p: float
    p_adj: float
    verdict: Verdict
    n_needed: int | None
    mde: float
    examples: tuple[Example, ...]
    data_hash: str
    seconds: float
    note: str
    phrase: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """JSON: nan becomes null."""
        return {k: _plain(v) for k, v in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.item() if hasattr(value, "item") else value


class Vulnerability(str):
    """The short phrase of a failed test; attributes carry the rest, `.sentence` is the long form."""

    sentence: str
    test: str
    arm: str
    effect: float
    unit: str
    ci: tuple[float, float]
    lang: str
    n: int
    examples: tuple[Example, ...]

    def __new__(cls, result: TestResult) -> Vulnerability:
        made = super().__new__(cls, result.phrase)
        low, high = result.ci95
        shown = f"{result.estimate:+.2f} {result.unit}"
        if math.isfinite(low):
            shown += f" [{low:+.2f}, {high:+.2f}]"
        made.sentence = f"{result.phrase}: {shown} ({result.arm}, {result.lang}, n = {result.clusters})"
        made.test, made.arm, made.lang = result.id, result.arm, result.lang
        made.effect, made.unit, made.ci, made.n = result.estimate, result.unit, result.ci95, result.clusters
        made.examples = result.examples
        return made


def excess(result: TestResult) -> float:
    """How far beyond its limit a result lies, as a ratio, for the order of vulnerabilities; rates by their distance to perfect."""
    value, limit = result.estimate, result.limit
    if result.rule == "floor":
        return (
            (1 - value) / max(1 - limit, 1e-9) if 0 < limit <= 1 and 0 <= value <= 1 else abs(value / (limit or 1e-9))
        )
    return abs(value) / max(abs(limit), 1e-9)


@dataclass(frozen=True)
class AuditReport:
    """The outcome of one audit. `vulnerabilities` has one phrase per failed test and phrase, the worst first."""

    results: tuple[TestResult, ...]
    vulnerabilities: tuple[Vulnerability, ...] | list[Vulnerability]
    unit: Mapping[str, Any]
    about: Mapping[str, Any]
    curves: Mapping[str, Any] = field(default_factory=dict)
    measured: tuple[Measured, ...] = field(default=(), repr=False)
    pairs: tuple[Any, ...] = field(default=(), repr=False)

    @property
    def verdict(self) -> Verdict:
        """fail if a test fails, pass if all that ran pass, else inconclusive; information does not count."""
        return overall([r.verdict for r in self.results if r.verdict != "not_run"])

    def of(self, test: str) -> list[TestResult]:
        """Results of one test, by id."""
        return [r for r in self.results if r.id == test]

    def verdict_of(self, test: str) -> Verdict:
        return overall([r.verdict for r in self.of(test) if r.verdict != "not_run"])

    def worst(self, test: str, k: int = SHOWN) -> list[Example]:
        """The k rows of a test with the largest effect in the bad direction, over its arms."""
        found = [(e, m.rule) for m in self.measured if m.test == test for e in worst_of(m, k)]
        return [e for e, _ in sorted(found, key=lambda x: x[0].value if x[1] == "floor" else -abs(x[0].value))[:k]]

    def training_pairs(self) -> list[Any]:
        """Counter-examples of failed tests as Groups with a soft preference, tagged with the test in facts. A fifth of the items of
        every test is never given out, so that a second audit on them is honest."""
        return list(self.pairs)

    def to_json(self) -> dict[str, Any]:
        """Everything but the raw rows."""
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "vulnerabilities": [
                {"phrase": str(v), "sentence": v.sentence, "test": v.test, "arm": v.arm, "lang": v.lang}
                for v in self.vulnerabilities
            ],
            "unit": _plain(dict(self.unit)),
            **_plain(dict(self.about)),
            "results": [r.to_json() for r in self.results],
            "curves": _plain(dict(self.curves)),
        }


def worst_of(m: Measured, k: int = SHOWN) -> tuple[Example, ...]:
    """Rows of one arm, worst first."""
    if not m.rows or len(m.rows) != m.values.size:
        return ()
    sign = 1.0 if m.rule == "floor" else -1.0
    key = sign * (
        np.abs(m.values) * np.sign(m.ci.estimate or 1) * np.sign(m.values) if m.rule == "equivalence" else m.values
    )
    picked = np.argsort(key, kind="stable")[:k]
    return tuple(Example(chat_text(m.rows[i].prompt), m.rows[i].a, m.rows[i].b, float(m.values[i])) for i in picked)


def rule_family(measured: Sequence[Measured], q: float = 0.05) -> tuple[TestResult, ...]:
    """Verdicts of every arm; fails are corrected over all of them together."""
    tested = [m for m in measured if m.evidence is not None]
    rulings = dict(zip(map(id, tested), judge([m.evidence for m in tested if m.evidence], q), strict=True))
    return tuple(_result(m, rulings.get(id(m))) for m in measured)


def _result(m: Measured, ruling: Any) -> TestResult:
    e = m.evidence
    ci: Interval = m.ci
    return TestResult(
        id=m.test,
        arm=m.arm,
        lang=m.lang,
        n=int(m.values.size),
        clusters=ci.n,
        estimate=ci.estimate,
        unit=m.unit,
        ci95=(ci.low, ci.high),
        bound=e.bound if e else math.nan,
        limit=m.limit,
        rule=m.rule,
        p=ruling.p if ruling else math.nan,
        p_adj=ruling.p_adj if ruling else math.nan,
        verdict=ruling.verdict if ruling else "not_run",
        n_needed=e.n_needed if e else None,
        mde=e.mde if e else math.nan,
        examples=worst_of(m),
        data_hash=hash_json([[chat_text(r.prompt), r.a, r.b] for r in m.rows])[:16] if m.rows else "",
        seconds=m.seconds,
        note=m.note,
        phrase=m.phrase,
        extra=m.extra or {},
    )


def vulnerabilities_of(results: Iterable[TestResult]) -> list[Vulnerability]:
    """One per (test, phrase) that failed: its worst arm, largest ratio of effect to limit first."""
    best: dict[tuple[str, str], TestResult] = {}
    for r in results:
        if r.verdict == "fail":
            key = (r.id, r.phrase)
            if key not in best or excess(r) > excess(best[key]):
                best[key] = r
    return [Vulnerability(r) for r in sorted(best.values(), key=excess, reverse=True)]
