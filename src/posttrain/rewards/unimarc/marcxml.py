"""MARCXML, read safely with expat and written plainly.

Document types, entity declarations, external references, processing instructions, comments and CDATA are refused as they are met;
the limits of `fields` hold before and while parsing. Namespaces: none, MARC21 slim, marcxchange (the exact URIs of the latter are
unconfirmed). Attributes other than tag, ind1, ind2 and code carry nothing and are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NoReturn
from xml.parsers import expat

from posttrain.rewards.unimarc.fields import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_FIELDS,
    MAX_TOTAL,
    TAG,
    Field,
    Record,
    RecordError,
    check_text,
    checked,
)

NAMESPACES = ("", "http://www.loc.gov/MARC21/slim", "info:lc/xmlns/marcxchange-v1", "info:lc/xmlns/marcxchange-v2")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}
_MARKUP = re.compile('[&<>"\r\n\t]')


def _xml(value: str) -> str:
    return _MARKUP.sub(lambda m: _ENTITIES[m.group()], value)


def to_marcxml(record: Record) -> str:
    """Write one ``record`` element in the MARC21 slim namespace. Raises RecordError for a part no form can carry."""
    checked(record)
    out = [f'<record xmlns="{NAMESPACES[1]}">', f"  <leader>{_xml(record.leader)}</leader>"]
    for f in record.fields:
        if f.is_control:
            out.append(f'  <controlfield tag="{f.tag}">{_xml(f.value or "")}</controlfield>')
            continue
        out.append(f'  <datafield tag="{f.tag}" ind1="{_xml(f.indicators[0])}" ind2="{_xml(f.indicators[1])}">')
        out += [f'    <subfield code="{code}">{_xml(value)}</subfield>' for code, value in f.subfields]
        out.append("  </datafield>")
    return "\n".join([*out, "</record>"])


_PARENTS = {
    "collection": (None,),
    "record": (None, "collection"),
    "leader": ("record",),
    "controlfield": ("record",),
    "datafield": ("record",),
    "subfield": ("datafield",),
}


class _Reader:
    """Expat handlers that build one record and raise RecordError at the first thing that does not belong."""

    def __init__(self) -> None:
        self.path: list[str] = []
        self.records = self.total = 0
        self.leaders: list[str] = []
        self.fields: list[Field] = []
        self.text: list[str] = []
        self.attributes: dict[str, str] = {}
        self.subfields: list[tuple[str, str]] = []
        self.code = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        namespace, _, local = name.rpartition(" ")
        if len(self.path) >= MAX_DEPTH:
            raise RecordError("L0-01", f"elements nested deeper than {MAX_DEPTH}")
        if namespace not in NAMESPACES or local not in _PARENTS:
            raise RecordError(
                "L0-02", f"element {local[:40]!r} (namespace {namespace[:60]!r}) has no place in a record"
            )
        if (self.path[-1] if self.path else None) not in _PARENTS[local]:
            raise RecordError("L0-02", f"element {local!r} inside {self.path[-1] if self.path else 'nothing'!r}")
        self.path.append(local)
        self.text.clear()
        if local == "record":
            self.records += 1
            if self.records > 1:
                raise RecordError("L0-02", "more than one record")
        elif local == "subfield":
            self.code = attributes.get("code", "")
            self.total += 1
            if self.total > MAX_TOTAL:
                raise RecordError("L0-01", f"more than {MAX_TOTAL} subfields in one record")
        elif local in ("datafield", "controlfield"):
            self.attributes, self.subfields = attributes, []
            if len(self.fields) >= MAX_FIELDS:
                raise RecordError("L0-01", f"more than {MAX_FIELDS} fields")

    def end(self, name: str) -> None:
        local = self.path.pop()
        if local == "leader":
            self.leaders.append("".join(self.text))
        elif local == "subfield":
            self.subfields.append((self.code, "".join(self.text)))
        elif local == "controlfield":
            self.field(True, Field(self.attributes.get("tag", ""), value="".join(self.text)))
        elif local == "datafield":
            first, second = self.attributes.get("ind1"), self.attributes.get("ind2")
            if first is None or second is None or len(first) != 1 or len(second) != 1:
                raise RecordError("L0-05", f"{self.attributes.get('tag')} needs ind1 and ind2, one character each")
            self.field(False, Field(self.attributes.get("tag", ""), first + second, tuple(self.subfields)))
        self.text.clear()

    def field(self, as_control: bool, f: Field) -> None:
        if TAG.fullmatch(f.tag) and f.is_control != as_control:
            raise RecordError("L0-04", f"{f.tag}: tags 00X are control fields, all others data fields")
        self.fields.append(f)

    def characters(self, chunk: str) -> None:
        if self.path and self.path[-1] in ("leader", "controlfield", "subfield"):
            self.text.append(chunk)
        elif chunk.strip(" \t\r\n"):
            raise RecordError("L0-07", f"text {chunk[:40]!r} between elements")


def _refuse(rule: str, what: str) -> Callable[..., NoReturn]:
    def handler(*_: object) -> NoReturn:
        raise RecordError(rule, f"{what} is not allowed")

    return handler


def from_marcxml(xml: str | bytes) -> Record:
    """Read MARCXML: one ``record``, bare or in a ``collection``. Bytes must be UTF-8. Raises RecordError naming the broken rule."""
    if isinstance(xml, bytes):
        if len(xml) > MAX_BYTES:
            raise RecordError("L0-01", f"more than {MAX_BYTES} bytes")
        try:
            xml = xml.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RecordError("L0-01", f"not UTF-8: {error.reason} at byte {error.start}") from None
    text = check_text(xml).lstrip("\ufeff \t\r\n")
    reader = _Reader()
    parser = expat.ParserCreate("UTF-8", namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler = reader.characters
    parser.StartDoctypeDeclHandler = _refuse("L0-01", "a DOCTYPE")
    parser.EntityDeclHandler = _refuse("L0-01", "an entity declaration")
    parser.ExternalEntityRefHandler = _refuse("L0-01", "an external reference")
    parser.SkippedEntityHandler = _refuse("L0-01", "an undeclared entity")
    parser.ProcessingInstructionHandler = _refuse("L0-01", "a processing instruction")
    parser.CommentHandler = _refuse("L0-07", "a comment")
    parser.StartCdataSectionHandler = _refuse("L0-07", "a CDATA section")
    try:
        parser.Parse(text.encode("utf-8"), True)
    except expat.ExpatError as error:
        raise RecordError("L0-01", f"not well-formed: {expat.ErrorString(error.code)}", error.lineno) from None
    if reader.records != 1:
        raise RecordError("L0-02", "no record element")
    if len(reader.leaders) != 1:
        raise RecordError("L0-03", f"{len(reader.leaders)} leaders; exactly one is expected")
    return checked(Record(reader.leaders[0], tuple(reader.fields)))
