r"""Column mapping and prompt templates: ``{"prompt": "my_question"}`` and ``"Instruction: {instruction}\nRéponse:"``.

A template knows plain column names in braces and nothing else: no attributes, indices, conversions or format codes, so a template
from elsewhere cannot reach into objects. ``{{`` and ``}}`` are braces; the two signs ``\n`` and ``\t``, as a command line passes
them, are a line end and a tab, ``\\`` is one backslash.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import Any

from posttrain.data.turns import Notes, plain

_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\\\": "\\"}


class Template:
    """A parsed template. columns: the names it fills in, in order. Raises ValueError when the text is no plain template."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._pieces: list[tuple[str, str | None]] = []
        unescaped = re.sub(r"\\[nt\\]", lambda m: _ESCAPES[m.group()], text)
        try:
            parsed = list(string.Formatter().parse(unescaped))
        except ValueError as error:
            raise ValueError(f"template {text!r}: {error}; write {{{{ and }}}} for braces that are text") from None
        for literal, name, code, conversion in parsed:
            if name is not None and (code or conversion or not name.strip() or re.search(r"[.\[\]]", name)):
                raise ValueError(
                    f"template {text!r}: {{{name}}} is not a plain column name; write {{column}}, and {{{{ }}}} for braces that are text"
                )
            self._pieces.append((literal, name))
        self.columns = tuple(dict.fromkeys(name for _, name in self._pieces if name is not None))
        if not self.columns:
            raise ValueError(f"template {text!r} names no column; write {{column}} where its value belongs")

    def fill(self, row: Mapping[str, Any], notes: Notes) -> str:
        """The text for one row. ValueError names a missing column and what was found."""
        for column in self.columns:
            if column not in row:
                raise ValueError(
                    f"the template needs column {column!r}; found: {', '.join(map(str, row)) or 'nothing'}"
                )
        return "".join(
            literal + ("" if name is None else plain(row[name], f"column {name!r}", notes))
            for literal, name in self._pieces
        )


def map_columns(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """The row with columns renamed, ``columns`` being {our name: the row's name}. A column that is in the way is kept as ``name (own)``."""
    for ours, theirs in columns.items():
        if theirs not in row:
            raise ValueError(
                f"column {theirs!r}, mapped to {ours!r}, is not there; found: {', '.join(map(str, row)) or 'nothing'}"
            )
    taken = set(columns.values())
    made = {ours: row[theirs] for ours, theirs in columns.items()}
    for name, value in row.items():
        if name not in taken:
            made[f"{name} (own)" if name in columns else name] = value
    return made
