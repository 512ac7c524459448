"""L1, mandatory parts, and L2, indicators, subfields and repetition.

Field order is free in UNIMARC and never judged; the order inside 200 follows the description. Source: UNIMARC bibliographic
manual, restated; the tables are the profile's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from posttrain.rewards.unimarc.fields import Field
from posttrain.rewards.unimarc.lines import CODED
from posttrain.rewards.unimarc.look import OK, Look, Seen, rule

SINGLE = ("001", "005", "100", "101", "102", "200", "700", "710", "720")
ACCESS = ("700", "701", "702", "710", "711", "712", "720", "721", "722")
PERSONS = ("700", "701", "702")
_OWN_RULE = {"100", "101", "102", "200", "210", "214", "215", "010", "801", *ACCESS}
_TYPED = re.compile(r"\s[/:;=]$|[/:;=,]$|^[/:;=,]|^\.\s")
_RANK = {"b": 1, "e": 2, "f": 3, "g": 4}


def _missing(tag: str, message: str, subfield: str | None = None) -> Seen:
    return Seen(None, message, subfield=subfield, tag=tag)


@rule("L1-01")
def leader_length(look: Look) -> Iterator[Seen]:
    n = len(look.leader)
    yield OK if n == 24 else Seen(None, f"leader has {n} characters", found=str(n), expected="24", tag="LDR")


@rule("L1-02")
def record_number(look: Look) -> Iterator[Seen]:
    found = look.by_tag.get("001", [])
    good = len(found) == 1 and (found[0][1].value or "").strip()
    yield (
        OK if good else _missing("001", f"001 occurs {len(found)} times or is empty; it is present once, with a value")
    )


@rule("L1-03")
def general_data(look: Look) -> Iterator[Seen]:
    found = look.by_tag.get("100", [])
    good = len(found) == 1 and found[0][1].first("a")
    yield (
        OK if good else _missing("100", f"100 occurs {len(found)} times or lacks $a; it is present once, with $a", "a")
    )


@rule("L1-04")
def title_present(look: Look) -> Iterator[Seen]:
    found = look.by_tag.get("200", [])
    good = len(found) == 1 and any(v.strip() for v in found[0][1].all("a"))
    yield (
        OK
        if good
        else _missing("200", f"200 occurs {len(found)} times or lacks $a; it is present once, with a title", "a")
    )


@rule("L1-05")
def agency_present(look: Look) -> Iterator[Seen]:
    good = any((f.first("a") or "").strip() and (f.first("b") or "").strip() for _, f in look.all("801"))
    yield OK if good else _missing("801", "801 with $a and $b is missing")


@rule("L1-06")
def language_present(look: Look) -> Iterator[Seen]:
    if look.leader[6:7] in ("a", "b", "i"):
        good = any(v.strip() for _, v in look.values("a", "101"))
        yield OK if good else _missing("101", "101 $a is missing although the work has language", "a")


@rule("L1-07")
def publication_present(look: Look) -> Iterator[Seen]:
    tags = look.by_tag.keys() & {"210", "214"}
    if not tags:
        yield _missing("214", "neither 210 nor 214 is present")
    elif look.profile.switches.get("prefer_214") and "214" not in tags:
        yield Seen(None, "210 is present where this profile prefers 214", "warning", tag="210")
    else:
        yield OK


def _by_table(look: Look, i: int, f: Field) -> Seen:
    """Judge indicators and codes of one field by the profile's table, which must have the tag."""
    table = look.profile.tags[f.tag]
    for n, accepted in enumerate((table.ind1, table.ind2)):
        if accepted is not None and f.indicators[n] not in accepted:
            expected = " ".join("blank" if c == " " else c for c in sorted(accepted))
            found = f.indicators[n]
            return Seen(
                i, f"{f.tag} indicator {n + 1} is {found!r}", position=f"ind{n + 1}", found=found, expected=expected
            )
    for code, value in f.subfields:
        if code not in table.codes:
            return Seen(i, f"{f.tag} has no subfield ${code}", subfield=code, found=value)
    return Seen(i)


@rule("L2-01")
def tables(look: Look) -> Iterator[Seen]:
    known, unjudged = look.profile.tags, look.profile.unjudged
    for i, f in enumerate(look.record.fields):
        if f.is_control or f.tag[0] == "9" or f.tag in _OWN_RULE:
            continue
        if f.tag in unjudged:
            yield Seen(i)
        elif f.tag not in known:
            yield Seen(i, f"tag {f.tag} is unknown", "warning", found=f.tag)
        else:
            yield _by_table(look, i, f)


