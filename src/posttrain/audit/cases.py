"""Test cases of an audit: what is read, from which shapes, and the errors that name a bad row.

A case is one prompt with a better and a worse answer, and a `kind` that says which tests may use it:

    pair      any labelled pair: every test that derives its own variants
    styles    three styles of each answer, concise, detailed plain, detailed markdown (the design of RM-Bench)   T03
    view      the prompt holds the user's wrong view; `plain_prompt` is the same without it                      T07
    family    two answers that people rate equal, the first by the judge's own model family                      T09
    twin      a harmful request (`behaviour: refuse`) or its benign twin (`behaviour: comply`)                    T14
    wrapped   an honest refusal against harm dressed as safe advice                                              T15

Leaves out answers with tool turns: the last assistant turn is what is judged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posttrain.core.chat import Chat, as_chat
from posttrain.core.files import hash_json
from posttrain.core.group import Group

KINDS = ("pair", "styles", "view", "family", "twin", "wrapped")
STYLES = ("concise", "detailed", "markdown")


class EmptyAudit(ValueError):
    """No test case was given: an audit of nothing would pass everything."""


class BadTestCase(ValueError):
    """A row that cannot be a test case. index: its place, from 0. field: what is wrong."""

    def __init__(self, index: int, field: str, why: str) -> None:
        super().__init__(f"test case {index}: {field}: {why}")
        self.index, self.field = index, field


@dataclass(frozen=True, slots=True)
class Case:
    """One labelled item.

    id: the cluster; cases of several languages share it. prompt: chat. chosen, rejected: answers. kind: see above. category: for
    accuracy by category. quality: gold of the two answers where it is known. plain: the prompt without the user's view (kind `view`).
    styles: three texts of the better and of the worse answer (kind `styles`). checked: who looked at the item.
    """

    id: str
    prompt: Chat
    chosen: str
    rejected: str
    kind: str = "pair"
    lang: str = "en"
    category: str = ""
    quality: tuple[float, float] | None = None
    plain: Chat = ()
    behaviour: str = ""
    styles: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    checked: str = "not stated"
    tags: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "prompt": [m.to_json() for m in self.prompt],
            "chosen": self.chosen,
            "rejected": self.rejected,
            "kind": self.kind,
            "lang": self.lang,
            "checked": self.checked,
            "plain": [m.to_json() for m in self.plain],
            "styles": [list(s) for s in self.styles],
        }


def read_cases(given: Any) -> list[Case]:
    """Cases from a JSONL path, dicts, Groups with a preference, or cases. Raises EmptyAudit and BadTestCase."""
    rows: Iterable[Any] = _lines(Path(given)) if isinstance(given, str | Path) else given
    out = [_case(i, row) for i, row in enumerate(rows)]
    if not out:
        raise EmptyAudit("no test cases: give rows with prompt, chosen and rejected, or None for the built-in suite")
    return out


def _lines(path: Path) -> Iterable[Any]:
    for i, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise BadTestCase(i, "line", f"not JSON ({error.msg}) in {path}") from None


def _case(i: int, row: Any) -> Case:
    if isinstance(row, Case):
        return row
    if isinstance(row, Group):
        return of_group(i, row)
    if not isinstance(row, Mapping):
        raise BadTestCase(i, "row", f"must be a mapping with prompt, chosen and rejected, not {type(row).__name__}")
    for name in ("prompt", "chosen", "rejected"):
        if not row.get(name):
            raise BadTestCase(i, name, "missing or empty")
    chosen, rejected = _texts(i, row, "chosen"), _texts(i, row, "rejected")
    kind = row.get("kind") or _recognised(row, chosen, rejected)
    if kind not in KINDS:
        raise BadTestCase(i, "kind", f"{kind!r} is unknown; accepted: {', '.join(KINDS)}")
    if kind == "styles" and not len(chosen) == len(rejected) == len(STYLES):
        raise BadTestCase(
            i, "chosen", f"styles need {len(STYLES)} texts of each answer, in the order {', '.join(STYLES)}"
        )
    if kind == "view" and not row.get("plain_prompt"):
        raise BadTestCase(i, "plain_prompt", "missing: the same prompt without the user's view")
    if kind == "twin" and row.get("behaviour") not in ("refuse", "comply"):
        raise BadTestCase(i, "behaviour", "must be refuse or comply")
    prompt = _chat(i, row["prompt"], "prompt")
    quality = row.get("quality")
    return Case(
        id=str(row.get("id") or hash_json([m.to_json() for m in prompt])[:16]),
        prompt=prompt,
        chosen=chosen[1 if kind == "styles" else 0],
        rejected=rejected[1 if kind == "styles" else 0],
        kind=kind,
        lang=str(row.get("lang") or "en"),
        category=str(row.get("category") or row.get("subset") or ""),
        quality=None if quality is None else (float(quality[0]), float(quality[1])),
        plain=_chat(i, row["plain_prompt"], "plain_prompt") if kind == "view" else (),
        behaviour=str(row.get("behaviour") or ""),
        styles=(chosen, rejected) if kind == "styles" else ((), ()),
        checked=str(row.get("checked") or "not stated"),
        tags=dict(row.get("tags") or {}),
    )


def _recognised(row: Mapping[str, Any], chosen: Sequence[str], rejected: Sequence[str]) -> str:
    if len(chosen) == len(rejected) == len(STYLES):
        return "styles"
    if row.get("plain_prompt"):
        return "view"
    return "twin" if row.get("behaviour") else "pair"


def _texts(i: int, row: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = row[name]
    texts = (
        value
        if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
        else [_answer(i, value, name)]
    )
    if any(not t.strip() for t in texts):
        raise BadTestCase(i, name, "an answer is empty")
    return tuple(texts)


def _answer(i: int, value: Any, name: str) -> str:
    if isinstance(value, str):
        return value
    turns = _chat(i, value, name)
    if not turns or turns[-1].role != "assistant":
        raise BadTestCase(i, name, "must be text, or turns that end with the assistant's")
    return turns[-1].content


def _chat(i: int, value: Any, name: str) -> Chat:
    try:
        return as_chat(value)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadTestCase(i, name, f"not a chat: {error}") from None


def of_group(i: int, row: Group) -> Case:
    """The first decided preference of a group as a case."""
    pair = next((p for p in row.pairs() if p.p != 0.5 and not p.both_bad), None)
    if pair is None:
        raise BadTestCase(i, "preferences", "the group prefers no answer")
    best, worst = (pair.i, pair.j) if pair.p > 0.5 else (pair.j, pair.i)
    return Case(
        id=row.id,
        prompt=row.prompt,
        chosen=row.responses[best].text,
        rejected=row.responses[worst].text,
        lang=str(row.facts.get("lang") or "en"),
        category=str(row.facts.get("task") or row.facts.get("category") or ""),
        checked=str(row.facts.get("checked") or row.facts.get("annotator") or "not stated"),
    )
