"""What a recipe node is made of, as plain values: for the command line, the tables of the docs and the test of fields.

Reads the pydantic classes; nothing about a field is written down a second time.
"""

from __future__ import annotations

import json
import types
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from posttrain.core.recipe import Kind, Spec
from posttrain.jobs.job import Data, Rows

Sort = Literal["flag", "int", "number", "text", "choice", "list", "member", "spec", "data", "any"]
NAMED = {"model": "MODEL", "out": "DIR", "reward": "RUN", "recipe": "RECIPE"}
WIDEST = 60
"""Characters of a list of choices that help still shows beside the option; longer ones stand in its text."""
METAVARS = {"int": "N", "number": "X", "text": "TEXT", "list": "ITEM", "data": "FILE", "any": "VALUE", "spec": "YAML"}


@dataclass(frozen=True)
class Field:
    """One field of a node. sort: how it is written. choices: of a literal or the members of a family. node: class inside (of an item
    in a list).

    optional: may be null. default: a plain value (None where required).
    """

    name: str
    sort: Sort
    required: bool
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    node: type[Spec] | None = None
    optional: bool = False

    @property
    def metavar(self) -> str:
        """How the value is called in help: its choices, or what kind of thing it is."""
        if self.sort == "text" and self.name in NAMED:
            return NAMED[self.name]
        if self.sort == "choice":
            listed = "{" + ",".join(self.choices) + "}"
            return listed if len(listed) <= WIDEST else "NAME"
        if self.sort == "member":
            return "NAME"
        return METAVARS.get(self.sort, "VALUE")

    @property
    def type_text(self) -> str:
        """The type for tables: ``whole number``, ``one of all, last`` ..."""
        words = {"flag": "yes or no", "int": "whole number", "number": "number", "text": "text", "list": "list"}
        words |= {"data": "data", "any": "number or text", "spec": self.node.__name__ if self.node else "mapping"}
        if self.choices and self.sort in ("choice", "member", "list"):
            some = "several of " if self.sort == "list" else "one of "
            return some + ", ".join(self.choices)
        if self.sort == "list" and self.node is not None:
            return f"list of {self.node.__name__}"
        return words[self.sort]

    @property
    def default_text(self) -> str:
        """The default as one would write it; empty where there is none."""
        if self.required or self.default is None or self.default == []:
            return ""
        value = self.default
        if self.sort == "member" and isinstance(value, dict):
            return str(value["name"]) if set(value) == {"name"} else json.dumps(value)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, float):
            return short(value) if value != 0 and abs(value) < 1e-3 else f"{value:g}"
        return json.dumps(value, ensure_ascii=False)


def short(number: float) -> str:
    """A small number as people write it: 2e-5.

    >>> short(0.00002)
    '2e-5'
    """
    mantissa, _, exponent = f"{number:.6e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def fields_of(node: type[Spec]) -> list[Field]:
    """The fields of a node, in the order of their declaration."""
    return [_field(name, info) for name, info in node.model_fields.items()]


def _field(name: str, info: FieldInfo) -> Field:
    sort, choices, inner, optional = _sort(info.annotation)
    default = None if info.is_required() else _plain(info.get_default(call_default_factory=True))
    if sort == "spec" and not optional:
        default = None
    text = " ".join((info.description or "").split())
    return Field(name, sort, info.is_required(), default, text, choices, inner, optional)


def _plain(value: Any) -> Any:
    if isinstance(value, Kind):
        return {"name": value.name, **value.model_dump(mode="json", exclude_defaults=True)}
    if isinstance(value, Spec):
        return value.model_dump(mode="json")
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return value


def _sort(annotation: Any) -> tuple[Sort, tuple[str, ...], type[Spec] | None, bool]:
    """(sort, choices, inner class, optional) of an annotation."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is not None and hasattr(annotation, "__metadata__"):
        return _sort(args[0])
    if origin in (Union, types.UnionType):
        rest = [a for a in args if a is not type(None)]
        optional = len(rest) < len(args)
        if any(a is Rows or get_args(a)[:1] == (Rows,) for a in rest):
            return "data", (), Data, optional
        if len(rest) == 1:
            sort, choices, inner, _ = _sort(rest[0])
            return sort, choices, inner, optional
        return "any", (), None, optional
    if origin is Literal:
        return "choice", tuple(str(a) for a in args), None, False
    if origin in (tuple, list):
        inside = _sort(args[0]) if args else ("any", (), None, False)
        return "list", inside[1], inside[2], False
    if isinstance(annotation, type) and issubclass(annotation, Kind):
        return "member", tuple(sorted(annotation.members)), annotation, False
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return "spec", (), annotation, False
    plain: dict[Any, Sort] = {bool: "flag", int: "int", float: "number", str: "text"}
    return plain.get(annotation, "any"), (), None, False
