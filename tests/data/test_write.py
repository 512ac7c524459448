"""Writing and reading back gives the same groups and the same bytes; what a shape cannot carry is counted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain.core.chat import Message, assistant, user
from posttrain.core.group import Group, Preference, Response, Score, answer, document, group
from posttrain.data.read import read
from posttrain.data.write import write

CALL = {"name": "поиск", "arguments": {"запрос": "кошка", "n": 1}}
TURNS = (Message("assistant", "", tool_calls=(CALL,)), Message("tool", "结果", name="поиск"), assistant("Вот 答案"))
TEXTS = {
    "messages": [
        group("Где кошка?", "在垫子上。", facts={"answer": "猫", "level": 3}),
        Group((Message("system", "s"), user("q")), (Response(TURNS, score=Score(0.5, {"a": 1.0}, "why")),), tools=({"name": "поиск"},)),
        group("вес", Response((Message("assistant", "x", weight=0.5, thinking="哼"),), weight=2.0)),
        group("only a prompt"),
    ],
    "pairs": [
        group("Где?", "тут", "там", preferences=(Preference(0, 1),)),
        group("哪里", answer("a", score=Score(1.0)), answer("b", score=Score(None)), preferences=(Preference(0, 1, 0.7, 2.0, 1.5),)),
        group((user("a"), assistant("b"), user("c")), "d", "e", preferences=(Preference(0, 1, both_bad=True),), facts={"id": "x"}),
    ],
    "labels": [group("Где?", answer("тут", label=True)),
               group("哪里", answer("x", label=False, weight=0.5), facts={"k": [1, {"a": None}]})],
    "ranked": [
        group("Где?", "а", "б", "в", ranking=((2,), (0, 1))),
        group("哪里", answer("a", score=Score(2.0)), answer("b", score=Score(None)), ranking=((0,),)),
    ],
    "text": [document("Длинный\n\nтекст 文本"), document("x", facts={"title": "т"})],
}  # fmt: skip
TEXTS["groups"] = [g for some in TEXTS.values() for g in some]


def content(groups):
    made = []
    for g in groups:
        row = g.to_json()
        row.get("facts", {}).pop("where", None)
        if not row.get("facts"):
            row.pop("facts", None)
        made.append(row)
    return made


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".parquet"])
@pytest.mark.parametrize("shape", list(TEXTS))
def test_round_trip(tmp_path, shape, ending):
    written = write(TEXTS[shape], tmp_path / f"a{ending}", shape)
    assert written.rows == len(TEXTS[shape]) and not written.lost
    got = read(tmp_path / f"a{ending}")
    assert got.hash == written.hash
    assert content(got.groups) == content(TEXTS[shape])
    again = write(got.groups, tmp_path / f"b{ending}", shape)
    assert (tmp_path / f"a{ending}").read_bytes() == (
        tmp_path / f"b{ending}"
    ).read_bytes() and again.hash == written.hash


def test_rows_of_others_come_back_byte_for_byte(tmp_path):
    rows = [
        {
            "messages": [
                {"role": "user", "content": "Как дела?\r\n"},
                {"role": "assistant", "content": ' 很好。\u2028\t"x"'},
            ]
        }
    ]
    body = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode()
    (tmp_path / "a.jsonl").write_bytes(body)
    write(read(tmp_path / "a.jsonl").groups, tmp_path / "b.jsonl", "messages")
    assert (tmp_path / "b.jsonl").read_bytes() == body


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]), max_size=20)] * 3), min_size=1, max_size=4)
)
def test_any_text_survives(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("any")
    groups = [group(a, b, c, preferences=(Preference(0, 1),)) for a, b, c in texts]
    for name in ("a.jsonl", "a.parquet"):
        write(groups, folder / name, "pairs")
        assert content(read(folder / name).groups) == content(groups)


def test_what_a_shape_cannot_carry_is_counted(tmp_path):
    ranked = group("q", answer("a", by="m"), "b", "c", ranking=((0,), (1, 2)), facts={"where": "f:1"})
    assert write([ranked], tmp_path / "a.jsonl", "messages").lost == {"ranking": 1, "by of a response": 1}
    pairs = write([ranked, group("alone", "x")], tmp_path / "b.jsonl", "pairs")
    assert (
        pairs.rows == 2
        and pairs.lost["group without a preference"] == 1
        and pairs.lost["response without a preference"] == 1
    )
    with pytest.raises(ValueError, match=r"nothing to write as labels \(1 times: response without a label\)"):
        write([group("q", "a")], tmp_path / "c.jsonl", "labels")
    with pytest.raises(ValueError, match="cannot write the shape 'x'; accepted: groups"):
        write([ranked], tmp_path / "c.jsonl", "x")
    with pytest.raises(ValueError, match=r"cannot write this ending; accepted: \.jsonl"):
        write([ranked], tmp_path / "c.xlsx")
    assert not (tmp_path / "c.jsonl").exists() and sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl"]
