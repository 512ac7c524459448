"""Record forms: lossless in all three, safe on hostile input, one clear line on bad input."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from posttrain.rewards.unimarc import record as r

LEGAL = st.characters(exclude_categories=("Cs",), exclude_characters="".join(map(chr, range(32))) + "\ufffe\uffff")
VALUE = st.text(st.one_of(LEGAL, st.sampled_from("$#\\x|5C24 \n\r\t\u0088\u0089\u2028\x85<&>\"'")), max_size=30)
ONE = st.one_of(LEGAL, st.sampled_from("#$ |\\\n\r\t"))
DATA = st.builds(
    lambda tag, a, b, subs: r.Field(tag, a + b, tuple(subs)),
    st.sampled_from(["010", "100", "105", "110", "200", "606", "7A0", "ZZZ"]),
    ONE,
    ONE,
    st.lists(st.tuples(st.sampled_from("abcz09"), VALUE), min_size=1, max_size=4),
)
CONTROL = st.builds(r.control, st.sampled_from(["001", "005", "00A"]), VALUE)
RECORD = st.builds(
    lambda leader, fields: r.Record(leader, tuple(fields)), VALUE, st.lists(st.one_of(DATA, CONTROL), max_size=6)
)
AWKWARD = r.Record(
    "     nam# 22     1  450 ",
    (
        r.control("001", " \\x24 "),
        r.data("100", "  ", ("a", "x#  \\x23 ")),
        r.data("200", "#$", ("a", "\\$\\x5C\\x5Cx24 \r\n "), ("b", "")),
    ),
)


@settings(max_examples=120, deadline=None)
@given(RECORD)
@example(AWKWARD)
@example(r.Record(""))
def test_three_forms_round_trip(record):
    assert r.from_lines(r.to_lines(record)) == record
    assert r.from_text(r.to_text(record)) == record
    assert r.from_marcxml(r.to_marcxml(record)) == record
    for write in (r.to_lines, r.to_text, r.to_marcxml):
        assert r.read(write(record)) == record


def test_ordinary_text_needs_no_escape():
    field = r.data("200", "1 ", ("a", "C# & \\delta < 5 € # 1"), ("f", "A. B."))
    record = r.Record("     nam0 22     1  450 ", (r.control("001", "x1"), r.data("100", "  ", ("a", "ab  c")), field))
    expected = "LDR #####nam0#22#####1##450#\n001 x1\n100 ##$aab##c\n200 1#$aC# & \\delta < 5 € # 1$fA. B."
    assert r.to_lines(record) == expected
    assert r.to_text(record).splitlines()[0] == "LEADER      nam0 22     1  450 "


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.binary(), st.text("<>record/leader \n$LDR01a#", max_size=80)))
def test_reading_raises_record_errors_only(text):
    try:
        r.read(text)
    except r.RecordError as error:
        assert error.rule.startswith("L0-") and "\n" not in str(error)


BOMB = '<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><record><leader>&b;</leader></record>'


@pytest.mark.parametrize(
    ("xml", "rule"),
    [
        (BOMB, "L0-01"),
        ("<record><leader>x</leader>", "L0-01"),
        ("<?xml-stylesheet href='x'?><record><leader>x</leader></record>", "L0-01"),
        ("<record><leader>&nbsp;</leader></record>", "L0-01"),
        ("<record>" * 40 + "</record>" * 40, "L0-02"),
        ("<record>" + "x" * 10_000_000 + "</record>", "L0-01"),
        ("<record xmlns='urn:other'><leader>x</leader></record>", "L0-02"),
        ("<collection><record><leader>x</leader></record><record><leader>x</leader></record></collection>", "L0-02"),
        ("<collection/>", "L0-02"),
        ("<record/>", "L0-03"),
        ("<record><leader>x</leader><leader>x</leader></record>", "L0-03"),
        (
            "<record><leader>x</leader><datafield tag='001' ind1=' ' ind2=' '><subfield code='a'>x</subfield></datafield></record>",
            "L0-04",
        ),
        ("<record><leader>x</leader><controlfield tag='200'>x</controlfield></record>", "L0-04"),
        (
            "<record><leader>x</leader><datafield tag='20' ind1=' ' ind2=' '><subfield code='a'>x</subfield></datafield></record>",
            "L0-04",
        ),
        (
            "<record><leader>x</leader><datafield tag='200' ind1=' '><subfield code='a'>x</subfield></datafield></record>",
            "L0-05",
        ),
        (
            "<record><leader>x</leader><datafield tag='200' ind1='  ' ind2=' '><subfield code='a'>x</subfield></datafield></record>",
            "L0-05",
        ),
        ("<record><leader>x</leader><datafield tag='200' ind1=' ' ind2=' '/></record>", "L0-06"),
        (
            "<record><leader>x</leader><datafield tag='200' ind1=' ' ind2=' '><subfield>x</subfield></datafield></record>",
            "L0-06",
        ),
        ("<record><leader>x</leader><!-- y --></record>", "L0-07"),
        ("<record><leader><![CDATA[x]]></leader></record>", "L0-07"),
        ("<record>word<leader>x</leader></record>", "L0-07"),
    ],
)
def test_hostile_or_broken_xml_is_refused_quickly(xml, rule):
    begin = time.perf_counter()
    with pytest.raises(r.RecordError) as caught:
        r.from_marcxml(xml)
    assert caught.value.rule == rule
    assert time.perf_counter() - begin < 0.05


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("LDR x\nhello there", "L0-01"),
        ("LDR x\n\n200 1#$aT", "L0-01"),
        ("200 1#$aT", "L0-03"),
        ("LDR x\nLDR x", "L0-03"),
        ("LDR x\n200 1$aT", "L0-05"),
        ("LDR x\n200 1#", "L0-06"),
        ("LDR x\n200 1#$", "L0-06"),
        ("LDR x\n200 1#$AT", "L0-06"),
        ("LDR x\n" + "\n".join(["300 ##$ax"] * 201), "L0-01"),
        ("LDR x\n300 ##" + "$ax" * 101, "L0-01"),
        ("LDR x\n300 ##$a" + "x" * 4001, "L0-01"),
        ("LDR x\n300 ##$a\x01", "L0-01"),
        ("LDR x\n300 ##$a\ud800", "L0-01"),
    ],
)
def test_broken_lines_name_their_rule(text, rule):
    with pytest.raises(r.RecordError, match=rule):
        r.from_lines(text)


def test_unwritable_records_are_refused_by_every_writer():
    for f in (
        r.Field("20", "  ", (("a", "x"),)),
        r.Field("200", " ", (("a", "x"),)),
        r.Field("200", "  "),
        r.Field("001", value="\x00"),
    ):
        for write in (r.to_lines, r.to_text, r.to_marcxml):
            with pytest.raises(ValueError, match="L0-0"):
                write(r.Record("x", (f,)))


def test_a_real_record_survives_all_forms():
    root = os.environ.get("POSTTRAIN_DATA")
    path = Path(root or "absent") / "unimarc" / "unimarc.mrctxt"
    if not path.exists():
        print("POSTTRAIN_DATA is not set or lacks unimarc/unimarc.mrctxt")
        pytest.skip("POSTTRAIN_DATA absent")
    text = path.read_text(encoding="utf-8")
    record = r.read(text)
    assert r.to_text(record) == text.strip("\n")
    assert record.first("200", "a") == "Zoologie" and record.first("001") == "000000124"
    assert r.read(r.to_lines(record)) == r.read(r.to_marcxml(record)) == record
