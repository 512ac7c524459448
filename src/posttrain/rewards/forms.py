"""Verifiers of form: JSON against a schema, XML, a reasoning trace in its place. One code fence around the answer is taken off.

Form says nothing of truth: use these behind a gate or with a small weight beside a verifier of content.
"""

from __future__ import annotations

import json
import re
from functools import cached_property
from typing import Any, ClassVar
from xml.parsers import expat

import jsonschema
from pydantic import Field, field_validator

from posttrain.core.group import Group, Response, Score, group
from posttrain.rewards.answers import clipped
from posttrain.rewards.criterion import Criterion, RewardExample
from posttrain.rewards.final_answer import after_thinking

FENCE = re.compile(r"^\s*```[\w-]*[ \t]*\n(.*?)\n?```\s*$", re.DOTALL)
LONGEST, DEEPEST = 200_000, 64
"""Characters and nesting of an answer that are still read."""


def unfenced(text: str) -> str:
    """The answer after its reasoning, without one code fence around it."""
    text = after_thinking(text)
    found = FENCE.match(text)
    return found.group(1) if found else text.strip()


class JsonSchema(Criterion):
    """How far the answer is JSON of the right shape: 0 where it is not JSON, 1 where the schema holds, between by broken rules."""

    name: ClassVar[str] = "json_schema"
    shape: dict[str, Any] = Field(min_length=1)
    """The JSON Schema (draft 2020-12); references to other documents are refused."""
    strict: bool = False
    """Give nothing unless every rule holds."""

    @field_validator("shape")
    @classmethod
    def _is_schema(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            jsonschema.Draft202012Validator.check_schema(value)
        except jsonschema.SchemaError as error:
            raise ValueError(f"not a JSON Schema: {error.message}") from None
        outside = [r for r in _references(value) if not r.startswith("#")]
        if outside:
            raise ValueError(f"refers to {outside[0]!r}; only references inside the schema (#...) are followed")
        return value

    @cached_property
    def validator(self) -> jsonschema.Draft202012Validator:
        return jsonschema.Draft202012Validator(self.shape)

    def one(self, group: Group, response: Response) -> Score:
        text = unfenced(response.text)
        if len(text) > LONGEST:
            return Score(0.0, {"json": 0.0, "schema": 0.0}, f"longer than {LONGEST} characters")
        try:
            body = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            return Score(0.0, {"json": 0.0, "schema": 0.0}, f"not JSON: {error}")
        broken = sorted((f"{e.json_path}: {e.message}" for e in self.validator.iter_errors(body)), key=str)
        if not broken:
            return Score(1.0, {"json": 1.0, "schema": 1.0}, "the schema holds")
        value = 0.0 if self.strict else 0.5 / len(broken)
        return Score(value, {"json": 1.0, "schema": value}, f"{len(broken)} rules broken: {clipped(broken[0])}")

    @classmethod
    def example(cls) -> RewardExample:
        shape = {"type": "object", "required": ["title", "year"], "properties": {"year": {"type": "integer"}}}
        return RewardExample(
            [group("JSON?", '{"title": "Les Misérables", "year": 1862}', '{"title": "x"}', "title: x")],
            {"shape": shape},
        )


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [v for k, v in node.items() if k in ("$ref", "$dynamicRef") and isinstance(v, str)]
        return own + [r for v in node.values() for r in _references(v)]
    return [r for v in node for r in _references(v)] if isinstance(node, list) else []


class Xml(Criterion):
    """Is the answer well-formed XML (half the value), and are the required elements there (the other half, by share)?"""

    name: ClassVar[str] = "xml"
    root: str | None = None
    """Name of the outermost element; another one scores as not well-formed."""
    required: tuple[str, ...] = ()
    """Paths of elements that must occur with text inside, such as `record/title`."""

    def one(self, group: Group, response: Response) -> Score:
        try:
            there = elements(unfenced(response.text))
        except ValueError as error:
            return Score(0.0, {"well_formed": 0.0, "required": 0.0}, str(error))
        root = next(iter(there), "")
        if self.root is not None and root != self.root:
            return Score(0.0, {"well_formed": 1.0, "required": 0.0}, f"the root is {root!r}, not {self.root!r}")
        missing = [path for path in self.required if not there.get(path)]
        share = 1 - len(missing) / len(self.required) if self.required else 1.0
        why = (
            f"well-formed; missing: {', '.join(missing)}" if missing else "well-formed, all required elements are there"
        )
        return Score(0.5 + 0.5 * share, {"well_formed": 1.0, "required": share}, why)

    @classmethod
    def example(cls) -> RewardExample:
        gold, half = "<record><title>Nana</title></record>", "<record><author>Zola</author></record>"
        return RewardExample(
            [group("XML?", gold, half, "<record><title>Nana</record>")],
            {"root": "record", "required": ("record/title",)},
        )


def elements(text: str) -> dict[str, bool]:
    """Paths of all elements, root first, and whether text stands in one of that path. Raises ValueError in one line.

    DOCTYPE, entities and processing instructions are refused; size and depth are bounded.
    """
    if len(text) > LONGEST:
        raise ValueError(f"longer than {LONGEST} characters")
    found: dict[str, bool] = {}
    path: list[str] = []

    def opened(name: str, _: Any) -> None:
        path.append(name)
        if len(path) > DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST}")
        found.setdefault("/".join(path), False)

    def said(data: str) -> None:
        if data.strip():
            found["/".join(path)] = True

    def refused(*_: Any) -> None:
        raise ValueError("declarations and processing instructions are refused")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.CharacterDataHandler = opened, said
    parser.EndElementHandler = lambda _: path.pop() and None
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = parser.ProcessingInstructionHandler = refused
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise ValueError(f"not well-formed: {error}") from None
    return found


class Think(Criterion):
    """Does one reasoning trace stand before the answer? 1 for one closed trace and an answer after it; half without the answer."""

    name: ClassVar[str] = "think"
    opening: str = "<think>"
    """What the trace begins with; an answer may begin inside it where the template has opened it."""
    closing: str = "</think>"
    """What the trace ends with."""
    least: int = Field(default=1, ge=0)
    """Words that the trace must have."""

    def one(self, group: Group, response: Response) -> Score:
        text = _with_trace(response)
        inside, found, after = text.partition(self.closing)
        opened = inside.lstrip().startswith(self.opening)
        body = inside.lstrip().removeprefix(self.opening)
        if not found or self.closing in after or self.opening in body or self.opening in after:
            return Score(0.0, {"think": 0.0}, "no single closed trace before the answer")
        if len(body.split()) < self.least:
            return Score(0.0, {"think": 0.0}, f"the trace has {len(body.split())} words of {self.least}")
        value = 1.0 if after.strip() else 0.5
        how = "trace and answer" if after.strip() else "a trace, but no answer after it"
        return Score(value, {"think": value}, how if opened else f"{how}; opened by the template")

    @classmethod
    def example(cls) -> RewardExample:
        gold = "<think>six times seven</think>42"
        return RewardExample(
            [group("6 x 7?", gold, "<think>six times seven</think>", "42", "<think><think></think>42")]
        )


def _with_trace(response: Response) -> str:
    """The answer's text with a trace that its message keeps apart."""
    return "\n".join(
        (f"<think>{m.thinking}</think>" if m.thinking else "") + m.content
        for m in response.turns
        if m.role == "assistant"
    )
