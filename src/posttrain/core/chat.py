"""Messages and chats: the only text type of the project.

A `Chat` is a tuple of `Message`; a prompt is a chat, an answer is a chat (one assistant turn, or several with tool turns in
between). Plain documents for language modelling are a single message with the role ``document``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool", "document"]
ROLES: tuple[str, ...] = ("system", "user", "assistant", "tool", "document")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn.

    role: who speaks. content: its text. weight: how much its tokens count when the policy wrote it (0 = context only).
    tool_calls: what an assistant turn asks of tools, as JSON-able mappings ``{"name": ..., "arguments": {...}}``.
    name: the tool that answered, on a ``tool`` turn. thinking: a reasoning trace that precedes the content.
    """

    role: str
    content: str
    weight: float = 1.0
    tool_calls: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    name: str | None = None
    thinking: str | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role {self.role!r} is unknown; accepted: {', '.join(ROLES)}")
        if not isinstance(self.content, str):
            raise ValueError(f"content of a {self.role} message must be text, not {type(self.content).__name__}")

    def to_json(self) -> dict[str, Any]:
        """The message as a JSON object; fields at their default are left out."""
        out: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.weight != 1.0:
            out["weight"] = self.weight
        if self.tool_calls:
            out["tool_calls"] = [dict(call) for call in self.tool_calls]
        if self.name is not None:
            out["name"] = self.name
        if self.thinking is not None:
            out["thinking"] = self.thinking
        return out

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Message:
        """Inverse of `to_json`. Raises ValueError on an unknown role or a content that is not text."""
        return cls(
            role=row["role"],
            content=row["content"],
            weight=float(row.get("weight", 1.0)),
            tool_calls=tuple(row.get("tool_calls") or ()),
            name=row.get("name"),
            thinking=row.get("thinking"),
        )


Chat = tuple[Message, ...]


def user(content: str) -> Message:
    """A user turn."""
    return Message("user", content)


def assistant(content: str) -> Message:
    """An assistant turn."""
    return Message("assistant", content)


def as_chat(value: str | Message | Iterable[Message | Mapping[str, Any]]) -> Chat:
    """A chat from what people write: a string is one user turn, mappings are parsed.

    >>> as_chat("hello")[0].role
    'user'
    """
    if isinstance(value, str):
        return (user(value),)
    if isinstance(value, Message):
        return (value,)
    return tuple(m if isinstance(m, Message) else Message.from_json(m) for m in value)


def chat_text(chat: Chat) -> str:
    """The contents of a chat joined by newlines: for metrics and detectors, never for a model."""
    return "\n".join(m.content for m in chat)
