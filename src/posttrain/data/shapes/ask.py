"""The prompt of a row in its many columns (prompt, question, instruction with input, context, history), and its reference answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from posttrain.core.chat import Chat, Message, assistant, user
from posttrain.data.shapes.shape import Row, as_prompt, first, has, text
from posttrain.data.turns import TRANSCRIPT, Notes, kind, parsed, plain, transcript

PROMPTS = ("prompt", "question", "instruction", "query", "problem")
REFERENCES = (
    "answer", "reference_answer", "reference", "references", "ground_truth", "gold", "gold_answer", "solution", "target", "expected",
)  # fmt: skip
EXTRAS = ("input", "context")


def asked(row: Row, notes: Notes, column: str | None = None) -> tuple[Chat, frozenset[str]]:
    """(prompt, columns read). `column` fixes where the question stands; else the first of `PROMPTS` that the row has.

    An instruction is followed by its input or context on a new line where there is one; history comes before it.
    """
    column = column or first(row, PROMPTS) or next((c for c in PROMPTS if c in row), "prompt")
    if column != "instruction":
        chat = as_prompt(row, column, notes)
        if len(chat) == 1 and _is_open_transcript(chat[0].content):
            chat = transcript(chat[0].content)[:-1]
        return _after_history(row, chat, notes), frozenset((column, "history"))
    pieces = [text(row, "instruction", notes)]
    used = ["instruction", "history"]
    for extra in EXTRAS:
        if has(row, extra):
            used.append(extra)
            more = text(row, extra, notes)
            pieces += [more] if more else []
    return _after_history(row, (user("\n".join(pieces)),), notes), frozenset(used)


def _is_open_transcript(value: str) -> bool:
    """Does a prompt text end in an empty Assistant turn of an hh-rlhf transcript?"""
    return (
        value.startswith("\n\nHuman:")
        and value.rstrip().endswith("\n\nAssistant:")
        and TRANSCRIPT.match(value) is not None
    )


def _after_history(row: Row, chat: Chat, notes: Notes) -> Chat:
    """Alpaca's history, a list of [question, answer] pairs, in front of the prompt."""
    if not has(row, "history"):
        return chat
    before: list[Message] = []
    told = parsed(row["history"], "column 'history'")
    if isinstance(told, str) and not told.strip():
        return chat
    if not isinstance(told, (list, tuple)):
        raise ValueError(f"column 'history' holds {kind(told)}; a list of [question, answer] pairs is needed")
    for n, turn in enumerate(told):
        if isinstance(turn, Mapping) or not isinstance(turn, (list, tuple)) or len(turn) != 2:
            raise ValueError(f"column 'history'[{n}] is not a [question, answer] pair")
        before += [
            user(plain(turn[0], f"history[{n}][0]", notes)),
            assistant(plain(turn[1], f"history[{n}][1]", notes)),
        ]
    return (*before, *chat)


def reference(row: Row) -> tuple[str, Any] | None:
    """(column, reference answer) of a row; verl's reward_model object counts by its ground_truth."""
    column = first(row, REFERENCES)
    if column is not None:
        return column, row[column]
    held = row.get("reward_model")
    held = parsed(held, "column 'reward_model'") if isinstance(held, str) else held
    if isinstance(held, Mapping) and held.get("ground_truth") is not None:
        return "reward_model", held["ground_truth"]
    return None
