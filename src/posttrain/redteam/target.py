"""Whatever is attacked, asked the same way: a core Model, or a plain function of a text or of messages."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from posttrain.core.chat import chat_text
from posttrain.core.group import Group, answer
from posttrain.core.protocols import Event, Model, Request


class Called:
    """A function as a Model. It gets the text of the last turn, or with a parameter called `messages` the whole chat as mappings."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.whole = "messages" in inspect.signature(function).parameters

    def generate(self, requests: Sequence[Request]) -> list[Group]:
        return [
            Group(r.prompt, tuple(answer(self._say(r), stop="stop") for _ in range(r.n)), facts=r.facts)
            for r in requests
        ]

    def _say(self, request: Request) -> str:
        if self.whole:
            return str(self.function(messages=[m.to_json() for m in request.prompt]))
        text = request.prompt[-1].content if len(request.prompt) == 1 else chat_text(request.prompt)
        return str(self.function(text))

    def stream(self, requests: Iterable[Request]) -> Iterator[Event]:
        for number, request in enumerate(requests):
            for index, response in enumerate(self.generate([request])[0].responses):
                yield Event(request.id or str(number), index, response.text, stop="stop")


def as_model(target: Model | Callable[..., Any]) -> Model:
    """The target as a Model. Raises ValueError for what neither generates nor can be called."""
    if hasattr(target, "generate"):
        return target  # type: ignore[return-value]
    if callable(target):
        return Called(target)
    raise ValueError(f"cannot attack a {type(target).__name__}: give a model, or a function of the prompt")
