"""What a shape is, and the pieces that shapes share: facts, system turns, tools, weights, pairs from two conversations.

A shape is one way of laying out a row. Its `fits` looks at the columns of the first rows, its `read` makes a Group of one row or
raises ValueError with what is wrong and what helps (the reader puts file and line in front). Columns that a shape does not use are
not lost: they go to `Group.facts`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from posttrain.core.chat import Chat, Message, assistant
from posttrain.core.group import Group, Preference, Response, Score
from posttrain.data.turns import Notes, as_tools, as_turns, is_turn, is_turns, kind, missing, number, parsed, plain

Row = Mapping[str, Any]
COMMON = ("system", "tools", "weight", "facts")
"""Columns that every shape understands: a system turn, tool schemas, how much the row counts, more facts as one object."""
SYSTEM = ("system", "system_prompt")
SCORES = ("score", "reward", "rating")
YES = {"true", "yes", "1", "1.0", "+1", "good", "desirable", "thumbs_up", "up"}
NO = {"false", "no", "0", "0.0", "-1", "-1.0", "bad", "undesirable", "thumbs_down", "down"}


@dataclass(frozen=True, slots=True)
class Shape:
    """One recogniser. needs: the columns in words for the docs. gives: what the Group holds. fits, read: see the module."""

    name: str
    needs: str
    gives: str
    fits: Callable[[Row], bool]
    read: Callable[[Row, Notes], Group | tuple[Group, ...]]


def has(row: Row, *columns: str) -> bool:
    """Are all these columns there and not null?"""
    for column in columns:
        value = row.get(column)
        if value is None or missing(value):
            return False
    return True


def need(row: Row, column: str) -> Any:
    """A column's value; ValueError names the columns found when it is absent or null."""
    if column not in row:
        raise ValueError(
            f"column {column!r} is not there (found: {', '.join(map(str, row)) or 'nothing'}); add it or map another to it"
        )
    if missing(row[column]):
        raise ValueError(f'column {column!r} is null; fill it, or write "" where an empty text is meant')
    return row[column]


def text(row: Row, column: str, notes: Notes) -> str:
    """A column as text."""
    return plain(need(row, column), f"column {column!r}", notes)


def first(row: Row, columns: Sequence[str]) -> str | None:
    """The first of these columns that the row has with a value."""
    for column in columns:
        if column in row and not missing(row[column]):
            return column
    return None


def build(
    row: Row, used: Collection[str], notes: Notes, prompt: Chat, responses: Sequence[Response], **fields: Any
) -> Group:
    """The group of a row: system turn, tools and row weight applied, every other column kept in facts."""
    skip = {*used, *SYSTEM, "tools", "weight", "facts"}
    facts = {k: v for k, v in row.items() if k not in skip and not missing(v)}
    if has(row, "facts"):
        more = parsed(row["facts"], "column 'facts'")
        facts |= more if isinstance(more, Mapping) else {"facts": more}
    facts |= fields.pop("facts", {})
    if has(row, "weight"):
        weight = number(row["weight"], "column 'weight'")
        if weight < 0:
            raise ValueError(f"column 'weight' is {weight}; weights are 0 or more")
        if fields.get("preferences"):
            fields["preferences"] = tuple(p._replace(weight=weight) for p in fields["preferences"])
        else:
            responses = [replace(r, weight=weight) for r in responses]
    return Group(
        prompt=with_system(row, prompt, notes),
        responses=tuple(responses),
        facts=facts,
        tools=as_tools(row.get("tools")),
        **fields,
    )


def with_system(row: Row, prompt: Chat, notes: Notes) -> Chat:
    """The prompt with the row's system column in front; refused when the conversation brings another system turn."""
    column = first(row, SYSTEM)
    content = text(row, column, notes) if column else ""
    if not content:
        return prompt
    if prompt and prompt[0].role == "system":
        if prompt[0].content != content:
            raise ValueError(f"column {column!r} and the conversation's own system turn differ; keep one of them")
        return prompt
    return (Message("system", content), *prompt)


def as_prompt(row: Row, column: str, notes: Notes) -> Chat:
    """A prompt column, text or messages, as a chat."""
    value = need(row, column)
    if is_turn(value) or is_turns(value):
        return context(as_turns(value, f"column {column!r}", notes))
    return (Message("user", plain(value, f"column {column!r}", notes)),)


def as_answer(value: Any, what: str, notes: Notes) -> Chat:
    """An answer, text or messages, as turns."""
    if is_turn(value) or is_turns(value):
        turns = as_turns(value, what, notes)
        if not any(m.role == "assistant" for m in turns):
            raise ValueError(f"{what} holds messages without an assistant turn; an answer needs one")
        return turns
    return (assistant(plain(value, what, notes)),)


def context(chat: Chat) -> Chat:
    """Turns that are never trained: weights at the default, so that equal prompts are equal."""
    return tuple(m if m.weight == 1.0 else replace(m, weight=1.0) for m in chat)


