"""Break exactly one rule of a record: faulty partners for preference pairs, and cases that validation must catch.

``corrupt(record, rule, seed)`` returns MARCXML that reports the rule and, apart from the consequences its profile lists, nothing the
record did not report before. `wrong_fact` changes a fact and keeps the form, so that form never comes to outrank truth. Rules a record
cannot break (L3-09 without an ISBN) raise `NotApplicable`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from posttrain.rewards.unimarc.fields import Field, Record, data
from posttrain.rewards.unimarc.language import likely_languages
from posttrain.rewards.unimarc.profile import UnknownRule
from posttrain.rewards.unimarc.record import read, to_marcxml

Edit = Callable[[Record, random.Random], "Record | str | None"]
EDITS: dict[str, Edit] = {}
E = TypeVar("E", bound=Edit)


class NotApplicable(ValueError):
    """The record has nothing with which the rule could be broken alone."""


def _edit(rule: str) -> Callable[[E], E]:
    def register(edit: E) -> E:
        EDITS[rule] = edit
        return edit

    return register


def _where(record: Record, *tags: str) -> list[int]:
    return [i for i, f in enumerate(record.fields) if f.tag in tags]


def _with(record: Record, i: int, f: Field | None) -> Record:
    """The record with field i replaced, or dropped."""
    return replace(record, fields=(*record.fields[:i], *(() if f is None else (f,)), *record.fields[i + 1 :]))


def _plus(record: Record, *fields: Field) -> Record:
    return replace(record, fields=(*record.fields, *fields))


def _set(f: Field, code: str, value: str | None) -> Field:
    """The field with its first subfield `code` changed, or dropped."""
    n = next(k for k, (c, _) in enumerate(f.subfields) if c == code)
    return replace(f, subfields=(*f.subfields[:n], *(() if value is None else ((code, value),)), *f.subfields[n + 1 :]))


def _coded(record: Record, start: int, text: str) -> Record | None:
    """100 $a overwritten from a position on."""
    for i in _where(record, "100"):
        if (old := record.fields[i].first("a")) and len(old) >= start + len(text):
            return _with(record, i, _set(record.fields[i], "a", old[:start] + text + old[start + len(text) :]))
    return None


def _drop(record: Record, *tags: str) -> Record | None:
    kept = tuple(f for f in record.fields if f.tag not in tags)
    return replace(record, fields=kept) if len(kept) < len(record.fields) else None


def _indicator(record: Record, rng: random.Random, tags: Sequence[str], indicators: str) -> Record | None:
    """One of these fields with indicators no table has; a dot keeps the old one."""
    found = _where(record, *tags)
    if not found:
        return None
    i = rng.choice(found)
    old = record.fields[i].indicators
    return _with(
        record,
        i,
        replace(
            record.fields[i], indicators="".join(o if n == "." else n for o, n in zip(old, indicators, strict=True))
        ),
    )


def _in_xml(pattern: str, to: str) -> Edit:
    """A fault that only XML can carry: one substitution in the written record."""

    def edit(record: Record, rng: random.Random) -> str | None:
        xml = to_marcxml(record)
        found = list(re.finditer(pattern, xml))
        if not found:
            return None
        m = rng.choice(found)
        return xml[: m.start()] + m.expand(to) + xml[m.end() :]

    return edit


EDITS |= {
    "L0-01": _in_xml(r"</subfield>", "</subfeld>"),
    "L0-02": _in_xml(r"  <datafield", "  <note/>\n  <datafield"),
    "L0-03": _in_xml(r"  <leader>.*</leader>\n", ""),
    "L0-04": _in_xml(r'<datafield tag="(..).', r'<datafield tag="\g<1>'),
    "L0-05": _in_xml(r' ind2="[^"]*"', ""),
    "L0-06": _in_xml(r'<subfield code="."', '<subfield code="%"'),
    "L0-07": _in_xml(r"</datafield>", "</datafield><!-- note -->"),
    "L0-08": lambda record, rng: "Here is the record.\n" + to_marcxml(record),
    "L1-01": lambda record, rng: replace(record, leader=record.leader + " "),
    "L1-02": lambda record, rng: _drop(record, "001"),
    "L1-03": lambda record, rng: _drop(record, "100"),
    "L1-04": lambda record, rng: _drop(record, "200"),
    "L1-05": lambda record, rng: _drop(record, "801"),
    "L1-06": lambda record, rng: _drop(record, "101") if record.leader[6:7] in ("a", "b", "i") else None,
    "L1-07": lambda record, rng: _drop(record, "210", "214"),
    "L2-03": lambda record, rng: _plus(record, data("720", "  ", ("a", "Famille"), ("4", "070"))) if _where(record, "700") else None,
    "L2-06": lambda record, rng: _indicator(record, rng, ("210", "214"), "7."),
    "L2-07": lambda record, rng: _indicator(record, rng, ("215",), "7."),
    "L2-08": lambda record, rng: _indicator(record, rng, ("010",), "7."),
    "L2-10": lambda record, rng: _indicator(record, rng, ("801",), ".7"),
    "L2-04": lambda record, rng: _indicator(record, rng, ("100", "102"), "7."),
    "L2-05": lambda record, rng: _indicator(record, rng, ("200",), "7."),
    "L3-02": lambda record, rng: _longer(record),
    "L3-03": lambda record, rng: _coded(record, 4, "1332"),
    "L3-04": lambda record, rng: _coded(record, 8, "#"),
    "L3-05": lambda record, rng: _coded(record, 9, "xxxx"),
    "L3-06": lambda record, rng: _coded(record, 20, rng.choice("35#")),
    "L3-07": lambda record, rng: _coded(record, 22, "qqq"),
}  # fmt: skip


def _longer(record: Record) -> Record | None:
    for i in _where(record, "100"):
        if old := record.fields[i].first("a"):
            return _with(record, i, _set(record.fields[i], "a", old + " "))
    return None


@_edit("L2-01")
def _foreign_code(record: Record, rng: random.Random) -> Record | None:
    found = _where(record, "205", "225", "300", "330", "606", "610")
    if not found:
        return _plus(record, data("300", "7 ", ("a", "Index")))
    i = rng.choice(found)
    return _with(record, i, replace(record.fields[i], subfields=(*record.fields[i].subfields, ("q", "x"))))


@_edit("L2-02")
def _second_single(record: Record, rng: random.Random) -> Record | None:
    for i in _where(record, "101"):
        return _plus(record, replace(record.fields[i], subfields=(*record.fields[i].subfields, ("d", "eng"))))
    return None


@_edit("L2-09")
def _no_such_indicator(record: Record, rng: random.Random) -> Record | None:
    return _indicator(record, rng, ("700", "701", "702", "710", "711", "712"), ".7")


@_edit("L2-11")
def _loose_value(record: Record, rng: random.Random) -> Record | None:
    found = _where(record, "205", "215", "225", "300", "330", "606", "610")
    if not found:
        return None
    i = rng.choice(found)
    code, value = record.fields[i].subfields[0]
    return _with(record, i, _set(record.fields[i], code, f" {value}"))


@_edit("L3-01")
def _leader_code(record: Record, rng: random.Random) -> Record | None:
    at = rng.choice((5, 8, 9, 10, 11, 17, 18, 19))
    return (
        replace(record, leader=record.leader[:at] + "z" + record.leader[at + 1 :]) if len(record.leader) == 24 else None
    )


@_edit("L3-08")
def _no_such_code(record: Record, rng: random.Random) -> Record | None:
    found = _where(record, "801")
    if not found:
        return None
    i = rng.choice(found)
    return _with(record, i, _set(record.fields[i], "a", "QQ")) if record.fields[i].first("a") else None


@_edit("L3-09")
def _check_digit(record: Record, rng: random.Random) -> Record | None:
    for i in _where(record, "010", "011"):
        value = record.fields[i].first("a")
        if value and value[-1] in "0123456789Xx":
            wrong = "1" if value[-1] in "Xx" else str((int(value[-1]) + rng.randrange(1, 10)) % 10)
            return _with(record, i, _set(record.fields[i], "a", value[:-1] + wrong))
    return None


@_edit("L3-10")
def _no_such_day(record: Record, rng: random.Random) -> Record | None:
    for i in _where(record, "801"):
        if record.fields[i].first("c"):
            return _with(record, i, _set(record.fields[i], "c", "20219999"))
    for i in _where(record, "700", "701", "702", "710"):
        if record.fields[i].first("4"):
            return _with(record, i, _set(record.fields[i], "4", "aut"))
    return None


@_edit("L4-01")
def _other_year(record: Record, rng: random.Random) -> Record | None:
    for i in _where(record, "210", "214"):
        value = record.fields[i].first("d")
        if value and (m := re.search(r"[12][0-9]{3}", value)):
            year = str(int(m.group()) - rng.randrange(1, 9))
            return _with(record, i, _set(record.fields[i], "d", value[: m.start()] + year + value[m.end() :]))
    return None


@_edit("L4-02")
def _stranger(record: Record, rng: random.Random) -> Record | None:
    found = [i for i in _where(record, "700", "701", "702") if record.fields[i].first("a")]
    if not found:
        return None
    i = rng.choice(found)
    return _with(record, i, _set(record.fields[i], "a", rng.choice(("Quillon", "Vasterberg", "Okonjo"))))


@_edit("L4-03")
def _translation_mark(record: Record, rng: random.Random) -> Record | None:
    for i in _where(record, "101"):
        f = record.fields[i]
        if f.indicators[0] == "0" and f.first("c") is None:
            return _with(record, i, replace(f, indicators="1" + f.indicators[1]))
        if f.indicators[0] == "1" and f.first("c") is not None:
            return _with(record, i, replace(f, indicators="0" + f.indicators[1]))
    return None


@_edit("L4-04")
def _title_language(record: Record, rng: random.Random) -> Record | None:
    title, codes = record.first("200", "a") or "", _where(record, "101")
    likely = likely_languages(title) if len(title) > 20 else frozenset()
    if not likely or not codes:
        return None
    other = next(code for code in ("fin", "tur", "hun") if code not in likely)
    return _with(record, codes[0], _set(record.fields[codes[0]], "a", other))


@_edit("L4-05")
def _serial_isbn(record: Record, rng: random.Random) -> Record | None:
    if record.leader[7:8] == "s":
        return _plus(record, data("010", "  ", ("a", "2-07-010796-5")))
    return None


@_edit("L4-06")
def _no_country(record: Record, rng: random.Random) -> Record | None:
    return _drop(record, "102") if _where(record, "210", "214") else None


@_edit("L4-07")
def _too_early(record: Record, rng: random.Random) -> Record | None:
    for i in _where(record, "801"):
        if record.fields[i].first("c"):
            return _with(record, i, _set(record.fields[i], "c", "18991231"))
    return None


@_edit("L4-08")
def _twice(record: Record, rng: random.Random) -> Record | None:
    found = _where(record, "010", "225", "300", "320", "330", "606", "610")
    return _plus(record, record.fields[rng.choice(found)]) if found else None


def corrupt(record: Record | str | bytes, rule: str, seed: int = 0) -> str:
    """MARCXML of the record with one rule broken; for L0-08 with prose before it.

    Raises UnknownRule for an id that names no rule, NotApplicable where this record cannot break it, RecordError for bad text.
    """
    if rule not in EDITS:
        raise UnknownRule(f"rule {rule!r} is unknown; rules are {', '.join(sorted(EDITS))}")
    record = record if isinstance(record, Record) else read(record)
    made = EDITS[rule](record, random.Random(f"{rule}:{seed}"))
    if made is None:
        raise NotApplicable(f"this record has nothing with which {rule} could be broken alone")
    return made if isinstance(made, str) else to_marcxml(made)


def wrong_fact(record: Record | str | bytes, seed: int = 0) -> str:
    """MARCXML of the record with one fact wrong and its form kept: a year (everywhere), an extent, or a word of the title."""
    record = record if isinstance(record, Record) else read(record)
    rng = random.Random(f"fact:{seed}")
    ways = [_wrong_year, _wrong_extent, _wrong_title]
    rng.shuffle(ways)
    for way in ways:
        made = way(record, rng)
        if made is not None:
            return to_marcxml(made)
    raise NotApplicable("this record has no year, extent or title to falsify")


def _wrong_year(record: Record, rng: random.Random) -> Record | None:
    changed = _other_year(record, rng)
    if changed is None:
        return None
    year = next(m.group() for f in changed.all("210", "214") for v in f.all("d") if (m := re.search("[12][0-9]{3}", v)))
    return _coded(changed, 9, year)


def _wrong_extent(record: Record, rng: random.Random) -> Record | None:
    for i in _where(record, "215"):
        value = record.fields[i].first("a") or ""
        if numbers := list(re.finditer(r"[0-9]{2,}", value)):
            m = rng.choice(numbers)
            other = str(int(m.group()) + rng.randrange(1, 90))
            return _with(record, i, _set(record.fields[i], "a", value[: m.start()] + other + value[m.end() :]))
    return None


def _wrong_title(record: Record, rng: random.Random) -> Record | None:
    for i in _where(record, "200"):
        words = (record.fields[i].first("a") or "").split()
        if len(words) > 2:
            n = rng.randrange(len(words) - 1)
            words[n], words[n + 1] = words[n + 1], words[n]
            return _with(record, i, _set(record.fields[i], "a", " ".join(words)))
    return None


def pairs(records: Sequence[Record], seed: int = 0) -> Iterator[tuple[str, Record, str]]:
    """``(rule or "fact", right record, faulty MARCXML)``: rules balanced over the records, and a wrong fact for each record.

    Walks the rules in turn, so each is used equally often where enough records allow it; L0-01 to L0-07 break any record.
    """
    rules = sorted(EDITS)
    turn = random.Random(seed).randrange(len(rules))
    for n, record in enumerate(records):
        for k in range(len(rules)):
            rule = rules[(turn + k) % len(rules)]
            try:
                faulty = corrupt(record, rule, seed + n)
            except NotApplicable:
                continue
            turn = (turn + k + 1) % len(rules)
            yield rule, record, faulty
            break
        yield "fact", record, wrong_fact(record, seed + n)
