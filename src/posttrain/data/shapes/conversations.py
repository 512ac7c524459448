"""Shapes whose row is a conversation: messages, ShareGPT conversations, with or without a label, and conversation pairs.

One conversation becomes one Group: the prompt is every turn before the first answer, the response the rest, where turns of the
user and of tools are context. A labelled conversation (KTO) judges its last answer, so there the prompt reaches to the last
turn of somebody else.
"""

from __future__ import annotations

from posttrain.core.chat import Chat
from posttrain.core.group import Group, Response
from posttrain.data.shapes.ask import reference
from posttrain.data.shapes.shape import (
    SCORES,
    Row,
    Shape,
    as_answer,
    as_score,
    bad_kind,
    build,
    context,
    first,
    fork,
    has,
    label,
    label_of,
    need,
    pair,
)
from posttrain.data.turns import Notes, as_turns, is_transcript, is_turns, transcript

CHATS = ("messages", "conversations", "conversation", "dialog", "dialogue")
LABELS = ("label", "kto_tag")


def _chat(row: Row, notes: Notes) -> tuple[str, Chat]:
    column = next((c for c in CHATS if c in row), None)
    if column is None:
        need(row, CHATS[0])
        raise AssertionError("need() names the missing column")
    return column, as_turns(need(row, column), f"column {column!r}", notes)


def _is_chat(row: Row) -> bool:
    column = first(row, CHATS)
    return column is not None and is_turns(row[column])


def open_turns(chat: Chat, notes: Notes) -> tuple[Chat, Chat]:
    """(prompt, answer) of a conversation, split before its first answer; no answer gives an empty second part.

    A conversation that the assistant opens (a greeting) has that turn in its prompt where a later answer follows, as an answer
    needs something to answer; this is counted.
    """
    firsts = [n for n, m in enumerate(chat) if m.role == "assistant"]
    if not firsts:
        return context(chat), ()
    at = firsts[0]
    if not any(m.role in ("user", "tool", "document") for m in chat[:at]):
        spoken = next((n for n, m in enumerate(chat) if m.role in ("user", "tool")), len(chat))
        later = next((n for n in firsts if n > spoken), None)
        if later is not None:
            notes["opening assistant turn before any user turn is context, not trained"] += 1
            at = later
        elif at == 0:
            raise ValueError(
                "the conversation has an assistant turn but nothing before it; add the user turn it answers"
            )
    if chat[-1].role != "assistant":
        notes["conversation ends without an answer: its last turns are context, not trained"] += 1
    return context(chat[:at]), chat[at:]


def last_turns(chat: Chat) -> tuple[Chat, Chat]:
    """(prompt, answer) split after the last user turn (after the last tool turn where there is no user turn)."""
    spoken = [n for n, m in enumerate(chat) if m.role == "user"] or [n for n, m in enumerate(chat) if m.role == "tool"]
    if not spoken or chat[-1].role != "assistant":
        raise ValueError(
            "a labelled conversation must end with the assistant turn that the label judges, after a user turn"
        )
    return context(chat[: spoken[-1] + 1]), chat[spoken[-1] + 1 :]


def _read_messages(row: Row, notes: Notes) -> Group:
    column, chat = _chat(row, notes)
    prompt, turns = open_turns(chat, notes)
    score = first(row, SCORES) if turns else None
    scored = None if score is None else as_score(row[score], f"column {score!r}")
    if not turns:
        found = reference(row)
        used = {column} if found is None or found[0] == "reward_model" else {column, found[0]}
        return build(row, used, notes, prompt, (), facts={} if found is None else {"answer": found[1]})
    return build(row, {column, score or column}, notes, prompt, [Response(turns=turns, score=scored)])


def _read_labelled(row: Row, notes: Notes) -> Group:
    column, chat = _chat(row, notes)
    name = next((c for c in LABELS if c in row), LABELS[0])
    prompt, turns = last_turns(chat)
    return build(row, {column, name}, notes, prompt, [Response(turns=turns, label=label(row, name))])


def _read_continued(row: Row, notes: Notes) -> Group:
    column, chat = _chat(row, notes)
    sides = [as_answer(need(row, c), f"column {c!r}", notes) for c in ("chosen", "rejected")]
    whole = [side if side[: len(chat)] == chat else chat + side for side in sides]
    prompt, a, b = fork(whole[0], whole[1])
    return pair(row, {column, "chosen", "rejected"}, notes, prompt, [a], [b])


def _read_two(row: Row, notes: Notes, columns: tuple[str, str]) -> Group:
    sides = [as_turns(need(row, c), f"column {c!r}", notes) for c in columns]
    prompt, a, b = fork(sides[0], sides[1])
    return pair(row, columns, notes, prompt, [a], [b])


def _read_transcripts(row: Row, notes: Notes) -> Group:
    sides = []
    for column in ("chosen", "rejected"):
        value = need(row, column)
        if not is_transcript(value):
            raise bad_kind(row, column, "it must open with '\\n\\nHuman:' as the other rows do")
        sides.append(transcript(value))
    prompt, a, b = fork(sides[0], sides[1])
    return pair(row, ("chosen", "rejected"), notes, prompt, [a], [b])


def _labelled(row: Row) -> bool:
    return any(has(row, c) and label_of(row[c]) is not None for c in LABELS)


SHAPES = (
    Shape(
        "chosen_messages/rejected_messages",
        "chosen_messages, rejected_messages (whole conversations)",
        "a pair; the prompt is what both share",
        lambda row: has(row, "chosen_messages", "rejected_messages"),
        lambda row, notes: _read_two(row, notes, ("chosen_messages", "rejected_messages")),
    ),
    Shape(
        "conversation + chosen/rejected",
        "messages or conversations, chosen and rejected (a message, messages or text)",
        "a pair; the prompt is the conversation",
        lambda row: _is_chat(row) and has(row, "chosen", "rejected"),
        _read_continued,
    ),
    Shape(
        "chosen/rejected messages",
        "chosen, rejected (whole conversations), no prompt column",
        "a pair; the prompt is what both share",
        lambda row: (
            has(row, "chosen", "rejected")
            and "prompt" not in row
            and all(is_turns(row[c]) for c in ("chosen", "rejected"))
        ),
        lambda row, notes: _read_two(row, notes, ("chosen", "rejected")),
    ),
    Shape(
        "hh-rlhf transcripts",
        "chosen, rejected (texts of '\\n\\nHuman: ' and '\\n\\nAssistant: ' turns)",
        "a pair; the prompt is what both share",
        lambda row: "prompt" not in row and is_transcript(row.get("chosen")) and is_transcript(row.get("rejected")),
        _read_transcripts,
    ),
    Shape(
        "messages + label",
        "messages or conversations, label (or kto_tag)",
        "one labelled answer (KTO); the prompt reaches to the last user turn",
        lambda row: _is_chat(row) and _labelled(row),
        _read_labelled,
    ),
    Shape(
        "messages",
        "messages (role, content, tool_calls, weight; typed content parts)",
        "one answer, or prompts only where no assistant speaks",
        lambda row: _is_chat(row) and first(row, CHATS) == "messages",
        _read_messages,
    ),
    Shape(
        "sharegpt conversations",
        "conversations (from, value; function_call and observation turns)",
        "one answer, or prompts only where no assistant speaks",
        _is_chat,
        _read_messages,
    ),
)
