"""A UNIMARC record as data, and lossless converters between its three written forms.

Forms: compact lines (what a policy writes), text lines (how catalogues print records: blanks stay blanks, ``LEADER`` first) and
MARCXML. A converter adds no field, code, indicator or default and drops none, so ``from_x(to_x(r)) == r`` for each.

Compact lines: ``LDR`` + space + leader, ``001`` + space + value for control fields (tag 00X), and for data fields the tag, a
space, two indicator characters, then ``$a`` + value per subfield. ``#`` stands for a blank in the leader, in indicators and in the
fixed-length subfields of 100 and 105-145 (`CODED`); elsewhere it is itself. Text lines have no such stand-in.
Escape, both line forms: ``\\x24`` for ``$``, ``\\x0A`` and ``\\x0D`` for line ends, ``\\x20`` for the last blank of a line, ``\\x23`` for a
literal ``#`` where ``#`` means blank, ``\\x5C`` for a backslash that would otherwise start one of these six. Other text, other
backslashes included, is written as it is.

MARCXML is read with expat; document types, entity declarations, processing instructions, comments and CDATA are refused, and every
form meets the same limits. Source: UNIMARC bibliographic manual (structure), MARCXML as used by Sudoc and BnF. ISO 2709 is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from xml.parsers import expat

MAX_BYTES, MAX_DEPTH, MAX_FIELDS, MAX_SUBFIELDS, MAX_VALUE = 65_536, 6, 200, 100, 4_000
NAMESPACES = ("", "http://www.loc.gov/MARC21/slim", "info:lc/xmlns/marcxchange-v1", "info:lc/xmlns/marcxchange-v2")
CODED = frozenset({"100", *(str(n) for n in range(105, 146))})
"""Tags whose subfields are fixed-length codes: there compact lines write ``#`` for a blank."""

_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
_TAG = re.compile(r"[0-9A-Z]{3}")
_CODE = re.compile(r"[0-9a-z]")
_ESCAPED = re.compile(r"\\x(0A|0D|20|23|24|5C)")


class RecordError(ValueError):
    """Text that is no structurally valid record. rule: the L0 rule it breaks. line: 1-based, where known."""

    def __init__(self, rule: str, message: str, line: int | None = None) -> None:
        super().__init__(f"{rule}: {message}" + (f" (line {line})" if line else ""))
        self.rule, self.message, self.line = rule, message, line


@dataclass(frozen=True, slots=True)
class Field:
    """A control field (tag 00X: `value` set, no indicators) or a data field (two indicators, ``(code, value)`` subfields)."""

    tag: str
    indicators: str = ""
    subfields: tuple[tuple[str, str], ...] = ()
    value: str | None = None

    @property
    def is_control(self) -> bool:
        return self.tag.startswith("00")

    def all(self, code: str) -> list[str]:
        """Values of every subfield `code`, in order."""
        return [value for c, value in self.subfields if c == code]

    def first(self, code: str) -> str | None:
        """Value of the first subfield `code`, None where absent."""
        return next((value for c, value in self.subfields if c == code), None)


@dataclass(frozen=True, slots=True)
class Record:
    """A leader and fields in their order."""

    leader: str
    fields: tuple[Field, ...] = ()

    def all(self, *tags: str) -> list[Field]:
        """Fields with one of these tags, in order."""
        return [f for f in self.fields if f.tag in tags]

    def first(self, tag: str, code: str | None = None) -> str | None:
        """Value of the first control field `tag`, or of the first subfield `code` among the fields `tag`; None where absent."""
        for f in self.fields:
            if f.tag == tag:
                found = f.value if code is None else f.first(code)
                if found is not None:
                    return found
        return None


def control(tag: str, value: str) -> Field:
    """A control field: ``control("001", "000000124")``."""
    return Field(tag, value=value)


def data(tag: str, indicators: str, *subfields: tuple[str, str]) -> Field:
    """A data field: ``data("200", "1 ", ("a", "Zoologie"), ("h", "IV"))``."""
    return Field(tag, indicators, tuple(subfields))


