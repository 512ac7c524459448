"""Presets on small local copies of the same shape: columns, trees, rated completions, origin in the facts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posttrain.data.presets import PRESETS, preset, table
from posttrain.data.read import read

ROWS: dict[str, list[dict[str, Any]]] = {
    "alpaca": [{"instruction": "Name a colour.", "input": "", "output": "Red.", "text": "..."}],
    "dolly": [{"instruction": "Who?", "context": "Anna reads.", "response": "Anna.", "category": "closed_qa"}],
    "flan": [{"inputs": "Q: 1+1?", "targets": "2", "task": "sums"}],
    "sharegpt": [{"id": "a", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}],
    "hh-rlhf": [{"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: Go"}],
    "gsm8k": [{"question": "1+1?", "answer": "One and one make two. #### 2"}],
    "openr1-math": [{"problem": "1+1?", "solution": "2", "answer": "2",
                     "messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "<think>..</think>2"}]}],
    "capybara": [{"source": "x", "conversation": [{"input": "Hi", "output": "Hello"}, {"input": "Bye", "output": "Farewell"}]}],
    "oasst": [
        {"message_id": "p", "parent_id": None, "text": "Hi", "role": "prompter", "lang": "en", "message_tree_id": "p"},
        {"message_id": "a", "parent_id": "p", "text": "Worse", "role": "assistant", "rank": 1, "lang": "en", "message_tree_id": "p"},
        {"message_id": "b", "parent_id": "p", "text": "Better", "role": "assistant", "rank": 0, "lang": "en", "message_tree_id": "p"},
        {"message_id": "q", "parent_id": "b", "text": "And?", "role": "prompter", "lang": "en", "message_tree_id": "p"},
        {"message_id": "c", "parent_id": "q", "text": "So", "role": "assistant", "rank": None, "lang": "en", "message_tree_id": "p"},
        {"message_id": "d", "parent_id": "q", "text": "gone", "role": "assistant", "deleted": True, "message_tree_id": "p"},
    ],
    "ultrafeedback": [{"source": "evol", "instruction": "Say hi", "completions": [
        {"model": "m1", "response": "Hi", "overall_score": 8.0, "annotations": {"honesty": {"Rating": "5"}}},
        {"model": "m2", "response": "No", "overall_score": 2.0}, {"model": "m3", "response": "Hey", "overall_score": 8.0}]}],
}  # fmt: skip


def copy(tmp_path: Path, name: str) -> Path:
    file = tmp_path / f"{name}.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in ROWS[name]), encoding="utf-8")
    return file


@pytest.mark.parametrize("name", PRESETS)
def test_local_copy_is_read_as_the_set(tmp_path: Path, name: str) -> None:
    made = read(copy(tmp_path, name), shape=f"hub:{name}")
    assert made.groups and made.groups[0].prompt and made.groups[0].facts["origin"] == PRESETS[name].origin
    assert made.groups[0].facts["licence"] and PRESETS[name].repository in table()


def test_trees_become_ranked_groups_with_their_path(tmp_path: Path) -> None:
    first, second = read(copy(tmp_path, "oasst"), shape="hub:oasst").groups
    assert [r.text for r in first.responses] == ["Better", "Worse"] and first.ranking == ((0,), (1,))
    assert [m.content for m in second.prompt] == ["Hi", "Better", "And?"] and [r.text for r in second.responses] == [
        "So"
    ]


def test_rated_completions_are_tiers_with_scores(tmp_path: Path) -> None:
    (made,) = read(copy(tmp_path, "ultrafeedback"), shape="hub:ultrafeedback").groups
    assert made.ranking == ((0, 2), (1,))
    assert made.responses[0].score is not None and made.responses[0].score.parts == {"honesty": 5.0}


def test_names(tmp_path: Path) -> None:
    assert preset("hub:owner/name") is None and preset("some/file.jsonl") is None
    with pytest.raises(ValueError, match="did you mean hub:alpaca"):
        preset("hub:alpacca")
    with pytest.raises(ValueError, match="no group could be assembled"):
        read(copy(tmp_path, "oasst").rename(tmp_path / "x.jsonl") and copy(tmp_path, "alpaca"), shape="hub:oasst")
