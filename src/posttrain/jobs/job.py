"""A job is a verb of the command line, a node of a recipe and a Python call: one schema, three ways to write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, InstanceOf, NonNegativeFloat, PlainSerializer, PositiveInt
from rich.console import Console

from posttrain.core.group import Group
from posttrain.core.recipe import Kind, Spec


@dataclass
class Context:
    """What a job gets from whoever runs it: where to print, and whether a person watches."""

    console: Console = field(default_factory=lambda: Console(stderr=True))
    bars: bool = True

    def say(self, text: str) -> None:
        """One line for the user; text from data is never read as markup."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class Job(Kind):
    """Something to do. `run` returns what it made; `out` is where."""

    family: ClassVar[str] = "job"
    produces: ClassVar[Literal["run", "file", "text"]] = "run"

    def run(self, context: Context | None = None) -> Any:
        raise AssertionError(f"{type(self).__name__} does nothing")


class Data(Spec):
    """Rows of one file, directory or hub id, and how to read them."""

    path: str
    """File (JSONL, JSON, CSV, TSV, Parquet, text, .gz), `datasets` directory or `hub:owner/name`."""
    shape: str | None = None
    """Name of the row shape; recognised when not given."""
    columns: dict[str, str] | None = None
    """Our column name to the file's: `{prompt: question, completion: answer}`."""
    template: str | dict[str, str] | None = None
    """The prompt's text from columns: `"Instruction: {instruction}\\nAnswer:"`."""
    split: str | None = None
    """Split of a directory or hub data set."""
    limit: PositiveInt | None = None
    """Read at most this many rows."""
    bad: Literal["stop", "aside"] = "stop"
    """A row that cannot be read stops the run, or is kept aside and counted."""
    weight: NonNegativeFloat = 1.0
    """Share of this source in a mixture of several."""
    task: str | None = None
    """Name of this source in `mixture` and in the report; none takes the file's."""


@dataclass(frozen=True)
class Rows:
    """Groups made in Python; a recipe holds only their number, so such a run cannot be rebuilt from its file."""

    groups: tuple[Group, ...]


def as_data(value: Any) -> Any:
    """A path, a mapping, a list of either, or groups, as the `data` field takes them."""
    if isinstance(value, str | Path):
        return (Data(path=str(value)),)
    if isinstance(value, Data):
        return (value,)
    if isinstance(value, Mapping) and "rows" in value:
        raise ValueError("these rows were given in Python and are not in the recipe; name a file instead")
    if isinstance(value, Mapping):
        return (Data.model_validate(value),)
    if isinstance(value, Rows):
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(v, Group) for v in value):
        return Rows(tuple(value))
    if isinstance(value, list | tuple) and value:
        return tuple(v if isinstance(v, Data) else as_data(v)[0] for v in value)
    raise ValueError("data is empty; give a path, a list of paths, or groups")


def dump_data(value: tuple[Data, ...] | Rows) -> Any:
    """Plain values that `as_data` reads back: a bare path where nothing else was set."""
    if isinstance(value, Rows):
        return {"rows": len(value.groups)}
    plain = [d.model_dump(mode="json", exclude_defaults=True) for d in value]
    short = [d["path"] if set(d) == {"path"} else d for d in plain]
    return short[0] if len(short) == 1 else short


Source = Annotated[
    tuple[Data, ...] | InstanceOf[Rows], BeforeValidator(as_data), PlainSerializer(dump_data, return_type=Any)
]


class Selection(Spec):
    """Which tensors are trained, by glob patterns on their names; new heads are always trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    only: tuple[str, ...] = ()
    """Train only tensors that match one of these."""
    freeze: tuple[str, ...] = ()
    """Do not train tensors that match one of these."""
