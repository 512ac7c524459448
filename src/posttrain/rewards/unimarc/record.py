"""A UNIMARC record as data, and its three written forms: the module others import.

``from_x(to_x(record)) == record`` for compact lines, text lines and MARCXML; a converter adds nothing and drops nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from posttrain.rewards.unimarc.fields import (
    Field,
    Record,
    RecordError,
    check_text,
    checked,
    control,
    data,
    subfields,
)
from posttrain.rewards.unimarc.lines import from_lines, from_text, to_lines, to_text
from posttrain.rewards.unimarc.marcxml import from_marcxml, to_marcxml

__all__ = [
    "READERS",
    "WRITERS",
    "Field",
    "Record",
    "RecordError",
    "checked",
    "control",
    "data",
    "dump",
    "form",
    "from_lines",
    "from_marcxml",
    "from_text",
    "parse",
    "read",
    "subfields",
    "to_lines",
    "to_marcxml",
    "to_text",
]


def form(text: str) -> str:
    """Which form a text is in: ``marcxml``, ``text`` or ``lines``; a leader line decides, else the indicators of field lines."""
    if text.lstrip("\ufeff \t\r\n").startswith("<"):
        return "marcxml"
    if re.search(r"^LDR( |$)", text, re.MULTILINE):
        return "lines"
    if re.search(r"^LEADER( |$)", text, re.MULTILINE):
        return "text"
    return "text" if re.search(r"^[0-9A-Z]{3} (?: [^$#\n]|[^$#\n] )\$", text, re.MULTILINE) else "lines"


WRITERS: dict[str, Callable[[Record], str]] = {"marcxml": to_marcxml, "lines": to_lines, "text": to_text}
READERS: dict[str, Callable[[str], Record]] = {"marcxml": from_marcxml, "lines": from_lines, "text": from_text}


def read(text: str | bytes) -> Record:
    """Read a record in whichever form it is written. Raises RecordError (a ValueError) that names the broken rule."""
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RecordError("L0-01", f"not UTF-8: {error.reason} at byte {error.start}") from None
    return READERS[form(check_text(text))](text)


parse = read


def dump(record: Record, form: str = "marcxml") -> str:
    """Write a record as ``marcxml``, ``lines`` or ``text``; the inverse of `parse`."""
    if form not in WRITERS:
        raise ValueError(f"form {form!r} is unknown; accepted: {', '.join(WRITERS)}")
    return WRITERS[form](record)
