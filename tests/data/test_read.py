"""Files of every format are read, every bad input gets one line with its place, and nothing is lost."""

from __future__ import annotations

import gzip
import hashlib
import json
import time

import pytest

from posttrain.data import tables
from posttrain.data.read import read
from posttrain.data.template import Template

ROWS = [{"prompt": "Где кошка?", "completion": "在垫子上。"}, {"prompt": 'a,"b"\nc', "completion": "x\u2028y\u0085z"}]


def texts(got):
    return [{"prompt": g.prompt[0].content, "completion": g.responses[0].text} for g in got.groups]


def jsonl(rows):
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode()


def as_csv(mark):
    def cell(text):
        return '"' + text.replace('"', '""') + '"'

    lines = [
        mark.join(("prompt", "completion")),
        *(mark.join(cell(r[c]) for c in ("prompt", "completion")) for r in ROWS),
    ]
    return ("\r\n".join(lines) + "\r\n").encode()


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("a.jsonl", jsonl(ROWS)),
        ("bom.jsonl", b"\xef\xbb\xbf" + jsonl(ROWS).replace(b"\n", b"\r\n\r\n")),
        ("a.jsonl.gz", gzip.compress(jsonl(ROWS))),
        ("a.json", json.dumps(ROWS, indent=1).encode()),
        ("lines.json", jsonl(ROWS)),
        ("held.json", json.dumps({"version": 1, "data": ROWS}).encode()),
        ("a.csv", as_csv(",")),
        ("bom.csv", b"\xef\xbb\xbf" + as_csv(";")),
        ("a.tsv", as_csv("\t")),
    ],
)
def test_formats(tmp_path, name, body):
    (tmp_path / name).write_bytes(body)
    got = read(tmp_path / name)
    assert texts(got) == ROWS and got.shape == "prompt/completion"
    assert got.hash == hashlib.sha256(body).hexdigest()
    assert (got.counts.rows, got.counts.kept, got.counts.groups) == (2, 2, 2)


def test_parquet_and_datasets_directories(tmp_path):
    datasets = pytest.importorskip("datasets")
    chats = [
        {
            "messages": [{"role": "user", "content": "в"}, {"role": "assistant", "content": "о", "weight": None}],
            "extra": float("nan"),
        },
        {
            "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0.5}],
            "extra": 1.0,
        },
    ]
    held = datasets.Dataset.from_list(chats)
    held.to_parquet(str(tmp_path / "a.parquet"))
    held.save_to_disk(str(tmp_path / "saved"))
    datasets.DatasetDict({"train": held, "test": held.select([1])}).save_to_disk(str(tmp_path / "dict"))
    for path, count in ((tmp_path / "a.parquet", 2), (tmp_path / "saved", 2), (tmp_path / "dict", 2)):
        got = read(path)
        assert len(got.groups) == count and got.shape == "messages"
        assert [g.responses[0].turns[0].weight for g in got.groups] == [1.0, 0.5]
        assert "extra" not in got.groups[0].facts and got.groups[1].facts["extra"] == 1.0
    assert read(tmp_path / "dict", split="test").groups[0].prompt[0].content == "q"
    with pytest.raises(ValueError, match="no split 'dev'; found: train, test"):
        read(tmp_path / "dict", split="dev")


def test_folder_of_shards_with_splits(tmp_path):
    for n in range(2):
        (tmp_path / f"train-0000{n}-of-00002.jsonl").write_bytes(jsonl([ROWS[n]]))
    (tmp_path / "validation.jsonl").write_bytes(jsonl(ROWS[1:]))
    (tmp_path / "README.md").write_text("# about\n")
    assert texts(read(tmp_path)) == ROWS
    assert texts(read(tmp_path, split="dev")) == ROWS[1:]
    assert read(tmp_path).groups[1].facts["where"] == "train-00001-of-00002.jsonl:1"


def test_hub_streams_and_never_asks_for_remote_code():
    asked = {}

    def load(repository, **options):
        asked.update(options, repository=repository)
        return iter(ROWS)

    got = list(tables._hub("hub:someone/some-set:main@v1", None, load))
    assert [f.row for f in got] == ROWS and got[1].where == "someone/some-set/train:2"
    assert asked == {
        "repository": "someone/some-set",
        "split": "train",
        "streaming": True,
        "name": "main",
        "revision": "v1",
    }

    def fails(repository, **options):
        raise ConnectionError("offline\nsecond line")

    with pytest.raises(ValueError, match=r"hub:someone/x: cannot be read after row 0 \(offline\); check"):
        list(tables._hub("hub:someone/x", None, fails))
    with pytest.raises(ValueError, match="expected hub:owner/name"):
        list(tables._hub("hub:a/b/c/d", None, load))


