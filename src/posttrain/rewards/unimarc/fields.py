"""The nouns of a UNIMARC record, the limits every reader keeps, and the error that names a broken structural rule.

A `Record` holds what is written and nothing else: no default, no derived value. Source: the structure of the UNIMARC bibliographic
manual. Leaves out ISO 2709 (directory and lengths), authorities and holdings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_BYTES, MAX_DEPTH, MAX_FIELDS, MAX_SUBFIELDS, MAX_VALUE = 65_536, 6, 200, 100, 4_000
MAX_TOTAL = 2_000  # subfields of a record: ours, so that the work per record stays bounded

_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
TAG = re.compile(r"[0-9A-Z]{3}")
_CODE = re.compile(r"[0-9a-z]")


class RecordError(ValueError):
    """Text that is no structurally valid record. rule: the L0 rule it breaks. line: 1-based, where known."""

    def __init__(self, rule: str, message: str, line: int | None = None) -> None:
        super().__init__(f"{rule}: {message}" + (f" (line {line})" if line else ""))
        self.rule, self.message, self.line = rule, message, line


@dataclass(frozen=True, slots=True)
class Field:
    """A control field (tag 00X: a value) or a data field (two indicators and ``(code, value)`` subfields)."""

    tag: str
    indicators: str = ""
    subfields: tuple[tuple[str, str], ...] = ()
    value: str | None = None

    @property
    def is_control(self) -> bool:
        return self.tag.startswith("00")

    def all(self, code: str) -> list[str]:
        """Values of every subfield `code`, in order."""
        return [value for c, value in self.subfields if c == code]

    def first(self, code: str) -> str | None:
        """Value of the first subfield `code`, None where absent."""
        return next((value for c, value in self.subfields if c == code), None)


@dataclass(frozen=True, slots=True)
class Record:
    """A leader and fields in their order."""

    leader: str
    fields: tuple[Field, ...] = ()

    def all(self, *tags: str) -> list[Field]:
        """Fields with one of these tags, in order."""
        return [f for f in self.fields if f.tag in tags]

    def first(self, tag: str, code: str | None = None) -> str | None:
        """Value of the first control field `tag`, or of the first subfield `code` of `tag`; None where absent."""
        for f in self.fields:
            if f.tag == tag:
                found = f.value if code is None else f.first(code)
                if found is not None:
                    return found
        return None


def control(tag: str, value: str) -> Field:
    """A control field: ``control("001", "000000124")``."""
    return Field(tag, value=value)


def data(tag: str, indicators: str, *subfields: tuple[str, str]) -> Field:
    """A data field: ``data("200", "1 ", ("a", "Zoologie"), ("h", "IV"))``."""
    return Field(tag, indicators, tuple(subfields))


def checked(record: Record) -> Record:
    """The record itself if each of its parts can be written in every form; RecordError naming the field otherwise."""
    if len(record.fields) > MAX_FIELDS:
        raise RecordError("L0-01", f"{len(record.fields)} fields; at most {MAX_FIELDS}")
    for f in record.fields:
        _check_field(f)
    if sum(len(f.subfields) for f in record.fields) > MAX_TOTAL:
        raise RecordError("L0-01", f"more than {MAX_TOTAL} subfields in one record")
    _check_value(record.leader, "the leader")
    return record


def _check_field(f: Field) -> None:
    if not TAG.fullmatch(f.tag):
        raise RecordError("L0-04", f"tag {f.tag!r} is not three characters of 0-9 and A-Z")
    if f.is_control:
        if f.value is None or f.subfields or f.indicators:
            raise RecordError(
                "L0-04", f"{f.tag} is a control field: it has a value and neither indicators nor subfields"
            )
        _check_value(f.value, f.tag)
        return
    if f.value is not None:
        raise RecordError("L0-04", f"{f.tag} is a data field: it has subfields, not a value")
    if len(f.indicators) != 2:
        raise RecordError("L0-05", f"{f.tag} needs two indicators of one character each, got {f.indicators!r}")
    _check_value(f.indicators, f.tag)
    if not f.subfields:
        raise RecordError("L0-06", f"{f.tag} has no subfield")
    if len(f.subfields) > MAX_SUBFIELDS:
        raise RecordError("L0-01", f"{f.tag} has {len(f.subfields)} subfields; at most {MAX_SUBFIELDS}")
    for code, value in f.subfields:
        if not _CODE.fullmatch(code):
            raise RecordError("L0-06", f"subfield code {code!r} of {f.tag} is not one character of 0-9 and a-z")
        _check_value(value, f"{f.tag} ${code}")


def _check_value(value: str, where: str) -> None:
    if len(value) > MAX_VALUE:
        raise RecordError("L0-01", f"{where} has {len(value)} characters; at most {MAX_VALUE}")
    if not value.isprintable() and _ILLEGAL.search(value):
        raise RecordError("L0-01", f"{where} holds a control character or another that XML cannot carry")


def check_text(text: str) -> str:
    """Size and characters of a whole text, before anything is parsed."""
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise RecordError("L0-01", f"more than {MAX_BYTES} bytes")
    if _ILLEGAL.search(text):
        raise RecordError("L0-01", "a control character or another that XML cannot carry")
    return text


def subfields(record: Record) -> Iterator[tuple[str, str, str]]:
    """Every ``(tag, code, value)`` of the data fields, in order."""
    for f in record.fields:
        for code, value in f.subfields:
            yield f.tag, code, value
