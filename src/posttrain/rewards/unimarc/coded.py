"""L3, coded values: the leader, 100 $a, language and country codes, numbers with check digits, dates.

The fill character is legal in coded data and earns nothing (severity "info"). Check digits: ISBN-10 ``sum (11-i) d_i = 0 mod 11``
with X = 10 last, ISBN-13 weights 1, 3 ``= 0 mod 10`` (ISO 2108); ISSN weights 8..2 mod 11 (ISO 3297).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from posttrain.rewards.unimarc.look import FILL, OK, Look, Seen, rule

_YEAR = re.compile(r"[0-9][0-9 |]{3}")


def real_date(text: str) -> bool:
    """Is this YYYYMMDD of a day that exists?"""
    if not (len(text) == 8 and text.isascii() and text.isdigit()):
        return False
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return False
    return True


def isbn_valid(text: str) -> bool:
    """Does an ISBN, hyphens and spaces apart, have the right length and check digit?"""
    digits = text.replace("-", "").replace(" ", "")
    if re.fullmatch(r"[0-9]{9}[0-9Xx]", digits):
        return sum((10 - i) * (10 if d in "Xx" else int(d)) for i, d in enumerate(digits)) % 11 == 0
    if re.fullmatch(r"97[89][0-9]{10}", digits):
        return sum((1, 3)[i % 2] * int(d) for i, d in enumerate(digits)) % 10 == 0
    return False


def issn_valid(text: str) -> bool:
    """Does an ISSN (hyphen optional) have the right check digit?"""
    digits = text.replace("-", "")
    if not re.fullmatch(r"[0-9]{7}[0-9Xx]", digits):
        return False
    return sum((8 - i) * (10 if d in "Xx" else int(d)) for i, d in enumerate(digits)) % 11 == 0


@rule("L3-01")
def leader(look: Look) -> Iterator[Seen]:
    text = look.leader
    for at, accepted in look.profile.leader.items():
        found = text[at : at + 1]
        yield OK if found in accepted and found else _leader_fault(str(at), found, " ".join(sorted(accepted)))
    for start, stop in ((0, 5), (12, 17)):
        found = text[start:stop]
        good = found and not found.strip(" 0123456789")
        yield OK if good else _leader_fault(f"{start}-{stop - 1}", found, "digits or blanks")
    yield OK if text[22:24] in ("  ", "0 ", "00") else _leader_fault("22-23", text[22:24], "blanks")


def _leader_fault(place: str, found: str, expected: str) -> Seen:
    fill = "info" if found and not found.strip(FILL) else None
    return Seen(None, f"leader/{place} is {found!r}", fill, None, place, found, expected, "LDR")


@rule("L3-02")
def coded_length(look: Look) -> Iterator[Seen]:
    if look.coded is not None:
        n = len(look.coded)
        if n == 36 and not look.coded.strip(FILL):
            yield Seen(None, "100 $a is all fill", "info", "a", tag="100")
        else:
            yield OK if n == 36 else Seen(None, f"100 $a has {n} characters", None, "a", None, str(n), "36", "100")


@rule("L3-03")
def entered(look: Look) -> Iterator[Seen]:
    if look.coded is not None:
        today = look.profile.today
        yield look.code_100(0, 8, lambda t: real_date(t) and t <= today, "a date YYYYMMDD, not in the future")


@rule("L3-04")
def date_type(look: Look) -> Iterator[Seen]:
    if look.coded is not None:
        later = "warning" if re.fullmatch("[k-z]", look.at(8, 9)) else "error"
        types = look.profile.coded["types_of_date"]
        yield look.code_100(8, 9, lambda t: t in types, "a type of date a-j", severity=later)


def _dates_agree(kind: str, first: str, second: str) -> bool:
    if kind == "d":
        return bool(_YEAR.fullmatch(first)) and not second.strip()
    if kind in "abg":
        return bool(_YEAR.fullmatch(first) and _YEAR.fullmatch(second)) and second >= first
    if kind in "ehi":
        return bool(_YEAR.fullmatch(first) and _YEAR.fullmatch(second))
    if kind == "f":
        return bool(_YEAR.fullmatch(first)) and (
            not second.strip() or (bool(_YEAR.fullmatch(second)) and second >= first)
        )
    return bool(_YEAR.fullmatch(first)) and (not second.strip() or bool(re.fullmatch("[0-9 |]{4}", second)))


@rule("L3-05")
def dates(look: Look) -> Iterator[Seen]:
    if look.coded is None:
        return
    kind, first, second = look.at(8, 9), look.at(9, 13), look.at(13, 17)
    both = first + second
    if FILL in both and not both.replace(FILL, "").strip():
        yield Seen(None, "100/9-16 is all fill", "info", "a", "9-16", both, "years", "100")
    elif len(both) == 8 and _dates_agree(kind, first, second):
        yield OK
    else:
        soft = None if kind and kind in "abdefghi" else "warning"
        message = f"100/9-16 {first!r} {second!r} do not suit type of date {kind!r}"
        yield Seen(None, message, soft, "a", "9-16", both, "years that suit the type of date", "100")


@rule("L3-06")
def small_codes(look: Look) -> Iterator[Seen]:
    if look.coded is None:
        return
    coded = look.profile.coded
    for at, table in ((17, "audience"), (18, "audience"), (19, "audience"), (20, "government"), (21, "modified")):
        accepted = coded[table]
        yield look.code_100(at, at + 1, accepted.__contains__, f"one of {' '.join(sorted(accepted)).strip()}")
    accepted = coded["transliteration"]
    yield look.code_100(25, 26, lambda t: t in accepted, f"one of {' '.join(sorted(accepted))}")


@rule("L3-07")
def language_characters_script(look: Look) -> Iterator[Seen]:
    if look.coded is None:
        return
    p = look.profile
    yield look.code_100(22, 25, lambda t: t in p.languages, "an ISO 639-2 code")

    def characters(text: str) -> bool:
        return (
            len(text) == 4
            and text[:2] in p.coded["characters"]
            and (text[2:] == "  " or text[2:] in p.coded["characters"])
        )

    yield look.code_100(26, 30, characters, "character sets, 50 and two blanks for Unicode")
    yield look.code_100(34, 36, lambda t: t in p.coded["scripts"], "a script, ba for Latin")


def _codes(look: Look, tag: str, codes: str, accepted: frozenset[str], expected: str) -> Iterator[Seen]:
    for i, f in look.all(tag):
        for code, value in f.subfields:
            if code not in codes:
                continue
            if value and not value.strip(FILL):
                yield Seen(i, f"{tag} ${code} is fill", "info", code, None, value, expected)
            elif value in accepted:
                yield Seen(i)
            else:
                yield Seen(i, f"{tag} ${code} {value!r} is not {expected}", None, code, None, value, expected)


@rule("L3-08")
def codes_of_lists(look: Look) -> Iterator[Seen]:
    p = look.profile
    if not any(f.indicators[1] == "7" for _, f in look.all("101")):
        yield from _codes(look, "101", "abcdefghij", p.languages, "an ISO 639-2 code")
    yield from _codes(look, "102", "a", p.countries, "an ISO 3166-1 code")
    yield from _codes(look, "801", "a", p.countries, "an ISO 3166-1 code")


@rule("L3-09")
def check_digits(look: Look) -> Iterator[Seen]:
    for i, value in look.values("a", "010"):
        wanted = 4 if len(value.replace("-", "").replace(" ", "")) == 13 else 3
        if not isbn_valid(value):
            yield Seen(
                i,
                f"010 $a {value!r} fails the ISBN check; $z is for wrong numbers",
                None,
                "a",
                None,
                value,
                "a valid ISBN",
            )
        elif value.count("-") != wanted:
            yield Seen(i, f"010 $a {value!r} lacks its hyphens", "warning", "a", None, value, f"{wanted} hyphens")
        else:
            yield Seen(i)
    for i, value in look.values("a", "011"):
        if not issn_valid(value):
            yield Seen(
                i,
                f"011 $a {value!r} fails the ISSN check; $z is for wrong numbers",
                None,
                "a",
                None,
                value,
                "a valid ISSN",
            )
        else:
            hyphen = value[4:5] == "-"
            yield (
                Seen(i)
                if hyphen
                else Seen(i, f"011 $a {value!r} lacks its hyphen", "warning", "a", None, value, "NNNN-NNNN")
            )


def _stamp(text: str, fraction: str) -> bool:
    clock = text[8:14]
    return (
        bool(re.fullmatch(rf"[0-9]{{14}}\.[0-9]{{{fraction}}}", text))
        and real_date(text[:8])
        and clock[:2] < "24"
        and clock[2:4] < "60"
        and clock[4:] < "60"
    )


@rule("L3-10")
def stamps_and_relators(look: Look) -> Iterator[Seen]:
    for i, f in look.all("005"):
        good = _stamp(f.value or "", look.profile.switches["fraction_digits"])
        yield Seen(i) if good else Seen(i, "005 is no YYYYMMDDHHMMSS.T", found=f.value, expected="YYYYMMDDHHMMSS.T")
    for i, value in look.values("c", "801"):
        if value and not value.strip(FILL):
            yield Seen(i, "801 $c is fill", "info", "c", None, value)
        else:
            yield (
                Seen(i)
                if real_date(value)
                else Seen(i, f"801 $c {value!r} is no date", None, "c", None, value, "YYYYMMDD")
            )
    for i, f in look.all("700", "701", "702", "710", "711", "712", "716", "720", "721", "722", "730"):
        for value in f.all("4"):
            if value and not value.strip(FILL):
                yield Seen(i, f"{f.tag} $4 is fill", "info", "4", None, value)
            elif not re.fullmatch("[0-9]{3}", value):
                yield Seen(i, f"{f.tag} $4 {value!r} is not three digits", None, "4", None, value, "three digits")
            elif value not in look.profile.relators:
                yield Seen(i, f"{f.tag} $4 {value!r} is not in the relator table", "warning", "4", None, value)
            else:
                yield Seen(i)