def label_of(value: Any) -> bool | None:
    """A good/bad label in its usual spellings; None when the value is something else."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    return True if word in YES else False if word in NO else None


def label(row: Row, column: str) -> bool:
    """A label column. Raises ValueError on a value that is neither good nor bad."""
    made = label_of(need(row, column))
    if made is None:
        raise ValueError(
            f"column {column!r} is {row[column]!r}; a label is true or false (or 1/0, good/bad, desirable/undesirable)"
        )
    return made


def as_score(value: Any, what: str) -> Score:
    """A score cell: a number, null (cannot be scored), or an object with value, parts and why."""
    if missing(value):
        return Score(None)
    value = parsed(value, what)
    if isinstance(value, Mapping):
        inner = value.get("value")
        return Score(None if inner is None else number(inner, what), value.get("parts") or {}, value.get("why") or "")
    return Score(number(value, what))


def preference(row: Row, i: int = 0, j: int = 1) -> tuple[Preference, frozenset[str]]:
    """Response i over j with the row's soft label, margin and both_bad columns; also the names of the columns read."""
    column = first(row, ("p", "soft_label", "probability"))
    p = 1.0 if column is None else number(row[column], f"column {column!r}")
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"column {column!r} is {p}; the probability that chosen is better lies between 0 and 1")
    margin = number(row["margin"], "column 'margin'") if has(row, "margin") else 0.0
    bad = label(row, "both_bad") if has(row, "both_bad") else False
    used = {
        c for c in (column, "margin" if has(row, "margin") else None, "both_bad" if has(row, "both_bad") else None) if c
    }
    return Preference(i, j, p=p, margin=margin, both_bad=bad), frozenset(used)


def fork(a: Chat, b: Chat) -> tuple[Chat, Chat, Chat]:
    """Two conversations as (shared prompt, rest of a, rest of b), each rest opening with an assistant turn.

    The prompt is the common prefix, short enough to leave each side an answer. Where the conversations part at a turn that is not
    the assistant's, the fork moves back to the last shared assistant turn, which stays as untrained context (weight 0) on both sides.
    """
    for chat, side in ((a, "chosen"), (b, "rejected")):
        if not any(m.role == "assistant" for m in chat):
            raise ValueError(f"{side} is a conversation without an assistant turn; there is no answer to compare")
    limit = min(len(a), len(b)) - 1
    at = 0
    while at < limit and same(a[at], b[at]):
        at += 1
    back = at
    while back > 0 and not (a[back].role == b[back].role == "assistant"):
        back -= 1
    if a[back].role != "assistant" or b[back].role != "assistant" or not any(m.role != "assistant" for m in a[:back]):
        raise ValueError(
            f"chosen and rejected answer different prompts (they part at turn {at + 1}); a pair needs one shared prompt"
        )
    return context(a[:back]), _rest(a, back, at), _rest(b, back, at)


def _rest(chat: Chat, start: int, at: int) -> Chat:
    shared = tuple(replace(m, weight=0.0) if m.role == "assistant" else m for m in chat[start:at])
    return shared + chat[at:]


def same(a: Message, b: Message) -> bool:
    """Do two turns say the same, weights aside?"""
    return a == b or replace(a, weight=1.0) == replace(b, weight=1.0)


def pair(
    row: Row, used: Collection[str], notes: Notes, prompt: Chat, chosen: Sequence[Chat], rejected: Sequence[Chat]
) -> Group:
    """A group of chosen and rejected answers: one of each is a Preference, several of each a ranking of two tiers."""
    responses = [Response(turns=t) for t in (*chosen, *rejected)]
    n = len(chosen)
    if n == len(rejected) == 1:
        made, more = preference(row)
        scored = _pair_scores(row)
        if scored is not None:
            responses = [replace(r, score=s) for r, s in zip(responses, scored[0], strict=True)]
            more |= scored[1]
        return build(row, {*used, *more}, notes, prompt, responses, preferences=(made,))
    tiers = (tuple(range(n)), tuple(range(n, len(responses))))
    if first(row, ("p", "soft_label", "probability", "margin")):
        notes["margin and p columns stay in facts where a row has several chosen or rejected answers"] += 1
    return build(row, used, notes, prompt, responses, ranking=tiers)


def _pair_scores(row: Row) -> tuple[tuple[Score, Score], frozenset[str]] | None:
    for a, b in (
        ("score_chosen", "score_rejected"),
        ("chosen_score", "rejected_score"),
        ("chosen_rating", "rejected_rating"),
    ):
        if has(row, a) or has(row, b):
            return (as_score(row.get(a), f"column {a!r}"), as_score(row.get(b), f"column {b!r}")), frozenset((a, b))
    return None


def bad_kind(row: Row, column: str, wanted: str) -> ValueError:
    """The error for a column of the wrong type."""
    return ValueError(f"column {column!r} holds {kind(row.get(column))}; {wanted}")
