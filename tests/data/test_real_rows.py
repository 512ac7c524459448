"""Real public rows, found by POSTTRAIN_DATA: every file is read in the shape it has, or refused with a clear line."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path

import pytest

from posttrain.data.read import read
from posttrain.data.sanity import sanity
from posttrain.data.write import write

DATA = os.environ.get("POSTTRAIN_DATA", "")
pytestmark = pytest.mark.skipif(
    not DATA or not Path(DATA).is_dir(), reason="POSTTRAIN_DATA names no directory of real rows"
)

SHAPES = {
    "gsm8k/train.jsonl.gz": "question/answer",
    "hh-rlhf/harmless-base.test.jsonl": "hh-rlhf transcripts",
    "llamafactory-demo/alpaca_en_demo.jsonl": "instruction/input/output",
    "llamafactory-demo/alpaca_zh_demo.jsonl": "instruction/input/output",
    "llamafactory-demo/dpo_en_demo.jsonl": "conversation + chosen/rejected",
    "llamafactory-demo/dpo_zh_demo.jsonl": "conversation + chosen/rejected",
    "llamafactory-demo/glaive_toolcall_en_demo.jsonl": "sharegpt conversations",
    "llamafactory-demo/kto_en_demo.jsonl": "messages + label",
    "llamafactory-demo/v1_dpo_demo.jsonl": "chosen_messages/rejected_messages",
    "llamafactory-demo/v1_sft_demo.jsonl": "messages",
    "llamafactory-demo/wiki_demo.jsonl": "text",
    "model-written-evals/advanced-ai-risk/human_generated_evals/corrigible-neutral-HHH.jsonl": "question with two behaviours",
    "model-written-evals/advanced-ai-risk/human_generated_evals/power-seeking-inclination.jsonl": "question with two behaviours",
    "model-written-evals/persona/agreeableness.jsonl": "question with two behaviours",
    "mt-bench/question.jsonl": "turns",
    "refusal-direction/advbench.jsonl": "prompts",
    "refusal-direction/harmbench_test.jsonl": "prompts",
    "refusal-direction/harmbench_val.jsonl": "prompts",
    "refusal-direction/harmless_train.sample.jsonl": "prompts",
    "refusal-direction/jailbreakbench.jsonl": "prompts",
    "refusal-direction/strongreject.jsonl": "prompts",
    "rm-bench/chat_filtered.jsonl": "prompt/chosen[]/rejected[]",
    "rm-bench/code_filtered.jsonl": "prompt/chosen[]/rejected[]",
    "rm-bench/safety-refuse_filtered.jsonl": "prompt/chosen[]/rejected[]",
    "rm-bench/safety-response_filtered.jsonl": "prompt/chosen[]/rejected[]",
    "stanford-alpaca/seed_tasks.jsonl": "instruction with instances",
    "xstest/model_completions/xstest_v2_completions_mistralinstruct.jsonl": "prompt/completion",
    "xstest/xstest_prompts.jsonl": "prompts",
}
REFUSED = {"mt-bench/reference_answer/gpt-4.jsonl": "columns not recognised: question_id"}


def raw(name):
    path = Path(DATA) / name
    body = path.read_bytes()
    body = gzip.decompress(body) if name.endswith(".gz") else body
    return [json.loads(line) for line in body.split(b"\n") if line]


def test_no_file_was_forgotten():
    there = {p.relative_to(DATA).as_posix() for p in Path(DATA).rglob("*.jsonl*")}
    assert there == set(SHAPES) | set(REFUSED)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_every_row_is_kept(name):
    got = read(Path(DATA) / name)
    rows = raw(name)
    assert got.shape == SHAPES[name]
    assert got.counts.rows == got.counts.kept == len(rows) and not got.counts.aside and not got.counts.notes
    assert all("where" in g.facts for g in got.groups)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_other_files_are_refused_with_one_line(name):
    with pytest.raises(ValueError, match=REFUSED[name]) as error:
        read(Path(DATA) / name)
    assert "\n" not in str(error.value)


def test_transcripts_put_together_again_are_the_originals():
    name = "hh-rlhf/harmless-base.test.jsonl"
    words = {"user": "Human", "assistant": "Assistant"}
    for made, row in zip(read(Path(DATA) / name).groups, raw(name), strict=True):
        for response, side in zip(made.responses, ("chosen", "rejected"), strict=True):
            turns = made.prompt + response.turns
            assert response.turns[0].role == "assistant"
            again = "".join(f"\n\n{words[m.role]}:{m.content}" for m in turns)
            assert again == re.sub(r"(\n\n(?:Human|Assistant):) ", r"\1", row[side])


def test_tool_calls_are_carried_whole():
    name = "llamafactory-demo/glaive_toolcall_en_demo.jsonl"
    groups, rows = read(Path(DATA) / name).groups, raw(name)
    calls = [c for g in groups for m in g.responses[0].turns for c in m.tool_calls]
    assert calls == [json.loads(t["value"]) for r in rows for t in r["conversations"] if t["from"] == "function_call"]
    assert [list(g.tools) for g in groups] == [json.loads(r["tools"]) for r in rows]


def test_labels_answers_and_weights_are_those_of_the_file():
    kto = read(Path(DATA) / "llamafactory-demo/kto_en_demo.jsonl").groups
    rows = raw("llamafactory-demo/kto_en_demo.jsonl")
    assert [g.responses[0].label for g in kto] == [r["label"] for r in rows]
    assert [g.responses[0].text for g in kto] == [r["messages"][-1]["content"] for r in rows]
    gsm = read(Path(DATA) / "gsm8k/train.jsonl.gz", limit=50).groups
    assert all("#### " in g.facts["answer"] and g.facts["answer"] == g.responses[0].text for g in gsm)
    matching = read(Path(DATA) / "model-written-evals/persona/agreeableness.jsonl").groups
    assert matching[0].responses[matching[0].facts["matching"]].text in (" Yes", " No")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("alpaca_zh_demo.jsonl", "messages"),
        ("dpo_zh_demo.jsonl", "pairs"),
        ("dpo_en_demo.jsonl", "pairs"),
        ("kto_en_demo.jsonl", "labels"),
        ("glaive_toolcall_en_demo.jsonl", "messages"),
        ("v1_dpo_demo.jsonl", "pairs"),
        ("wiki_demo.jsonl", "text"),
    ],
)
def test_round_trip_of_real_rows(tmp_path, name, shape):
    groups = read(Path(DATA) / "llamafactory-demo" / name).groups
    one = write(groups, tmp_path / "a.jsonl", shape)
    two = write(read(tmp_path / "a.jsonl").groups, tmp_path / "b.jsonl", shape)
    assert not one.lost and one.hash == two.hash
    write(groups, tmp_path / "a.parquet", shape)
    assert write(read(tmp_path / "a.parquet").groups, tmp_path / "c.jsonl", shape).hash == one.hash


def test_messages_of_chinese_rows_hold_the_texts_of_the_file(tmp_path):
    rows = raw("llamafactory-demo/alpaca_zh_demo.jsonl")
    groups = read(Path(DATA) / "llamafactory-demo/alpaca_zh_demo.jsonl").groups
    write(groups, tmp_path / "a.jsonl", "messages")
    back = [json.loads(line)["messages"] for line in (tmp_path / "a.jsonl").read_bytes().split(b"\n") if line]
    assert [m[-1]["content"] for m in back] == [r["output"] for r in rows]
    assert [m[0]["content"] for m in back] == ["\n".join(t for t in (r["instruction"], r["input"]) if t) for r in rows]


def test_sanity_of_real_pairs_is_counted():
    found = sanity(read(Path(DATA) / "hh-rlhf/harmless-base.test.jsonl").groups)
    assert found.groups == 1387 and len(found.empty) == 3 and found.identical == []
