"""L4, agreement between fields: years, names, languages, numbers, places, dates of work, repetition.

Source: the UNIMARC bibliographic manual's notes on related fields, restated. Places are judged only where the profile's table
knows them, languages only where the title leaves no doubt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from posttrain.rewards.unimarc.coded import real_date
from posttrain.rewards.unimarc.fold import fold, tokens
from posttrain.rewards.unimarc.language import likely_languages
from posttrain.rewards.unimarc.look import FILL, OK, Look, Seen, rule

_YEAR = re.compile(r"(?<![0-9])[12][0-9]{3}(?![0-9])")


@rule("L4-01")
def years(look: Look) -> Iterator[Seen]:
    coded = look.at(9, 13)
    found = [(i, m.group()) for i, v in look.values("d", "210", "214") if (m := _YEAR.search(v))]
    if not found or not coded:
        return
    if not coded.strip(FILL):
        yield Seen(None, "100/9-12 is fill", "info", "a", "9-12", coded, found[0][1], "100")
    elif any(year == coded for _, year in found):
        yield Seen(found[0][0])
    else:
        i, year = found[0]
        tag = look.record.fields[i].tag
        yield Seen(i, f"{tag} $d has {year}, 100/9-12 has {coded}", None, "d", None, year, coded)


@rule("L4-02")
def surnames(look: Look) -> Iterator[Seen]:
    persons = [(i, f) for i, f in look.all("700", "701", "702") if f.first("a")]
    if not persons:
        return
    named = "".join(tokens(v) for code in "fg" for _, v in look.values(code, "200"))
    for i, f in persons:
        name = tokens(f.first("a") or "")
        if name in named or (not name.strip()):
            yield Seen(i)
        else:
            yield Seen(
                i, f"{f.tag} $a {f.first('a')!r} is named in neither 200 $f nor $g", None, "a", None, f.first("a")
            )


@rule("L4-03")
def original_language(look: Look) -> Iterator[Seen]:
    for i, f in look.all("101"):
        has = f.first("c") is not None
        if f.indicators[0] == "1":
            yield Seen(i) if has else Seen(i, "101 marks a translation but lacks $c", subfield="c")
        elif f.indicators[0] == "0":
            yield Seen(i, "101 marks an original but has $c", subfield="c", found=f.first("c")) if has else Seen(i)


@rule("L4-04")
def title_language(look: Look) -> Iterator[Seen]:
    title = next((v for _, v in look.values("a", "200")), "")
    codes = [v for _, v in look.values("a", "101")]
    if len(title) <= 20 or not codes or any(True for _ in look.values("g", "101")):
        return
    likely = likely_languages(title)
    if likely:
        message = f"200 $a reads like {sorted(likely)[0]}, 101 $a says {codes[0]}"
        yield (
            OK
            if likely & set(codes)
            else Seen(None, message, None, "a", None, codes[0], " ".join(sorted(likely)), "101")
        )


@rule("L4-05")
def kind_of_record(look: Look) -> Iterator[Seen]:
    serial = look.leader[7:8] == "s"
    if serial:
        for i, _ in look.all("010"):
            yield Seen(i, "010 on a serial, which has 011", found="010", expected="011")
        for i, _ in look.all("011"):
            yield Seen(i)
    if look.leader[6:7] == "e":
        scale = any(tag in look.by_tag for tag in ("123", "206"))
        yield OK if scale else Seen(None, "a map without mathematical data in 123 or 206", "warning", tag="206")


@rule("L4-06")
def country(look: Look) -> Iterator[Seen]:
    places = [(i, v) for i, v in look.values("a", "210", "214") if fold(v)]
    if not places:
        return
    codes = {v for _, v in look.values("a", "102")}
    if not codes:
        yield Seen(None, f"a place of publication ({places[0][1]}) without 102", tag="102", expected="102")
        return
    known = [(i, v, look.profile.places[fold(v)]) for i, v in places if fold(v) in look.profile.places]
    for i, value, plausible in known[:1]:
        if codes & plausible:
            yield Seen(i)
        else:
            expected = " or ".join(sorted(plausible))
            yield Seen(None, f"102 $a {sorted(codes)} does not suit {value}", None, "a", None, value, expected, "102")


@rule("L4-07")
def dates_of_work(look: Look) -> Iterator[Seen]:
    entered = look.at(0, 8)
    if not real_date(entered):
        return
    for i, f in look.all("005"):
        if f.value and real_date(f.value[:8]):
            late = f.value[:8] >= entered
            yield (
                Seen(i)
                if late
                else Seen(i, f"005 {f.value[:8]} lies before 100/0-7 {entered}", None, None, "0-7", f.value[:8])
            )
    for i, value in look.values("c", "801"):
        if real_date(value):
            late = value >= entered
            yield (
                Seen(i)
                if late
                else Seen(i, f"801 $c {value} lies before 100/0-7 {entered}", None, "c", None, value, entered)
            )


@rule("L4-08")
def repetition(look: Look) -> Iterator[Seen]:
    known: set[object] = set()
    for i, f in enumerate(look.record.fields):
        if f.is_control:
            key: object = (f.tag, f.value)
        elif f.tag[0] in "36":
            key = (f.tag[0], tuple((c, fold(v)) for c, v in f.subfields if c not in "2356789"))
        else:
            key = (f.tag, f.indicators, f.subfields)
        if key in known:
            yield Seen(i, f"{f.tag} repeats another field", found=f.value if f.is_control else f.subfields[0][1])
        else:
            known.add(key)
            yield Seen(i)
