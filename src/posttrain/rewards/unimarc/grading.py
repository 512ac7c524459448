"""Validation and grading: run the rules of a profile over one record and say, rule by rule, what obeys.

A rule's score is the share of its occurrences that obey (a warning inside a rule of errors counts half, a fill character nothing);
a level's score is the weighted mean over the rules that apply. L0 is all or nothing and gates the rest.

With gold facts (`structure` with `gold` and `anchored`, used by the reward) the share is taken over at least as many occurrences as the
gold record has, and only fields that carry a fact of the gold count as obeying. So leaving a field out never improves structure,
padding never dilutes a fault, and an optional field the gold lacks earns nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from posttrain.rewards.unimarc import coded, consistency, structure
from posttrain.rewards.unimarc.extract import Extracted, extract
from posttrain.rewards.unimarc.fields import Record, RecordError
from posttrain.rewards.unimarc.look import CHECKS, Look, Seen
from posttrain.rewards.unimarc.profile import Profile, RuleSpec, load_profile

RULE_MODULES = (structure, coded, consistency)
LEVELS: tuple[str, ...] = ("L0", "L1", "L2", "L3", "L4")
_CONTENT = ("010", "011", "200", "205", "210", "214", "215", "225")


def is_content(tag: str) -> bool:
    """Does fidelity to the source judge this field? Coded fields and 001, 005, 801 are not content."""
    return tag in _CONTENT or tag[0] in "367"


@dataclass(frozen=True, slots=True)
class Issue:
    """One broken rule at one place. occurrence: which of the fields with this tag, from 1. position: of a code or an indicator."""

    level: str
    rule: str
    severity: str
    tag: str | None
    occurrence: int | None
    subfield: str | None
    position: str | None
    message: str
    found: str | None = None
    expected: str | None = None

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.rule} {self.message}"


@dataclass(frozen=True, slots=True)
class Grade:
    """Score per level in [0, 1], the issues found, and the profile (name and hash) that judged."""

    levels: Mapping[str, float]
    issues: tuple[Issue, ...]
    profile: str
    profile_hash: str

    @property
    def valid(self) -> bool:
        """No issue of severity error at L0 to L2."""
        return not any(i.severity == "error" and i.level in ("L0", "L1", "L2") for i in self.issues)


@dataclass(slots=True)
class Tally:
    """What one rule saw: occurrences, credit of all that obey, and credit of those that count (anchored or not content)."""

    seen: int = 0
    credit: float = 0.0
    anchored: float = 0.0
    issues: list[Issue] = field(default_factory=list)


def _issue(spec: RuleSpec, seen: Seen, look: Look) -> Issue:
    tag, occurrence = seen.tag, None
    if seen.field is not None:
        tag = seen.tag or look.record.fields[seen.field].tag
        occurrence = 1 + sum(f.tag == tag for f in look.record.fields[: seen.field])
    severity = seen.severity or spec.severity
    if spec.severity == "warning" and severity == "error":
        severity = "warning"
    found = None if seen.found is None else seen.found[:200]
    message = (seen.message or "")[:300]
    return Issue(
        spec.level, spec.id, severity, tag, occurrence, seen.subfield, seen.position, message, found, seen.expected
    )


def tally(record: Record, profile: Profile, anchored: frozenset[int] | None = None) -> dict[str, Tally]:
    """Run every rule of L1 to L4. anchored: indices of content fields that carry a gold fact; None = all count."""
    look = Look(record, profile)
    unanchored = frozenset(
        () if anchored is None else (i for i, f in enumerate(record.fields) if is_content(f.tag) and i not in anchored)
    )
    out: dict[str, Tally] = {}
    for name, spec in profile.rules.items():
        check = CHECKS.get(name)
        if check is None:
            continue
        t = out[name] = Tally()
        for seen in check(look):
            t.seen += 1
            if seen.message is None:
                credit = 1.0
            else:
                issue = _issue(spec, seen, look)
                t.issues.append(issue)
                credit = 0.5 if (spec.severity, issue.severity) == ("error", "warning") else 0.0
            t.credit += credit
            if seen.field is None or seen.field not in unanchored:
                t.anchored += credit
    return out


def _share(t: Tally, gold: Tally | None) -> float | None:
    """A rule's score; None where it does not apply."""
    if gold is None:
        return t.credit / t.seen if t.seen else None
    failed = t.seen - t.credit
    earned = min(t.anchored, gold.seen)
    wanted = max(gold.seen, earned + failed)
    return earned / wanted if wanted else None


def levels_of(
    tallies: Mapping[str, Tally], profile: Profile, gold: Mapping[str, Tally] | None = None
) -> dict[str, float]:
    """Scores of L1 to L4. A level to which no rule applies is 1: there was nothing to break."""
    out = {}
    for level in LEVELS[1:]:
        total = weight = 0.0
        for name, t in tallies.items():
            spec = profile.rules[name]
            if spec.level == level and (share := _share(t, None if gold is None else gold[name])) is not None:
                total += spec.weight * share
                weight += spec.weight
        out[level] = total / weight if weight else 1.0
    return out


def structural_issue(error: RecordError, profile: Profile) -> Issue:
    """The L0 issue of a text that is no record."""
    severity = profile.rules[error.rule].severity if error.rule in profile.rules else "error"
    place = None if error.line is None else f"line {error.line}"
    return Issue("L0", error.rule, severity, None, None, None, place, error.message[:300])


def outside_issue(found: Extracted) -> Issue:
    """L0-08: text around the record."""
    return Issue("L0", "L0-08", "warning", None, None, None, None, "text around the record", found.outside[:80])


def grade(xml: str | bytes | Record, profile: str = "ifla") -> Grade:
    """Grade a record in any of its forms, or an answer that holds one. Never raises on bad input; UnknownProfile otherwise."""
    p = load_profile(profile)
    found = extract(xml)
    if found.record is None:
        assert found.fault is not None
        zero: dict[str, float] = dict.fromkeys(LEVELS, 0.0)
        return Grade(zero, (structural_issue(found.fault, p),), p.name, p.hash)
    tallies = tally(found.record, p)
    issues = [outside_issue(found)] if found.outside else []
    issues += [issue for t in tallies.values() for issue in t.issues]
    return Grade({"L0": 1.0, **levels_of(tallies, p)}, tuple(issues), p.name, p.hash)


def validate(xml: str | bytes | Record, profile: str = "ifla") -> list[Issue]:
    """Every issue of a record, L0 first. Never raises on bad input: everything becomes an issue."""
    return list(grade(xml, profile).issues)
