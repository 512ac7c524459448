"""Rules: each passes on a good record, is reported when it alone is broken, and never raises whatever it is given."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import make_records
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain.rewards.unimarc import corruption
from posttrain.rewards.unimarc import record as r
from posttrain.rewards.unimarc.coded import isbn_valid, issn_valid, real_date
from posttrain.rewards.unimarc.difference import diff
from posttrain.rewards.unimarc.grading import grade, validate
from posttrain.rewards.unimarc.language import likely_languages
from posttrain.rewards.unimarc.look import CHECKS
from posttrain.rewards.unimarc.profile import UnknownProfile, UnknownRule, known_profiles, load_profile

ROWS = [json.loads(line) for line in Path(__file__).with_name("records.jsonl").read_text(encoding="utf-8").splitlines()]
CLEAN = [row for row in ROWS if not row["issues"]]
RULES = sorted(corruption.EDITS)


def rules(text: str | r.Record, profile: str = "ifla") -> set[str]:
    return {issue.rule for issue in validate(text, profile)}


def test_fixtures_are_many_varied_and_honest_about_who_checked_them():
    assert len(ROWS) >= 60 and {row["language"] for row in ROWS} == {"fr", "en", "ru", "zh"}
    kinds = {"monograph", "translation", "multi-author", "corporate", "serial", "no-isbn"}
    assert kinds <= {row["kind"] for row in ROWS} and {row["checked"] for row in ROWS} == {"model"}
    assert len({row["id"] for row in ROWS}) == len(ROWS)
    assert make_records.rows() == ROWS, "run tests/rewards/unimarc/make_records.py"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_fixture_has_exactly_its_expected_issues(row):
    assert sorted(rules(row["record"])) == row["issues"]


@pytest.mark.parametrize("rule", RULES)
def test_corruption_breaks_its_rule_and_only_listed_consequences(rule):
    profile, broken = load_profile("bnf" if rule == "L1-07" else "ifla"), 0
    for row in CLEAN[::3]:
        before = rules(row["record"], profile.name)
        try:
            faulty = corruption.corrupt(row["record"], rule, seed=3)
        except corruption.NotApplicable:
            continue
        broken += 1
        assert rule in (after := rules(faulty, profile.name))
        assert after - before <= {rule, *profile.rules[rule].consequences}
        assert corruption.corrupt(row["record"], rule, seed=3) == faulty
    assert broken, f"no fixture can break {rule}"


def test_every_rule_of_the_profile_has_a_check_and_a_corruption():
    listed = set(load_profile("bnf").rules)
    assert listed == set(RULES) and listed - set(CHECKS) == {f"L0-0{n}" for n in range(1, 9)}


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(), st.binary(), st.text("LDR 0123456789$a#|<record>\n", max_size=120)))
def test_nothing_makes_validation_raise(text):
    assert all(issue.rule[:1] == "L" for issue in validate(text))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CLEAN), st.integers(0, 600), st.text(max_size=6))
def test_a_mangled_record_never_raises(row, cut, noise):
    text = row["record"]
    grade(text[: cut % len(text)] + noise + text[cut % len(text) + 2 :])
    grade(r.to_marcxml(r.read(text))[: cut * 3])


@settings(max_examples=80, deadline=None)
@given(
    st.text(" |0a9z", max_size=26),
    st.lists(
        st.tuples(
            st.sampled_from(["010", "011", "100", "101", "102", "200", "210", "215", "606", "700", "801"]),
            st.text(" 01|", min_size=2, max_size=2),
            st.lists(st.tuples(st.sampled_from("abcd4"), st.text(" 0129|aX-", max_size=40)), min_size=1, max_size=3),
        ),
        max_size=8,
    ),
)
def test_odd_but_structural_records_never_raise(leader, fields):
    made = r.Record(leader, tuple(r.data(tag, ind, *subs) for tag, ind, subs in fields))
    assert all(0 <= level <= 1 for level in grade(made).levels.values())


def test_check_digits_and_dates_against_known_values():
    assert isbn_valid("2-07-010796-5") and isbn_valid("978-0-306-40615-7") and isbn_valid("0-8044-2957-X")
    assert not isbn_valid("2-07-010796-6") and not isbn_valid("978-0-306-40615-8") and not isbn_valid("12345")
    assert issn_valid("0378-5955") and issn_valid("2434-561X") and not issn_valid("0378-5954")
    assert real_date("20240229") and not real_date("20230229") and not real_date("2024022٩")


def change(record: r.Record, tag: str, *subs: tuple[str, str], ind: str = "  ") -> r.Record:
    kept = tuple(f for f in record.fields if f.tag != tag)
    return replace(record, fields=(*kept, *((r.data(tag, ind, *subs),) if subs else ())))


BASE = r.read(CLEAN[0]["record"])
CODED = BASE.first("100", "a") or ""


@pytest.mark.parametrize(
    ("changed", "rule", "severity"),
    [
        (change(BASE, "XYZ", ("a", "x")), "L2-01", "warning"),
        (change(BASE, "996", ("a", "x"), ind="99"), None, None),
        (change(BASE, "101", ("a", "fre"), ind="| "), "L2-04", "info"),
        (change(BASE, "101", ("a", "fre"), ("c", "eng"), ind="0 "), "L4-03", "error"),
        (change(BASE, "101", ("a", "|||"), ind="0 "), "L3-08", "info"),
        (change(BASE, "102", ("a", "XX")), "L4-06", "warning"),
        (change(BASE, "102", ("b", "75")), "L2-04", "error"),
        (change(BASE, "010", ("a", "9782070107969")), "L3-09", None),
        (change(BASE, "215", ("a", "254 p. :"), ("d", "27 cm")), "L2-11", "warning"),
        (change(BASE, "801", ("a", "FR"), ("b", "X"), ("g", "AFNOR"), ind=" 3"), "L2-10", "warning"),
        (change(BASE, "100", ("a", CODED[:8] + "z" + CODED[9:])), "L3-04", "warning"),
        (change(BASE, "100", ("a", "99991231" + CODED[8:])), "L3-03", "error"),
        (change(BASE, "100", ("a", CODED[:8] + "a20102001" + CODED[17:])), "L3-05", "error"),
        (change(BASE, "100", ("a", "|" * 36)), "L3-02", "info"),
        (change(BASE, "700", ("a", "Lormeau"), ("b", "Basile"), ("4", "070"), ind=" 0"), "L2-09", "error"),
        (replace(BASE, leader=BASE.leader[:6] + "e" + BASE.leader[7:]), "L4-05", "warning"),
    ],
)
def test_single_findings(changed, rule, severity):
    issues = validate(changed)
    if rule is None:
        assert not issues
    else:
        assert any(i.rule == rule and severity in (None, i.severity) for i in issues), issues


def test_profiles_differ_where_they_say_so():
    named = change(BASE, "700", ("a", "Lormeau"), ("b", "Basile"), ind=" 1")
    linked = change(BASE, "700", ("3", "027158241"), ("4", "070"), ind=" 1")
    assert "L2-09" not in rules(named) and "L2-09" in rules(named, "sudoc")
    assert "L2-09" in rules(linked) and "L2-09" not in rules(linked, "sudoc")
    unpublished = change(change(BASE, "210"), "214")
    assert "L1-07" not in rules(unpublished) and "L1-07" in rules(unpublished, "bnf")
    hashes = {load_profile(name).hash for name in known_profiles()}
    assert len(hashes) == 3 and grade(BASE).profile_hash in hashes


def test_own_profile_changes_the_hash_and_bad_ones_are_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nextends: ifla\nrules:\n  L4-02: {'on': false}\n", encoding="utf-8")
    mine = load_profile(str(path))
    assert "L4-02" not in mine.rules and mine.hash != load_profile("ifla").hash
    path.with_name("bad.yaml").write_text("name: bad\nextends: ifla\nrules:\n  L9-99: {says: x}\n", encoding="utf-8")
    with pytest.raises(UnknownRule, match="L9-99"):
        load_profile(str(path.with_name("bad.yaml")))
    path.with_name("odd.yaml").write_text("name: odd\nextends: ifla\nruels: {}\n", encoding="utf-8")
    with pytest.raises(UnknownProfile, match="ruels"):
        load_profile(str(path.with_name("odd.yaml")))
    with pytest.raises(UnknownProfile, match="ifla, sudoc"):
        validate(BASE, "loc")
    with pytest.raises(UnknownRule, match="L7-01"):
        corruption.corrupt(BASE, "L7-01")


def test_language_of_titles_is_named_only_when_clear():
    assert "fre" in likely_languages("Une histoire des ponts et de la brume")
    assert "eng" in likely_languages("The history of the bridges in the valley")
    assert "rus" in likely_languages("Очерки деревянного зодчества") and "chi" in likely_languages("木构建筑札记")
    assert not likely_languages("Zoologica") and not likely_languages("12345") and not likely_languages("Sous la Tour")


def test_diff_lists_what_differs_and_nothing_else():
    assert diff(BASE, replace(BASE, fields=BASE.fields[::-1])) == []
    (only,) = diff(BASE, r.from_marcxml(corruption.corrupt(BASE, "L3-08", 0)))
    assert only.place == "801 #0 $a" and only.b == "QQ"


def test_pairs_are_balanced_and_half_are_wrong_facts():
    made = list(corruption.pairs([r.read(row["record"]) for row in CLEAN], seed=5))
    counts = Counter(rule for rule, _, _ in made)
    assert counts.pop("fact") == len(CLEAN) and max(counts.values()) - min(counts.values()) <= 2
    for rule, right, faulty in made:
        if rule == "fact":
            assert not [i for i in validate(faulty) if i.severity == "error"] and diff(right, faulty)
        else:
            assert rule in rules(faulty) or rule == "L1-07"