@pytest.mark.parametrize(
    ("body", "documents", "places"),
    [
        ("one\ntwo\r\n", ["one", "two"], ["t.txt:1", "t.txt:2"]),
        ("one\nstill one\n\n\ntwo\n\n", ["one\nstill one", "two"], ["t.txt:1", "t.txt:5"]),
    ],
)
def test_plain_text(tmp_path, body, documents, places):
    (tmp_path / "t.txt").write_text(body)
    got = read(tmp_path / "t.txt")
    assert [g.responses[0].text for g in got.groups] == documents and [g.facts["where"] for g in got.groups] == places


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("a.jsonl", b'{"prompt": "q", "completion": "a"}\n\n{"prompt": \n', r"a\.jsonl:3: malformed JSON: .*repair or remove the line"),
        ("a.jsonl", b'{\n "prompt": "q"\n}\n', r"a\.jsonl:1: malformed JSON: .*name it \.json"),
        ("a.jsonl", b'["q", "a"]\n', r"a\.jsonl:1: expected a JSON object per row, found list"),
        ("a.jsonl", b'{"prompt": "a", "prompt": "b"}\n', r"a\.jsonl:1: key 'prompt' stands twice"),
        ("a.jsonl", '{"prompt": "é", "completion": "a"}'.encode("latin1"), r"a\.jsonl:1: not UTF-8 \(byte 0xe9 .*iconv"),
        ("a.jsonl", '{"prompt": "q"}'.encode("utf-16"), r"a\.jsonl:1: the file is UTF-16; convert"),
        ("a.jsonl", b'{"prompt": "\\ud800", "completion": "a"}', r"a\.jsonl:1: holds half of a surrogate pair"),
        ("a.jsonl", b'{"prompt": null, "completion": "a"}\n{"prompt": "q", "completion": "a"}', r"a\.jsonl:1: column 'prompt' is null"),
        ("a.jsonl", b'{"prompt": "q", "completion": NaN}\n{"prompt": "q", "completion": "a"}', r"a\.jsonl:1: column 'completion' is null"),
        ("a.jsonl", b'{"prompt": "q", "completion": "a"}\n{"promt": "q", "completion": "a"}',
         r"a\.jsonl:2: column 'prompt' is not there \(found: promt"),
        ("a.jsonl", b'{"foo": 1, "bar": 2}',
         r"columns not recognised: foo \(a number\), bar \(a number\); accepted: .*prompt/completion.*Map columns"),
        ("a.jsonl", b'{"promt": "q", "completion": "a"}',
         r"columns not recognised: promt \(text\), completion \(text\); .*'promt' looks like 'prompt'"),
        ("a.jsonl", b'{"messages": ["a", "b"]}', r"columns not recognised: messages \(a list\); accepted"),
        ("a.jsonl", b'{"messages": []}\n{"messages": [{"role": "user", "content": "q"}]}',
         r"a\.jsonl:1: column 'messages' is an empty list"),
        ("a.jsonl", b"\n \n", r"no rows; the data are empty"),
        ("a.jsonl", b"", r"no rows; the data are empty"),
        ("a.json", b"[]", r"no rows; the data are empty"),
        ("a.json", b'[{"prompt": "q",\n "completion": "a"},\n {"prompt": }]', r"a\.json:3: malformed JSON"),
        ("a.json", b'[\n{"prompt": "q", "completion": "a"},\n 7]', r"a\.json:3: expected a JSON object per row, found int"),
        ("a.json", b'"text"', r"a\.json: expected a list of objects, found str"),
        ("a.csv", b"prompt,completion,prompt\n1,2,3\n", r"a\.csv:1: column 'prompt' stands twice in the header"),
        ("a.csv", b'prompt,completion\n"multi\nline",a\nq,a,b\n', r"a\.csv:4: 3 cells for 2 columns"),
        ("a.csv", b'prompt,completion\n"open,a\n', r"a\.csv:2: malformed CSV"),
        ("a.jsonl.gz", gzip.compress(jsonl(ROWS * 50))[:-20], r"a\.jsonl\.gz:\d+: the file is damaged or cut off"),
        ("a.parquet", b"PAR1 no", r"a\.parquet: cannot be read as Parquet"),
        ("a.xml", b"<a/>", r"format \.xml is not read; accepted: \.jsonl"),
    ],
)  # fmt: skip
def test_bad_files_get_one_clear_line(tmp_path, name, body, message):
    (tmp_path / name).write_bytes(body)
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path / name)
    assert "\n" not in str(error.value)


def test_absent_file_points_at_the_hub(tmp_path):
    with pytest.raises(ValueError, match=r"someone/set: no such file or directory; .*write hub:someone/set"):
        read("someone/set")
    with pytest.raises(ValueError, match="holds no data files"):
        read(tmp_path)


