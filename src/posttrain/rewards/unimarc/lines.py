"""Two line forms of a record: compact lines (what a policy writes) and text lines (how catalogues print records).

Compact: ``LDR`` + space + leader; ``001`` + space + value for control fields (tags 00X); for data fields the tag, a space, two
indicator characters, then ``$a`` + value per subfield. ``#`` stands for a blank in the leader, in indicators and in the
fixed-length subfields of 100 and 105-145 (`CODED`); elsewhere it is itself. Text: the same with ``LEADER`` and blanks as blanks.

Escapes, both forms: ``\\x24`` for ``$``, ``\\x0A`` and ``\\x0D`` for line ends, ``\\x20`` for the last blank of a field line, ``\\x23``
for a literal ``#`` where ``#`` means blank, ``\\x5C`` for a backslash that would otherwise start one of these six. All other text,
other backslashes included, is written as it is. Nothing is added on the way: no field, code, indicator or default.
"""

from __future__ import annotations

import re

from posttrain.rewards.unimarc.fields import MAX_FIELDS, MAX_TOTAL, TAG, Field, Record, RecordError, check_text, checked

CODED = frozenset({"100", *(str(n) for n in range(105, 146))})
"""Tags whose subfields are fixed-length codes: there compact lines write ``#`` for a blank."""

_ESCAPED = re.compile(r"\\x(0A|0D|20|23|24|5C)")


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
    lines = check_text(text).replace("\r\n", "\n").strip("\n").split("\n")
    leaders: list[str] = []
    fields: list[Field] = []
    if len(lines) > MAX_FIELDS + 1:
        raise RecordError("L0-01", f"{len(lines)} lines; at most {MAX_FIELDS} fields")
    total = 0
    for number, line in enumerate(lines, 1):
        head, _, rest = line.partition(" ")
        if head == leader:
            leaders.append(_plain(rest, blanks))
        elif not TAG.fullmatch(head):
            raise RecordError(
                "L0-01", f"{line[:40]!r} is no field line: a tag of three characters and a blank are expected", number
            )
        elif head.startswith("00"):
            fields.append(Field(head, value=_plain(rest)))
        else:
            total += rest.count("$")
            if total > MAX_TOTAL:
                raise RecordError("L0-01", f"more than {MAX_TOTAL} subfields in one record", number)
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
