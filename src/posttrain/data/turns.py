"""Messages from what other people's files hold: roles and keys of many dialects, typed content parts, tool calls, transcripts.

Dialects: OpenAI messages (role, content, tool_calls), ShareGPT (from, value), LLaMA-Factory demo files (function_call, observation,
loss_weight, parts of type and value), Anthropic hh-rlhf transcripts. Leaves out pictures, sound and video: such parts are refused.
Every function raises ValueError that says what is wrong and what helps; the caller puts file and line in front.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from posttrain.core.chat import Chat, Message

SPEAKERS: dict[str, str] = {
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant",
    "function_call": "assistant", "tool_call": "assistant",
    "system": "system", "developer": "system",
    "tool": "tool", "observation": "tool", "function": "tool", "function_response": "tool", "tool_response": "tool",
    "ipython": "tool", "document": "document",
}  # fmt: skip
PLAIN = {k: v for k, v in SPEAKERS.items() if k not in ("function_call", "tool_call")}
ROLE_KEYS = ("role", "from", "speaker")
CONTENT_KEYS = ("content", "value", "text")
THINKING_KEYS = ("thinking", "reasoning_content", "reasoning")
WEIGHT_KEYS = ("weight", "loss_weight", "train")
READ_KEYS = {*ROLE_KEYS, *CONTENT_KEYS, *THINKING_KEYS, *WEIGHT_KEYS, "tool_calls", "function_call", "name"}
TRANSCRIPT = re.compile(r"(?:\A|\n\n)(Human|Assistant):")

Notes = Counter[str]
"""What was changed or could not be carried while reading, counted by a sentence."""


def missing(value: Any) -> bool:
    """Is a cell empty: null, or the NaN that tables write for null?"""
    return value is None or (isinstance(value, float) and value != value)


def plain(value: Any, what: str, notes: Notes) -> str:
    """A cell as text. Numbers become text and are counted; null, lists, objects, booleans and bytes are refused."""
    if isinstance(value, str):
        return value
    if missing(value):
        raise ValueError(f'{what} is null; write the text, or "" where an empty text is meant')
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        notes[re.sub(r"\[\d+\]", "[]", what) + ": a number was read as text"] += 1
        return str(value)
    raise ValueError(f"{what} holds {kind(value)}, text is needed; convert it or map another column")


def kind(value: Any) -> str:
    """A value's type in words people use for JSON."""
    if missing(value):
        return "null"
    words = {
        bool: "true/false",
        str: "text",
        int: "a number",
        float: "a number",
        list: "a list",
        tuple: "a list",
        dict: "an object",
    }
    return words.get(type(value), type(value).__name__)