def test_bad_rows_can_be_kept_aside_and_every_row_is_counted(tmp_path):
    body = b'{"prompt": "q", "completion": "a"}\n{broken\n{"prompt": null, "completion": "a"}\n{"prompt": "q", "completion": "b"}\n'
    (tmp_path / "a.jsonl").write_bytes(body)
    got = read(tmp_path / "a.jsonl", bad="aside")
    assert (got.counts.rows, got.counts.kept, sum(got.counts.dropped.values())) == (4, 2, 2)
    assert [(b.where, b.raw) for b in got.counts.aside] == [
        ("a.jsonl:2", "{broken"),
        ("a.jsonl:3", '{"prompt": null, "completion": "a"}'),
    ]
    assert "2 of 4 rows, 2 set aside" in got.describe() and "column 'prompt' is null" in got.describe()
    (tmp_path / "b.jsonl").write_bytes(b'{"prompt": null, "completion": "a"}\n')
    with pytest.raises(ValueError, match=r"columns not recognised|all 1 rows were set aside"):
        read(tmp_path / "b.jsonl", bad="aside")


def test_limit_progress_and_forced_shape(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(
        jsonl([{"prompt": f"q{n}", "completion": "a", "answer": n} for n in range(2500)])
    )
    seen = []
    assert len(read(tmp_path / "a.jsonl", limit=3).groups) == 3
    assert len(read(tmp_path / "a.jsonl", progress=seen.append).groups) == 2500 and seen == [1000, 2000]
    got = read(tmp_path / "a.jsonl", shape="prompt + reference", limit=1)
    assert (
        got.groups[0].responses == ()
        and got.groups[0].facts["answer"] == 0
        and got.groups[0].facts["completion"] == "a"
    )
    with pytest.raises(ValueError, match="shape 'promts' is unknown; did you mean 'prompts'"):
        read(tmp_path / "a.jsonl", shape="promts")
    with pytest.raises(ValueError, match="limit is 0"):
        read(tmp_path / "a.jsonl", limit=0)


def test_numbers_as_text_are_counted(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(jsonl([{"prompt": "2+2", "completion": 4}]))
    got = read(tmp_path / "a.jsonl")
    assert (
        got.groups[0].responses[0].text == "4"
        and got.counts.notes["column 'completion': a number was read as text"] == 1
    )


def test_column_mapping_keeps_a_column_that_is_in_the_way(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(jsonl([{"frage": "q", "antwort": "a", "prompt": "old"}]))
    got = read(tmp_path / "a.jsonl", columns={"prompt": "frage", "completion": "antwort"})
    assert texts(got) == [{"prompt": "q", "completion": "a"}] and got.groups[0].facts["prompt (own)"] == "old"
    with pytest.raises(
        ValueError, match=r"a\.jsonl:1: column 'x', mapped to 'prompt', is not there; found: frage, antwort, prompt"
    ):
        read(tmp_path / "a.jsonl", columns={"prompt": "x"})


@pytest.mark.parametrize("template", ["Instruction: {instruction}\nRéponse:", "Instruction: {instruction}\\nRéponse:"])
def test_prompt_template(tmp_path, template):
    (tmp_path / "a.jsonl").write_bytes(
        jsonl([{"instruction": "Compte", "input": "ignored", "output": "un", "system": "s"}])
    )
    (made,) = read(tmp_path / "a.jsonl", template=template).groups
    assert [m.content for m in made.prompt] == ["s", "Instruction: Compte\nRéponse:"] and made.responses[0].text == "un"


def test_templates_make_columns_of_unknown_ones(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(jsonl([{"frage": "q", "antwort": "a", "n": 3}]))
    got = read(tmp_path / "a.jsonl", template={"prompt": "{{{frage}}} {n}", "completion": "= {antwort}"})
    assert texts(got) == [{"prompt": "{q} 3", "completion": "= a"}] and got.groups[0].facts["frage"] == "q"
    got = read(tmp_path / "a.jsonl", template="Q: {frage}", columns={"completion": "antwort"})
    assert texts(got) == [{"prompt": "Q: q", "completion": "a"}]
    with pytest.raises(ValueError, match=r"a\.jsonl:1: the template needs column 'nope'; found: frage, antwort, n"):
        read(tmp_path / "a.jsonl", template="Q: {nope}")


@pytest.mark.parametrize("text", ["{a.__class__}", "{a[0]}", "{a!r}", "{a:>9}", "{}", "{a", "no column"])
def test_templates_know_plain_columns_only(text):
    with pytest.raises(ValueError, match="template"):
        Template(text)


def test_hundred_thousand_rows_are_read_in_seconds(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(
        jsonl([{"prompt": f"Question {n}?", "completion": "An answer."} for n in range(20_000)])
    )
    start = time.process_time()
    assert len(read(tmp_path / "a.jsonl").groups) == 20_000
    assert time.process_time() - start < 10.0, (
        "20,000 short rows took more than five times the time allowed for 100,000"
    )
