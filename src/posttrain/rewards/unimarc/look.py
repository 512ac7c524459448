"""One record under examination: its fields by tag, and the small words with which rules say what they saw.

A rule is a generator over a `Look`. It yields one `Seen` per occurrence it judges: `OK` or ``Seen(field)`` where the occurrence
obeys, a fault (with a message) where it does not. A rule that does not apply yields nothing. Source: the rules of this project's
UNIMARC specification; the engine knows no table, those are in the profile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple

from posttrain.rewards.unimarc.fields import Field, Record
from posttrain.rewards.unimarc.profile import Profile

FILL = "|"


class Seen(NamedTuple):
    """What a rule saw of one occurrence. field: index in the record, None for the record as a whole. message: None = obeys.

    severity: None = the rule's own; "info" marks a fill character, which is legal and earns nothing.
    """

    field: int | None = None
    message: str | None = None
    severity: str | None = None
    subfield: str | None = None
    position: str | None = None
    found: str | None = None
    expected: str | None = None
    tag: str | None = None


OK = Seen()


class Look:
    """A record, the profile it is judged by, and what several rules need of it."""

    def __init__(self, record: Record, profile: Profile) -> None:
        self.record, self.profile, self.leader = record, profile, record.leader
        self.by_tag: dict[str, list[tuple[int, Field]]] = {}
        for i, f in enumerate(record.fields):
            self.by_tag.setdefault(f.tag, []).append((i, f))

    def all(self, *tags: str) -> Iterator[tuple[int, Field]]:
        """Index and field of every field with one of these tags."""
        for tag in tags:
            yield from self.by_tag.get(tag, ())

    def values(self, code: str, *tags: str) -> Iterator[tuple[int, str]]:
        """Field index and value of every subfield `code` of these tags."""
        for i, f in self.all(*tags):
            for c, value in f.subfields:
                if c == code:
                    yield i, value

    @cached_property
    def coded(self) -> str | None:
        """100 $a, None where absent."""
        return next((value for _, value in self.values("a", "100")), None)

    def at(self, start: int, stop: int) -> str:
        """Characters start..stop-1 of 100 $a ('' where it is absent or short)."""
        return (self.coded or "")[start:stop]

    def code_100(self, start: int, stop: int, accepted: Callable[[str], bool], expected: str, **fault: str) -> Seen:
        """Judge a coded position of 100 $a: fill is legal and unearned."""
        found = self.at(start, stop)
        place = f"{start}-{stop - 1}" if stop - start > 1 else str(start)
        if found and not found.strip(FILL):
            return Seen(None, f"100/{place} is all fill", "info", "a", place, found, expected, "100")
        if accepted(found):
            return OK
        return Seen(None, f"100/{place} is {found!r}", fault.get("severity"), "a", place, found, expected, "100")


Check = Callable[[Look], Iterator[Seen]]
CHECKS: dict[str, Check] = {}


def rule(name: str) -> Callable[[Check], Check]:
    """Register a check under its rule id."""

    def register(check: Check) -> Check:
        assert name not in CHECKS, name
        CHECKS[name] = check
        return check

    return register
