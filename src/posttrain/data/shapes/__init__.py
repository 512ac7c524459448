"""The shapes of rows that are recognised without flags, most specific first, and the table of them that the docs print."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from posttrain.data.shapes import conversations, pairs, single, tasks
from posttrain.data.shapes.shape import Row, Shape
from posttrain.data.turns import missing

_CONVERSATION_PAIRS, _CONVERSATIONS = conversations.SHAPES[:4], conversations.SHAPES[4:]
_GROUPS, _PAIRS, _LISTS = pairs.SHAPES[0], pairs.SHAPES[1:3], pairs.SHAPES[3:]
SHAPES: tuple[Shape, ...] = (
    _GROUPS, *_CONVERSATION_PAIRS, *_PAIRS, *_LISTS, *_CONVERSATIONS, *tasks.SHAPES, *single.SHAPES,
)  # fmt: skip
NAMES: tuple[str, ...] = tuple(s.name for s in SHAPES)


def named(name: str) -> Shape:
    """A shape by name. ValueError names the nearest one."""
    for shape in SHAPES:
        if shape.name == name:
            return shape
    near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"shape {name!r} is unknown; {hint}accepted: {'; '.join(NAMES)}")


def recognise(rows: Sequence[Row]) -> Shape | None:
    """The first shape that fits the first rows taken together: each column is judged by its first value that is not null."""
    sample: dict[str, object] = {}
    for row in rows:
        for column, value in row.items():
            if missing(sample.get(column)) or sample[column] in ("", [], {}):
                sample[column] = value
            elif column in ("label", "kto_tag") and single.label_of(value) is not None:
                sample[column] = (
                    value  # one good/bad value makes it a label column; other values are then refused by row
                )
    return next((shape for shape in SHAPES if shape.fits(sample)), None)


def table() -> str:
    """The registry as a Markdown table for the docs."""
    lines = ["| shape | columns | becomes |", "|---|---|---|"]
    lines += [f"| {s.name} | {s.needs} | {s.gives} |" for s in SHAPES]
    return "\n".join(lines)