def checked(record: Record) -> Record:
    """The record itself if each of its parts can be written in every form; RecordError naming the field otherwise."""
    if len(record.fields) > MAX_FIELDS:
        raise RecordError("L0-01", f"{len(record.fields)} fields; at most {MAX_FIELDS}")
    for f in record.fields:
        _check_field(f)
    _check_value(record.leader, "the leader")
    return record


def _check_field(f: Field) -> None:
    if not _TAG.fullmatch(f.tag):
        raise RecordError("L0-04", f"tag {f.tag!r} is not three characters of 0-9 and A-Z")
    if f.is_control:
        if f.value is None or f.subfields or f.indicators:
            raise RecordError(
                "L0-04", f"{f.tag} is a control field: it has a value and neither indicators nor subfields"
            )
        _check_value(f.value, f.tag)
        return
    if f.value is not None:
        raise RecordError("L0-04", f"{f.tag} is a data field: it has subfields, not a value")
    if len(f.indicators) != 2:
        raise RecordError("L0-05", f"{f.tag} needs two indicators of one character each, got {f.indicators!r}")
    _check_value(f.indicators, f.tag)
    if not f.subfields:
        raise RecordError("L0-06", f"{f.tag} has no subfield")
    if len(f.subfields) > MAX_SUBFIELDS:
        raise RecordError("L0-01", f"{f.tag} has {len(f.subfields)} subfields; at most {MAX_SUBFIELDS}")
    for code, value in f.subfields:
        if not _CODE.fullmatch(code):
            raise RecordError("L0-06", f"subfield code {code!r} of {f.tag} is not one character of 0-9 and a-z")
        _check_value(value, f"{f.tag} ${code}")


def _check_value(value: str, where: str) -> None:
    if len(value) > MAX_VALUE:
        raise RecordError("L0-01", f"{where} has {len(value)} characters; at most {MAX_VALUE}")
    if _ILLEGAL.search(value):
        raise RecordError("L0-01", f"{where} holds a control character or another that XML cannot carry")


def _check_text(text: str) -> str:
    """Size and characters of a whole text, before anything is parsed."""
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise RecordError("L0-01", f"more than {MAX_BYTES} bytes")
    if _ILLEGAL.search(text):
        raise RecordError("L0-01", "a control character or another that XML cannot carry")
    return text


# ---- line forms -------------------------------------------------------------------------------------------------------------


def _escape(value: str, blanks: bool = False) -> str:
    """A value as a line carries it; `blanks` writes ``#`` for a blank."""
    value = _ESCAPED.sub(lambda m: "\\x5C" + m.group()[1:], value)
    value = value.replace("$", "\\x24").replace("\n", "\\x0A").replace("\r", "\\x0D")
    if blanks:
        return value.replace("#", "\\x23").replace(" ", "#")
    return value


def _plain(value: str, blanks: bool = False) -> str:
    """Inverse of `_escape`."""
    if blanks:
        value = value.replace("#", " ")
    return _ESCAPED.sub(lambda m: chr(int(m.group(1), 16)), value) if "\\x" in value else value


def _written(record: Record, leader: str, blanks: bool) -> str:
    checked(record)
    lines = [f"{leader} {_escape(record.leader, blanks)}"]
    for f in record.fields:
        if f.is_control:
            line = f"{f.tag} {_escape(f.value or '')}"
        else:
            coded = blanks and f.tag in CODED
            body = "".join(f"${code}{_escape(value, coded)}" for code, value in f.subfields)
            line = f"{f.tag} {_escape(f.indicators, blanks)}{body}"
        lines.append(line[:-1] + "\\x20" if line[-1] == " " and len(line) > 4 else line)
    return "\n".join(lines)