@rule("L2-02")
def single_fields(look: Look) -> Iterator[Seen]:
    for tag in SINGLE:
        n = len(look.by_tag.get(tag, ()))
        if n == 1:
            yield Seen(look.by_tag[tag][0][0])
        elif n > 1:
            yield Seen(None, f"{tag} occurs {n} times", found=str(n), expected="1", tag=tag)


@rule("L2-03")
def one_main_entry(look: Look) -> Iterator[Seen]:
    tags = [tag for tag in ("700", "710", "720") if tag in look.by_tag]
    if tags:
        first = look.by_tag[tags[0]][0][0]
        yield Seen(first) if len(tags) == 1 else Seen(first, f"{' and '.join(tags)} exclude each other", tag=tags[1])


@rule("L2-04")
def coded_fields(look: Look) -> Iterator[Seen]:
    for i, f in look.all("100", "101", "102"):
        seen = _by_table(look, i, f)
        if seen.message is None and f.tag == "101" and (f.indicators[1] == "7") != ("2" in dict(f.subfields)):
            seen = Seen(i, "101 second indicator 7 and $2 go together", position="ind2", found=f.indicators[1])
        elif seen.message is None and f.tag == "101" and f.indicators[0] == "|":
            seen = Seen(i, "101 first indicator is fill", "info", position="ind1", found="|")
        elif seen.message is None and f.tag == "102" and not f.first("a"):
            seen = Seen(i, "102 lacks $a", subfield="a")
        yield seen


@rule("L2-05")
def title(look: Look) -> Iterator[Seen]:
    for i, f in look.all("200"):
        seen = _by_table(look, i, f)
        yield seen if seen.message else _title_order(i, f)


def _title_order(i: int, f: Field) -> Seen:
    """$a first; within one title $b before $e before $f before $g. A new title or part ($a c d h i) begins anew."""
    if f.subfields[0][0] not in "a56":
        return Seen(i, "200 begins with something else than $a", "warning", f.subfields[0][0], expected="a")
    rank = 0
    for code, _ in f.subfields:
        if code in "acdhi":
            rank = 0
        elif code in _RANK:
            if _RANK[code] < rank:
                return Seen(i, f"200 ${code} comes too late", "warning", code)
            rank = _RANK[code]
    return Seen(i)


@rule("L2-06")
def publication(look: Look) -> Iterator[Seen]:
    for i, f in look.all("210", "214"):
        yield _by_table(look, i, f)


@rule("L2-07")
def extent(look: Look) -> Iterator[Seen]:
    for i, f in look.all("215"):
        yield _by_table(look, i, f)


@rule("L2-08")
def isbn_field(look: Look) -> Iterator[Seen]:
    for i, f in look.all("010"):
        yield _by_table(look, i, f)


@rule("L2-09")
def access_points(look: Look) -> Iterator[Seen]:
    switches = look.profile.switches
    for i, f in look.all(*ACCESS):
        seen = _by_table(look, i, f)
        if seen.message:
            yield seen
        elif not f.first("a") and not (switches["link_instead_of_name"] and f.first("3")):
            yield Seen(i, f"{f.tag} lacks $a", subfield="a")
        elif f.tag in PERSONS and f.first("b") and f.indicators[1] == "0":
            yield Seen(i, f"{f.tag} has $b, so its second indicator is 1", position="ind2", found="0", expected="1")
        elif switches["relator_required"] and not f.first("4"):
            yield Seen(i, f"{f.tag} lacks the relator $4 that this profile requires", subfield="4")
        else:
            yield seen


@rule("L2-10")
def agency(look: Look) -> Iterator[Seen]:
    for i, f in look.all("801"):
        seen = _by_table(look, i, f)
        if not seen.message and f.first("g") and f.indicators[1] not in "02":
            seen = Seen(i, "801 $g belongs to second indicators 0 and 2", "warning", "g")
        yield seen


@rule("L2-11")
def clean_values(look: Look) -> Iterator[Seen]:
    for i, f in enumerate(look.record.fields):
        if not f.is_control and f.tag not in CODED:
            yield _clean(i, f)


def _clean(i: int, f: Field) -> Seen:
    typed: Seen | None = None
    for code, value in f.subfields:
        if not value.strip():
            return Seen(i, f"{f.tag} ${code} is empty", subfield=code)
        if value[0].isspace() or value[-1].isspace():
            return Seen(i, f"{f.tag} ${code} has leading or trailing spaces", subfield=code, found=value)
        if f.tag in ("200", "210", "214", "215") and _TYPED.search(value):
            message = f"{f.tag} ${code} carries punctuation that systems generate"
            typed = typed or Seen(i, message, "warning", code, found=value)
    return typed or Seen(i)