def parsed(value: Any, what: str) -> Any:
    """A list or object that may be written as JSON text inside a cell, as CSV and Parquet exports do."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"{what} starts like JSON but is not ({error}); repair the cell") from None
    return value


def is_turns(value: Any) -> bool:
    """Does a cell hold messages: a list of objects that name a speaker, or JSON text of one?

    Text must also use known roles and contents, since an answer may be JSON of its own.
    """
    written = isinstance(value, str)
    if isinstance(value, str):
        if value.lstrip()[:1] != "[" or not any(f'"{k}"' in value for k in ROLE_KEYS):
            return False
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return False
    if not isinstance(value, (list, tuple)) or not value or not all(is_turn(v) for v in value):
        return False
    return not written or all(_speaks(v) for v in value)


def _speaks(turn: Mapping[str, Any]) -> bool:
    said = next((turn[k] for k in ROLE_KEYS if k in turn), None)
    return isinstance(said, str) and said.lower() in SPEAKERS and any(k in turn for k in (*CONTENT_KEYS, "tool_calls"))


def is_turn(value: Any) -> bool:
    """Does a cell hold one message as an object?"""
    return isinstance(value, Mapping) and any(k in value for k in ROLE_KEYS)


def as_turns(value: Any, what: str, notes: Notes) -> Chat:
    """A cell of messages as a chat; one message object is a chat of one."""
    value = parsed(value, what)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{what} holds {kind(value)}, a list of messages is needed")
    if not value:
        raise ValueError(f"{what} is an empty list; a conversation needs at least one turn")
    return tuple(as_message(turn, f"{what}[{n}]", notes) for n, turn in enumerate(value))


def as_message(raw: Any, what: str, notes: Notes) -> Message:
    """One message of any dialect. What `Message` cannot carry is counted in notes."""
    if not isinstance(raw, Mapping):
        raise ValueError(f'{what} holds {kind(raw)}, an object such as {{"role": "user", "content": "..."}} is needed')
    if len(raw) == 2:  # the plainest message, by far the most frequent, needs none of the looking around below
        said, content = (raw.get("role"), raw.get("content")) if "role" in raw else (raw.get("from"), raw.get("value"))
        if isinstance(content, str) and isinstance(said, str) and said in PLAIN:
            return Message(PLAIN[said], content)
    said = next((raw[k] for k in ROLE_KEYS if not missing(raw.get(k))), None)
    role = SPEAKERS.get(said.lower()) if isinstance(said, str) else None
    if role is None:
        raise ValueError(f"{what} has the role {said!r}; accepted: {', '.join(SPEAKERS)}")
    for key in raw:
        if key not in READ_KEYS and not missing(raw[key]):
            notes[f"key {key!r} of messages is not carried"] += 1
    content = next((raw[k] for k in CONTENT_KEYS if not missing(raw.get(k))), None)
    thinking = next((raw[k] for k in THINKING_KEYS if isinstance(raw.get(k), str)), None)
    calls = list(as_calls(raw.get("tool_calls"), f"{what}.tool_calls"))
    calls += as_calls(raw.get("function_call"), f"{what}.function_call")
    if isinstance(content, (list, tuple)):
        content, thought, more = _parts(content, what)
        calls += more
        thinking = thinking if thought is None else (thinking or "") + thought
    if isinstance(said, str) and said.lower() in ("function_call", "tool_call"):
        calls += as_calls(content, what)
        content = ""
    if content is None:
        if not calls:
            raise ValueError(f'{what} has no content; write its text, or "" where an empty text is meant')
        content = ""
    weight = _weight(raw, role, what, notes)
    name = raw.get("name")
    return Message(
        role=role,
        content=plain(content, f"{what}.content", notes),
        weight=weight,
        tool_calls=tuple(calls),
        name=None if missing(name) else str(name),
        thinking=thinking,
    )


def _weight(raw: Mapping[str, Any], role: str, what: str, notes: Notes) -> float:
    """How much the turn counts. Turns of others are never trained, so their weight stays at the default and equal prompts hash alike."""
    given = next((raw[k] for k in WEIGHT_KEYS if not missing(raw.get(k))), None)
    if given is None:
        return 1.0
    weight = number(given, f"{what}.weight")
    if weight < 0:
        raise ValueError(f"{what} has the weight {weight}; weights are 0 or more")
    if role in ("assistant", "document"):
        return weight
    if weight > 0:
        notes[f"weight above 0 on a {role} turn: only assistant turns are trained"] += 1
    return 1.0


def _parts(parts: Sequence[Any], what: str) -> tuple[str, str | None, list[Mapping[str, Any]]]:
    """Typed content parts as (text, thinking, tool calls); text parts are joined without anything between."""
    text: list[str] = []
    thinking: list[str] = []
    calls: list[Mapping[str, Any]] = []
    for n, part in enumerate(parts):
        here = f"{what}.content[{n}]"
        if isinstance(part, str):
            text.append(part)
            continue
        form = part.get("type", "text") if isinstance(part, Mapping) else kind(part)
        body = (
            next((part[k] for k in ("text", "value", "content", form) if part.get(k) is not None), None)
            if isinstance(part, Mapping)
            else None
        )
        if form in ("tool_call", "tool_calls", "function_call"):
            calls += as_calls(body, here)
        elif form in ("text", "input_text", "output_text") and isinstance(body, str):
            text.append(body)
        elif form in THINKING_KEYS and isinstance(body, str):
            thinking.append(body)
        else:
            raise ValueError(f"{here} is of type {form!r}; only text, thinking and tool_call parts can be read")
    return "".join(text), "".join(thinking) if thinking else None, calls


def as_calls(value: Any, what: str) -> list[Mapping[str, Any]]:
    """Tool calls as ``{"name", "arguments"}`` objects (and ``id`` where given); arguments written as JSON text are parsed."""
    if missing(value) or value == "":
        return []
    value = parsed(value, what)
    calls: list[Mapping[str, Any]] = []
    for call in [value] if isinstance(value, Mapping) else value:
        body = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(body, Mapping) or not isinstance(body.get("name"), str):
            raise ValueError(f'{what} is not a tool call; expected {{"name": ..., "arguments": {{...}}}}')
        arguments = body.get("arguments", body.get("parameters"))
        if isinstance(arguments, str):
            with suppress(
                json.JSONDecodeError
            ):  # a model's own broken call is data too: such text stays as it was written
                arguments = json.loads(arguments)
        made: dict[str, Any] = {"name": body["name"], "arguments": {} if arguments is None else arguments}
        if not missing(call.get("id")):
            made["id"] = call["id"]
        calls.append(made)
    return calls


def as_tools(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Tool schemas of a row: a list of objects, or JSON text of one; null and "" mean none."""
    if missing(value) or (isinstance(value, str) and not value.strip()):
        return ()
    value = parsed(value, "column 'tools'")
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(v, (Mapping, str)) for v in value):
        raise ValueError(f"column 'tools' holds {kind(value)}; a list of tool schemas is needed")
    made = tuple(parsed(v, "column 'tools'") for v in value)
    if not all(isinstance(v, Mapping) for v in made):
        raise ValueError("column 'tools' holds a text that is no tool schema; a list of objects is needed")
    return made


def is_transcript(value: Any) -> bool:
    """Is a text an hh-rlhf transcript: does it open with a Human or Assistant turn?"""
    return (
        isinstance(value, str) and TRANSCRIPT.match(value if value.startswith("\n\n") else value.lstrip()) is not None
    )


def transcript(value: str) -> Chat:
    """The turns of ``\\n\\nHuman: ...\\n\\nAssistant: ...``. The one space after the colon is a separator, all else is kept.

    A name that does not open a paragraph ("as a Human: ...") stays text; two turns of one speaker in a row stay two turns.
    """
    value = value if value.startswith("\n\n") else value.lstrip()
    pieces = TRANSCRIPT.split(value)
    if pieces[0] != "" or len(pieces) < 3:
        raise ValueError(
            "the text is no transcript; each turn must open with a blank line and 'Human:' or 'Assistant:'"
        )
    speakers, texts = pieces[1::2], pieces[2::2]
    return tuple(
        Message(SPEAKERS["human" if s == "Human" else "assistant"], t.removeprefix(" "))
        for s, t in zip(speakers, texts, strict=True)
    )


def number(value: Any, what: str) -> float:
    """A finite number, also when a table holds it as text. Raises ValueError."""
    try:
        made = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{what} is {value!r}; a number is needed") from None
    if not math.isfinite(made):
        raise ValueError(f"{what} is {value!r}; a finite number is needed")
    return made
