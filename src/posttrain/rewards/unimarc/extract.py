"""From the text a model wrote to one record: the record itself, and whether anything stood around it.

One code fence is removed. MARCXML: from the first declaration, comment, document type or record element to the last closing one, so
hostile markup before a record is read, and refused, rather than skipped as prose. Lines: from the leader line (or the first field line)
to the last field line; every line in between must parse. Two records are one too many (L0-02).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from posttrain.rewards.unimarc.fields import MAX_BYTES, Record, RecordError
from posttrain.rewards.unimarc.record import READERS, form

_FENCE = re.compile(r"^[ \t]*```[\w-]*[ \t]*$", re.MULTILINE)
_MARKUP = re.compile(r"<(?:[?!]|(?:\w+:)?(?:record|collection)\b)")
_MARKUP_END = re.compile(r"</(?:\w+:)?(?:record|collection)\s*>|-->|\?>|/>")
_RECORD = re.compile(r"<(?:\w+:)?record\b")
_LEADER = re.compile(r"^(?:LDR|LEADER)(?: |$)", re.MULTILINE)
_FIELD = re.compile(r"^(?:(?:LDR|LEADER|00[0-9A-Z])(?: .*)?|[0-9A-Z]{3} [^$\n]{0,14}\$.*)$", re.MULTILINE)


class Extracted(NamedTuple):
    """A record (None where none could be read), the fault that prevented it, and the text found outside it."""

    record: Record | None
    fault: RecordError | None
    outside: str


def extract(text: str | bytes | Record) -> Extracted:
    """Find and read the one record of an answer. Never raises; a record passes through as it is."""
    if isinstance(text, Record):
        return Extracted(text, None, "")
    if isinstance(text, bytes):
        try:
            text = text[: MAX_BYTES + 1].decode("utf-8")
        except UnicodeDecodeError as error:
            return Extracted(None, RecordError("L0-01", f"not UTF-8: {error.reason} at byte {error.start}"), "")
    if len(text) > MAX_BYTES:
        return Extracted(None, RecordError("L0-01", f"more than {MAX_BYTES} bytes"), "")
    try:
        body, outside = _cut(text)
        return Extracted(READERS[form(body)](body), None, outside)
    except RecordError as error:
        return Extracted(None, error, "")


def _cut(text: str) -> tuple[str, str]:
    """The record's own text and the rest, fence lines apart. Raises RecordError (L0-02) for no record or several."""
    markup, leaders = _MARKUP.search(text), list(_LEADER.finditer(text))
    if markup and (not leaders or markup.start() < leaders[0].start()):
        start = markup.start()
        ends = [m.end() for m in _MARKUP_END.finditer(text, start)]
        stop = ends[-1] if ends else len(text)
        if len(_RECORD.findall(text)) > 1 or leaders:
            raise RecordError("L0-02", "more than one record")
    else:
        if len(leaders) > 1 or _RECORD.search(text):
            raise RecordError("L0-02", "more than one record")
        fields = list(_FIELD.finditer(text, leaders[0].start() if leaders else 0))
        if not fields:
            raise RecordError("L0-02", "no record: neither a record element nor field lines")
        start, stop = fields[0].start(), fields[-1].end()
        fences = [m.start() for m in _FENCE.finditer(text, start, stop)]
        if fences:
            raise RecordError("L0-01", "a code fence inside the record")
    outside = text[:start] + "\n" + text[stop:]
    if len(fences := _FENCE.findall(outside)) <= 2:
        outside = _FENCE.sub("", outside, count=len(fences))
    return text[start:stop], outside.strip("\ufeff \t\r\n")
