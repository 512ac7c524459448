"""Any Model with its answers kept: a local model, a stub. What was answered once is read from the store, so a killed job goes on.

The key is the content of the request and the name given for the model, which must change when its weights do (a fingerprint).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from posttrain.client import wire
from posttrain.client.store import Store
from posttrain.core.group import Group
from posttrain.core.protocols import Event, Model, Request

CHUNK = 64
"""Requests answered between two commits."""


class Recorded:
    """A Model around a Model. name: of the weights, as fingerprint. store: open, or the path of its file."""

    def __init__(self, model: Model, name: str, store: Store | str | Path) -> None:
        self.model, self.name = model, name
        self.store = store if isinstance(store, Store) else Store(store)
        self.made = self.known = 0

    @property
    def by(self) -> str:
        return self.name

    def generate(self, requests: Sequence[Request]) -> list[Group]:
        """One Group per request with its n answers, in order; only requests without a kept answer reach the model."""
        keys = [self._key(r) for r in requests]
        found = {key: self.store.find(key) for key in keys}
        open_ = list({k: r for k, r in zip(keys, requests, strict=True) if found[k] is None}.items())
        self.made += len(open_)
        self.known += len(found) - len(open_)
        for at in range(0, len(open_), CHUNK):
            part = open_[at : at + CHUNK]
            for (key, _), made in zip(part, self.model.generate([r for _, r in part]), strict=True):
                body = {"answers": [_body(made, i) for i in range(len(made.responses))]}
                self.store.settle(key, body, 0, 0, 0.0)
                found[key] = body
        return [self._group(r, found[k]) for k, r in zip(keys, requests, strict=True)]

    def stream(self, requests: Iterable[Request]) -> Iterator[Event]:
        """One event per answer, whole."""
        listed = list(requests)
        for number, (request, made) in enumerate(zip(listed, self.generate(listed), strict=True)):
            for index, answer in enumerate(made.responses):
                yield Event(request.id or str(number), index, answer.text, stop=answer.stop or "stop")

    def _key(self, request: Request) -> str:
        body = {**wire.call(request, 0, self.name, {}), "n": request.n, "seed": request.seed}
        return wire.key_of(body)

    def _group(self, request: Request, body: Any) -> Group:
        answers = tuple(wire.response(a, self.name) for a in body["answers"])
        return Group(request.prompt, answers, facts=request.facts, tools=request.tools)


def _body(made: Group, index: int) -> dict[str, Any]:
    answer = made.responses[index]
    said = next((m for m in reversed(answer.turns) if m.role == "assistant"), None)
    body = {"text": answer.text, "stop": answer.stop, "thinking": said.thinking if said else None,
            "calls": [dict(c) for c in said.tool_calls] if said else []}  # fmt: skip
    return {k: v for k, v in body.items() if v}
