"""Recipes: one schema for the Python call, the YAML node, the command line, the JSON Schema and the docs.

A `Spec` is a frozen pydantic model that refuses unknown fields and names the nearest known one. A `Kind` is a member of an open
family that is chosen by name: ``method: dpo`` and ``method: {name: dpo, beta: 0.2}`` both build ``DPO``. `build` and `dump` are inverse.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, GetJsonSchemaHandler, PlainSerializer, ValidationError
from pydantic_core import CoreSchema, ErrorDetails

SCHEMA_VERSION = 1


class Spec(BaseModel):
    """A frozen node of a recipe. Field descriptions say what turning the field does; unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)
    past: ClassVar[Mapping[str, str]] = {}
    """Names that other libraries use for what this node has, each with what to write here."""

    def changed(self, **fields: Any) -> Self:
        """The same node with some fields changed, validated again."""
        return type(self).model_validate({**{k: getattr(self, k) for k in type(self).model_fields}, **fields})


class Kind(Spec):
    """A member of an open family. A family is a direct subclass of `Kind`; its subclasses with a `name` register in it."""

    name: ClassVar[str]
    family: ClassVar[str]
    members: ClassVar[dict[str, type[Kind]]]

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        if Kind in cls.__bases__:
            cls.members = {}
        elif "name" in cls.__dict__:
            other = cls.members.get(cls.name)
            if other is not None and other.__qualname__ != cls.__qualname__:
                raise AssertionError(f"two members of {cls.family} are called {cls.name!r}")
            cls.members[cls.name] = cls

    @classmethod
    def of(cls, value: Any) -> Any:
        """A member from its name, a mapping with ``name``, or a member already built. Raises ValueError with the nearest name."""
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping):
            return value
        fields = dict(value)
        name = fields.pop("name", None)
        if name is None:
            raise ValueError(f"a {cls.family} needs a name; known: {', '.join(sorted(cls.members))}")
        if name not in cls.members:
            raise ValueError(f"unknown {cls.family} {name!r}{nearest(str(name), cls.members)}")
        return build_spec(cls.members[name], fields)


@dataclass(frozen=True)
class Members:
    """JSON Schema of a family: a name, or an object with a name. Members are not unfolded (a sum of rewards holds rewards); the schema for
    editors, made of our own nodes, does that."""

    family: type[Kind]

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        names = {"enum": sorted(self.family.members)}
        return {"anyOf": [names, {"type": "object", "properties": {"name": names}, "required": ["name"]}]}


def dump_kind(value: Any) -> Any:
    """A family member as a mapping with its name."""
    if isinstance(value, Kind):
        return {"name": value.name, **value.model_dump(mode="json")}
    return value


def one_of(family: type[Kind]) -> Any:
    """The annotation of a field that holds a member of `family`: ``method: one_of(Method)``."""
    return Annotated[family, BeforeValidator(family.of), PlainSerializer(dump_kind, return_type=Any), Members(family)]


def nearest(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """``; did you mean `x`?`` or the list of what is known."""
    if not known:
        return "; it has no fields"
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean `{match[0]}`?" if match else f"; known: {', '.join(sorted(known))}"


BRANCH = re.compile(r"literal\[.*\]|constrained-\w+|int|float|str|bool|none")
"""What pydantic adds to the place of an error for the branch of a union that was tried."""


class RecipeError(ValueError):
    """What is wrong with a recipe, one line per field, each with its path and the remedy."""


def _spec_at(cls: type[BaseModel], path: tuple[Any, ...]) -> type[BaseModel] | None:
    """The node class that holds the last element of an error path (through lists, unions and families)."""
    here: type[BaseModel] | None = cls
    for step in path[:-1]:
        if here is None or step not in here.model_fields:
            continue
        here = next((c for c in _classes(here.model_fields[step].annotation)), None)
    return here


def _classes(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not None:
        for arg in get_args(annotation):
            yield from _classes(arg)


def explain(error: ValidationError, cls: type[BaseModel], where: str = "") -> RecipeError:
    """A pydantic error in the words of the user: ``method.betaa: unknown field; did you mean `beta`?``."""
    lines = [line for item in _joined(error.errors(include_url=False)) for line in _lines(cls, item, where)]
    return RecipeError("\n".join(dict.fromkeys(lines)))


def _joined(items: list[ErrorDetails]) -> list[ErrorDetails]:
    """Errors with those of a union's branches (``auto`` or a number), which pydantic tells one by one, made one of the field."""
    out: list[ErrorDetails] = []
    for item in items:
        field, branch = item["loc"][:-1], str(item["loc"][-1]) if item["loc"] else ""
        if not field or not BRANCH.fullmatch(branch):
            out.append(item)
        elif out and out[-1]["loc"] == field:
            out[-1]["msg"] += " or " + item["msg"].removeprefix("Input should be ")
        else:
            out.append({**item, "loc": field})  # type: ignore[misc]
    return out


def _lines(cls: type[BaseModel], item: ErrorDetails, where: str) -> list[str]:
    path = ".".join(str(p) for p in item["loc"])
    path = f"{where}.{path}" if where and path else where or path
    inner = item.get("ctx", {}).get("error")
    if isinstance(inner, RecipeError):
        return [f"{path}.{line}" for line in str(inner).splitlines()]
    return [_line(cls, item, path)]


def _line(cls: type[BaseModel], item: ErrorDetails, path: str) -> str:
    if item["type"] == "extra_forbidden":
        holder = cls if len(item["loc"]) == 1 else _spec_at(cls, item["loc"])
        known: list[str] = sorted(holder.model_fields) if holder is not None else []
        if holder is not None and issubclass(holder, Spec) and str(item["loc"][-1]) in holder.past:
            return f"{path}: here it is {holder.past[str(item['loc'][-1])]}"
        return f"{path}: unknown field{nearest(str(item['loc'][-1]), known)}"
    if item["type"] == "missing":
        return f"{path}: this field is required"
    message = item["msg"].removeprefix("Value error, ")
    given = item.get("input")
    shown = f" (got {given!r})" if isinstance(given, str | int | float | bool) and item["type"] != "value_error" else ""
    return f"{path}: {message}{shown}" if path else f"{message}{shown}"


def build_spec(cls: type[Spec], values: Mapping[str, Any], where: str = "") -> Any:
    """Build a node from plain values. Raises RecipeError with one line per fault."""
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        raise explain(error, cls, where) from None


def dump(spec: Spec) -> dict[str, Any]:
    """Plain values that `build_spec` turns back into an equal node."""
    return spec.model_dump(mode="json")