def _parsed(text: str, leader: str, blanks: bool) -> Record:
    lines = _check_text(text).replace("\r\n", "\n").strip("\n").split("\n")
    leaders: list[str] = []
    fields: list[Field] = []
    for number, line in enumerate(lines, 1):
        head, _, rest = line.partition(" ")
        if head == leader:
            leaders.append(_plain(rest, blanks))
        elif not _TAG.fullmatch(head):
            raise RecordError(
                "L0-01", f"{line[:40]!r} is no field line: a tag of three characters and a blank are expected", number
            )
        elif head.startswith("00"):
            fields.append(Field(head, value=_plain(rest)))
        else:
            fields.append(_data_line(head, rest, blanks, number))
    if len(leaders) != 1:
        raise RecordError("L0-03", f"{len(leaders)} leader lines; exactly one line '{leader} ' is expected")
    return checked(Record(leaders[0], tuple(fields)))


def _data_line(tag: str, rest: str, blanks: bool, number: int) -> Field:
    indicators, *parts = rest.split("$")
    coded = blanks and tag in CODED
    if not parts:
        raise RecordError("L0-06", f"{tag} has no subfield; '$a' and a value are expected after two indicators", number)
    if not all(parts):
        raise RecordError("L0-06", f"{tag} has a '$' without a code; write \\x24 for a dollar sign", number)
    return Field(tag, _plain(indicators, blanks), tuple((p[0], _plain(p[1:], coded)) for p in parts))


def from_lines(text: str) -> Record:
    """Read the compact line form. Raises RecordError on a line that does not parse, or without exactly one ``LDR`` line."""
    return _parsed(text, "LDR", True)


def to_lines(record: Record) -> str:
    """Write the compact line form, one line per field, no final newline. Raises RecordError for a part no form can carry."""
    return _written(record, "LDR", True)


def from_text(text: str) -> Record:
    """Read the text-line form (``LEADER ...``, ``200 1 $aTitle``, blanks as blanks). Raises RecordError as `from_lines` does."""
    return _parsed(text, "LEADER", False)


def to_text(record: Record) -> str:
    """Write the text-line form, no final newline."""
    return _written(record, "LEADER", False)


# ---- MARCXML ----------------------------------------------------------------------------------------------------------------

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
        self.records = 0
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
        if _TAG.fullmatch(f.tag) and f.is_control != as_control:
            raise RecordError("L0-04", f"{f.tag}: tags 00X are control fields, all others data fields")
        self.fields.append(f)

    def characters(self, chunk: str) -> None:
        if self.path and self.path[-1] in ("leader", "controlfield", "subfield"):
            self.text.append(chunk)
        elif chunk.strip(" \t\r\n"):
            raise RecordError("L0-07", f"text {chunk[:40]!r} between elements")


def _refuse(rule: str, what: str) -> Callable[..., None]:
    def handler(*_: object) -> None:
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
    text = _check_text(xml).lstrip("\ufeff \t\r\n")
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


# ---- any form ---------------------------------------------------------------------------------------------------------------


def form(text: str) -> str:
    """Which form a text is in: ``marcxml``, ``text`` or ``lines``; a leader line decides, else the indicators of field lines."""
    if text.lstrip("\ufeff \t\r\n").startswith("<"):
        return "marcxml"
    if re.search(r"^LDR( |$)", text, re.MULTILINE):
        return "lines"
    if re.search(r"^LEADER( |$)", text, re.MULTILINE):
        return "text"
    return "text" if re.search(r"^[0-9A-Z]{3} (?: [^$#\n]|[^$#\n] )\$", text, re.MULTILINE) else "lines"


READERS: dict[str, Callable[[str], Record]] = {"marcxml": from_marcxml, "lines": from_lines, "text": from_text}


def read(text: str | bytes) -> Record:
    """Read a record in whichever form it is written. Raises RecordError (a ValueError) that names the broken rule."""
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RecordError("L0-01", f"not UTF-8: {error.reason} at byte {error.start}") from None
    return READERS[form(_check_text(text))](text)


def subfields(record: Record) -> Iterator[tuple[str, str, str]]:
    """Every ``(tag, code, value)`` of the data fields, in order."""
    for f in record.fields:
        for code, value in f.subfields:
            yield f.tag, code, value
