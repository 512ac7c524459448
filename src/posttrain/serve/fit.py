"""An overlong chat, cut so that it fits: system turns and the last user turn stay, the rest goes from the middle, and what went is counted.

An answer to a cut prompt is honest only when it says so: the count goes into a header and into the reply's usage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from posttrain.core.chat import Chat, Message

Count = Callable[[Chat], int]
CHARACTERS = 8
"""Characters per token kept for sure before the exact search; more tokens never fit into fewer characters than tokens."""


def fit(chat: Chat, limit: int, count: Count) -> tuple[Chat, int]:
    """(a chat of at most `limit` tokens, tokens cut). The shortest form is the last turn with nothing in it.

    Raises ValueError where not even that fits: the limit is then smaller than the template itself.
    """
    size = count(chat)
    if size <= limit:
        return chat, 0
    keep = _last_user(chat)
    turns = list(chat)
    droppable = [i for i, m in enumerate(chat) if i != keep and m.role != "system"]
    # From the middle: the oldest turns after the first go before the first exchange does not matter more than what is asked.
    for i in droppable:
        turns[i] = replace(turns[i], content="")
        shorter = tuple(m for j, m in enumerate(turns) if j not in droppable[: droppable.index(i) + 1])
        if count(shorter) <= limit:
            return shorter, size - count(shorter)
    rest = tuple(m for j, m in enumerate(chat) if j not in droppable)
    at = next(j for j, m in enumerate(rest) if m is chat[keep])
    for j in [at, *(k for k in range(len(rest)) if k != at)]:
        rest = _shorten(rest, j, limit, count)
        if count(rest) <= limit:
            return rest, size - count(rest)
    raise ValueError(f"the context of {limit} tokens has no room for an empty message")


def _last_user(chat: Chat) -> int:
    users = [i for i, m in enumerate(chat) if m.role in ("user", "document")]
    return users[-1] if users else len(chat) - 1


def _shorten(chat: Chat, at: int, limit: int, count: Count) -> Chat:
    """The chat with the middle of one message cut as little as needed (all of it where that is not enough)."""
    text = chat[at].content
    most = limit * CHARACTERS * 2
    if len(text) > most:
        text = text[: most // 2] + text[-(most // 2) :]
    low, high = 0, len(text)
    while low < high:
        kept = (low + high + 1) // 2
        if count(_with(chat, at, _ends(text, kept))) <= limit:
            low = kept
        else:
            high = kept - 1
    return _with(chat, at, _ends(text, low))


def _ends(text: str, kept: int) -> str:
    head = (kept + 1) // 2
    return text if kept >= len(text) else text[:head] + (text[len(text) - (kept - head) :] if kept > head else "")


def _with(chat: Chat, at: int, text: str) -> Chat:
    changed: Message = replace(chat[at], content=text)
    return (*chat[:at], changed, *chat[at + 1 :])
