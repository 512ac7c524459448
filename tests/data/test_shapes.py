"""Every shape of rows is recognised without flags, named, and read into the Group that it means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posttrain.core.group import Preference
from posttrain.data import shapes
from posttrain.data.read import read

U, A, S = "user", "assistant", "system"


@pytest.fixture
def rows(tmp_path):
    def make(*objects, **options):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(o, ensure_ascii=False) + "\n" for o in objects), encoding="utf-8")
        return read(path, **options)

    return make


def roles(chat):
    return [m.role for m in chat]


@pytest.mark.parametrize(
    ("row", "name", "prompt", "answer"),
    [
        ({"text": "A long\n\ndocument."}, "text", [], "A long\n\ndocument."),
        ({"prompt": "2+2?", "completion": " 4"}, "prompt/completion", ["2+2?"], " 4"),
        ({"prompt": "2+2?", "response": "4"}, "prompt/response", ["2+2?"], "4"),
        ({"question": "2+2?", "answer": "4"}, "question/answer", ["2+2?"], "4"),
        ({"input": "2+2?", "output": "4"}, "input/output", ["2+2?"], "4"),
        ({"instruction": "Add", "input": "2, 2", "output": "4"}, "instruction/input/output", ["Add\n2, 2"], "4"),
        ({"instruction": "Add 2, 2", "input": "", "output": "4"}, "instruction/input/output", ["Add 2, 2"], "4"),
        ({"instruction": "Who?", "context": "Ann.", "response": "Ann", "category": "qa"},
         "instruction/context/response", ["Who?\nAnn."], "Ann"),
        ({"system": "Be brief.", "prompt": "2+2?", "completion": "4"}, "prompt/completion", ["Be brief.", "2+2?"], "4"),
        ({"prompt": [{"role": U, "content": "Привет"}], "completion": [{"role": A, "content": "你好"}]},
         "prompt/completion", ["Привет"], "你好"),
        ({"problem": "1+1", "solution": "It is 2"}, "problem/solution", ["1+1"], "It is 2"),
    ],
)  # fmt: skip
def test_one_answer(rows, row, name, prompt, answer):
    got = rows(row)
    (made,) = got.groups
    assert got.shape == name
    assert [m.content for m in made.prompt] == prompt
    assert [r.text for r in made.responses] == [answer]
    assert made.facts["where"] == "rows.jsonl:1"


def test_question_answer_is_also_the_reference_and_other_columns_are_facts(rows):
    (made,) = rows({"question": "q", "answer": "a #### 4", "level": 3, "id": "x7"}).groups
    assert made.facts["answer"] == "a #### 4" and made.facts["level"] == 3 and made.id == "x7"


@pytest.mark.parametrize(
    ("row", "reference"),
    [
        ({"prompt": "2+2?", "answer": 4}, 4),
        ({"prompt": [{"role": U, "content": "2+2?"}], "ground_truth": ["4", "four"]}, ["4", "four"]),
        ({"problem": "2+2?", "answer": "4"}, "4"),
        ({"instruction": "2+2?", "target": 4.0}, 4.0),
        ({"prompt": "2+2?", "reward_model": {"style": "rule", "ground_truth": "4"}, "data_source": "x"}, "4"),
    ],
)
def test_prompt_with_any_reference(rows, row, reference):
    got = rows(row)
    assert got.shape == "prompt + reference"
    assert got.groups[0].responses == () and got.groups[0].facts["answer"] == reference


def test_messages_without_an_answer_are_prompts_with_their_reference(rows):
    got = rows({"messages": [{"role": U, "content": "2+2?"}], "ground_truth": "4"})
    assert got.groups[0].responses == () and got.groups[0].facts["answer"] == "4"


def test_chosen_texts_that_are_json_lists_stay_texts(rows):
    got = rows({"prompt": "List two.", "chosen": '["a", "b"]', "rejected": '["c"]'})
    assert got.shape == "prompt/chosen/rejected" and got.groups[0].responses[0].text == '["a", "b"]'


def test_messages_split_before_the_first_answer(rows):
    got = rows(
        {
            "messages": [
                {"role": S, "content": "s"},
                {"role": U, "content": "a"},
                {"role": A, "content": "b"},
                {"role": U, "content": "c"},
                {"role": A, "content": "d", "weight": 0.5, "thinking": "hm"},
            ]
        }
    )
    (made,) = got.groups
    assert got.shape == "messages" and roles(made.prompt) == [S, U] and roles(made.responses[0].turns) == [A, U, A]
    assert [m.weight for m in made.responses[0].turns] == [1.0, 1.0, 0.5] and made.responses[0].turns[
        -1
    ].thinking == "hm"


def test_typed_parts_and_loss_weight(rows):
    parts = [{"type": "text", "value": "Hal"}, {"type": "text", "text": "lo"}]
    (made,) = rows(
        {
            "messages": [
                {"role": U, "content": parts, "loss_weight": 0.0},
                {"role": A, "content": parts, "loss_weight": 0.25},
            ]
        }
    ).groups
    assert made.prompt[0].content == "Hallo" and made.prompt[0].weight == 1.0
    assert made.responses[0].turns[0].weight == 0.25


def test_prompt_hash_does_not_depend_on_the_dialect(rows):
    one = rows({"messages": [{"role": U, "content": "q", "loss_weight": 0.0}, {"role": A, "content": "a"}]}).groups[0]
    two = rows({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "b"}]}).groups[0]
    three = rows({"prompt": "q", "completion": "c"}).groups[0]
    assert one.prompt_hash == two.prompt_hash == three.prompt_hash


def test_sharegpt_tool_turns(rows):
    got = rows(
        {
            "conversations": [
                {"from": "human", "value": "Weather?"},
                {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Paris"}}'},
                {"from": "observation", "value": '{"sky": "grey"}'},
                {"from": "gpt", "value": "Grey."},
            ],
            "tools": '[{"name": "weather", "parameters": {}}]',
            "system": "You may call tools.",
        }
    )
    (made,) = got.groups
    assert got.shape == "sharegpt conversations" and made.tools[0]["name"] == "weather"
    assert roles(made.prompt) == [S, U] and roles(made.responses[0].turns) == [A, "tool", A]
    call = made.responses[0].turns[0]
    assert call.content == "" and call.tool_calls == ({"name": "weather", "arguments": {"city": "Paris"}},)


def test_openai_tool_calls(rows):
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    got = rows({"messages": [{"role": U, "content": "q"}, {"role": A, "content": None, "tool_calls": [call]},
                             {"role": "tool", "content": "1", "tool_call_id": "c1"}, {"role": A, "content": "1"}]})  # fmt: skip
    assert got.groups[0].responses[0].turns[0].tool_calls[0] == {"name": "add", "arguments": {"a": 1}, "id": "c1"}
    assert got.counts.notes["key 'tool_call_id' of messages is not carried"] == 1


def test_alpaca_history_is_the_conversation_before(rows):
    (made,) = rows({"instruction": "q2", "input": "", "output": "a2", "history": [["q1", "a1"]], "system": "s"}).groups
    assert [m.content for m in made.prompt] == ["s", "q1"]
    assert [m.content for m in made.responses[0].turns] == ["a1", "q2", "a2"]


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"prompt": "q", "chosen": "good", "rejected": "bad"}, "prompt/chosen/rejected"),
        ({"instruction": "q", "input": "", "chosen": "good", "rejected": "bad"}, "prompt/chosen/rejected"),
        ({"prompt": [{"role": U, "content": "q"}], "chosen": [{"role": A, "content": "good"}], "rejected": [{"role": A, "content": "bad"}]},
         "prompt/chosen/rejected"),
        ({"prompt": "q", "chosen": [{"role": U, "content": "q"}, {"role": A, "content": "good"}],
          "rejected": [{"role": U, "content": "q"}, {"role": A, "content": "bad"}]}, "prompt/chosen/rejected"),
        ({"chosen": [{"role": U, "content": "q"}, {"role": A, "content": "good"}],
          "rejected": [{"role": U, "content": "q"}, {"role": A, "content": "bad"}]}, "chosen/rejected messages"),
        ({"chosen_messages": [{"role": U, "content": "q"}, {"role": A, "content": "good"}],
          "rejected_messages": [{"role": U, "content": "q"}, {"role": A, "content": "bad"}]}, "chosen_messages/rejected_messages"),
        ({"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "good"},
          "rejected": {"from": "gpt", "value": "bad"}}, "conversation + chosen/rejected"),
        ({"messages": [{"role": U, "content": "q"}], "chosen": "good", "rejected": "bad"}, "conversation + chosen/rejected"),
        ({"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"}, "hh-rlhf transcripts"),
        ({"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": "good", "rejected": "bad"}, "prompt/chosen/rejected"),
    ],
)  # fmt: skip
def test_pairs_of_every_dialect_are_the_same_group(rows, row, name):
    got = rows(row)
    (made,) = got.groups
    assert got.shape == name
    assert [(m.role, m.content) for m in made.prompt] == [(U, "q")]
    assert [r.text for r in made.responses] == ["good", "bad"] and made.preferences == (Preference(0, 1),)


def test_margin_weight_soft_label_and_scores_of_a_pair(rows):
    (made,) = rows({"prompt": "q", "chosen": "a", "rejected": "b", "margin": 1.5, "weight": "2", "p": 0.8,
                    "score_chosen": 7, "score_rejected": 3.5}).groups  # fmt: skip
    assert made.preferences == (Preference(0, 1, p=0.8, weight=2.0, margin=1.5),)
    assert [r.score.value for r in made.responses] == [7.0, 3.5] and set(made.facts) == {"where"}


def test_transcript_prefix_keeps_text_and_splits_at_the_last_shared_turn(rows):
    shared = "\n\nHuman: hi\n\nAssistant: Human: is a word.\n\nSecond paragraph\n\nHuman: more"
    (made,) = rows(
        {"chosen": shared + "\n\nAssistant: one\n\nAssistant:  two ", "rejected": shared + "\n\nAssistant: "}
    ).groups
    assert roles(made.prompt) == [U, A, U] and made.prompt[1].content == "Human: is a word.\n\nSecond paragraph"
    assert [m.content for m in made.responses[0].turns] == ["one", " two "]
    assert [m.content for m in made.responses[1].turns] == [""]


def test_transcripts_that_are_equal_or_nested_keep_an_answer_each(rows):
    one = "\n\nHuman: hi\n\nAssistant: hello"
    same, nested = rows(
        {"chosen": one, "rejected": one}, {"chosen": one, "rejected": one + "\n\nHuman: x\n\nAssistant: y"}
    ).groups
    assert [r.text for r in same.responses] == ["hello", "hello"]
    assert roles(nested.prompt) == [U] and roles(nested.responses[1].turns) == [A, U, A]


def test_conversations_that_part_at_a_user_turn_go_back_to_the_last_shared_answer(rows):
    start = "\n\nHuman: hi\n\nAssistant: hello"
    (made,) = rows(
        {"chosen": start + "\n\nHuman: x\n\nAssistant: y", "rejected": start + "\n\nHuman: z\n\nAssistant: w"}
    ).groups
    assert roles(made.prompt) == [U]
    assert [(m.content, m.weight) for m in made.responses[0].turns] == [("hello", 0.0), ("x", 1.0), ("y", 1.0)]


def test_lists_of_chosen_and_rejected_are_two_tiers(rows):
    got = rows({"prompt": "q", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"]})
    assert got.shape == "prompt/chosen[]/rejected[]" and got.groups[0].ranking == ((0, 1, 2), (3, 4, 5))
    assert len(got.groups[0].pairs()) == 9


@pytest.mark.parametrize(
    ("more", "ranking", "scores"),
    [
        ({"responses": ["a", "b", "c"], "rank": [2, 1, 2]}, ((1,), (0, 2)), None),
        ({"responses": ["a", "b", "c"], "rank": [1, None, 2]}, ((0,), (2,)), None),
        ({"responses": ["a", "b", "c"], "ranking": [[2], [0, 1]]}, ((2,), (0, 1)), None),
        ({"responses": ["a", "b", "c"], "scores": [0.5, 0.5, None]}, ((0, 1),), [0.5, 0.5, None]),
        ({"responses": [{"text": "a", "score": 1}, {"text": "b", "score": 2}, {"text": "c", "score": 0}]}, ((1,), (0,), (2,)), [1, 2, 0]),
        ({"completions": [{"response": t, "overall_score": s, "model": "m"} for t, s in (("a", 1), ("b", 5), ("c", 3))]},
         ((1,), (2,), (0,)), [1, 5, 3]),
        ({"responses": [[{"role": A, "content": t}] for t in "abc"]}, None, None),
    ],
)  # fmt: skip
def test_responses_with_rank_or_scores(rows, more, ranking, scores):
    got = rows({"prompt": "q", **more})
    (made,) = got.groups
    assert got.shape == "responses with rank or scores" and [r.text for r in made.responses] == ["a", "b", "c"]
    assert made.ranking == ranking
    assert scores is None or [r.score.value for r in made.responses] == scores


@pytest.mark.parametrize(
    ("value", "label"), [(True, True), ("false", False), (1, True), (0, False), ("good", True), (-1, False)]
)
def test_labels(rows, value, label):
    got = rows({"prompt": "q", "completion": "a", "label": value})
    assert got.shape == "prompt/completion/label" and got.groups[0].responses[0].label is label
    chat = [
        {"role": U, "content": "1"},
        {"role": A, "content": "2"},
        {"role": U, "content": "3"},
        {"role": A, "content": "4"},
    ]
    talk = rows({"messages": chat, "label": value})
    assert talk.shape == "messages + label" and roles(talk.groups[0].prompt) == [U, A, U]
    assert talk.groups[0].responses[0].text == "4" and talk.groups[0].responses[0].label is label


def test_a_label_that_is_a_topic_stays_a_fact_but_one_good_or_bad_makes_the_column_a_label(rows):
    got = rows({"prompt": "q", "completion": "a", "label": "sports"})
    assert got.shape == "prompt/completion" and got.groups[0].facts["label"] == "sports"
    with pytest.raises(ValueError, match=r"rows.jsonl:1: column 'label' is 'maybe'; a label is true or false"):
        rows({"prompt": "q", "completion": "a", "label": "maybe"}, {"prompt": "q", "completion": "a", "label": True})


def test_greeting_before_the_user_is_context_and_counted(rows):
    got = rows(
        {
            "conversations": [
                {"from": "gpt", "value": "Hi!"},
                {"from": "human", "value": "q"},
                {"from": "gpt", "value": "a"},
            ]
        }
    )
    assert roles(got.groups[0].prompt) == [A, U] and got.groups[0].responses[0].text == "a"
    assert sum(got.counts.notes.values()) == 1


def test_an_answer_that_is_json_stays_text(rows):
    text = '[{"name": "Ann", "role": "CEO"}]'
    assert rows({"prompt": "Who?", "completion": text}).groups[0].responses[0].text == text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [{"role": "wizard", "content": "x"}]}, r"messages'\[0\] has the role 'wizard'; accepted: user"),
        ({"messages": [{"role": U, "content": [{"type": "image_url", "image_url": "u"}]}]}, r"type 'image_url'; only text"),
        ({"messages": [{"role": A, "content": "x"}]}, r"nothing before it; add the user turn"),
        ({"prompt": "q", "completion": ["a", {"b": 1}]}, r"column 'completion' holds a list, text is needed"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "p": 1.5}, r"column 'p' is 1.5; the probability"),
        ({"prompt": "q", "responses": ["a", "b"], "scores": [1]}, r"'scores' has 1 values for 2 responses"),
        ({"chosen": "\n\nHuman: a\n\nAssistant: x", "rejected": "\n\nHuman: b\n\nAssistant: x"},
         r"different prompts \(they part at turn 1\)"),
        ({"chosen": "\n\nHuman: a\n\nAssistant: x", "rejected": "\n\nHuman: a"}, r"rejected is a conversation without an assistant turn"),
        ({"prompt": "q", "completion": [{"role": U, "content": "x"}]}, r"holds messages without an assistant turn"),
        ({"prompt": "q", "completion": "a", "tools": "[{"}, r"column 'tools' starts like JSON but is not"),
        ({"prompt": "q", "completion": "a", "weight": -1}, r"column 'weight' is -1.0"),
        ({"system": "a", "messages": [{"role": S, "content": "b"}, {"role": U, "content": "c"}]}, r"own system turn differ"),
    ],
)  # fmt: skip
def test_bad_rows_get_one_clear_line(rows, row, message):
    with pytest.raises(ValueError, match=r"rows\.jsonl:1: .*" + message) as error:
        rows(row)
    assert "\n" not in str(error.value)


def test_registry_is_named_once_and_prints_as_a_table():
    assert len(set(shapes.NAMES)) == len(shapes.NAMES)
    table = shapes.table().splitlines()
    assert len(table) == len(shapes.SHAPES) + 2 and all(line.count("|") == 4 for line in table)
    with pytest.raises(ValueError, match="did you mean 'prompt/completion'"):
        shapes.named("prompt/completions")


def test_the_table_in_the_docs_is_the_registry():
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    assert page.split("<!-- shapes -->\n")[1].split("\n<!-- end -->")[0] == shapes.table()
