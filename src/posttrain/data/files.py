"""Rows from text files: JSONL, JSON, CSV, TSV and plain text, also gzipped, each with its place (file and line).

UTF-8 everywhere; a byte order mark and Windows line ends are taken off. A row that cannot be read is a `Bad` with one clear line,
so that the caller decides to stop or to keep it aside. Leaves out: other encodings (refused with the remedy), archives of files.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
FORMATS: dict[str, str] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv",
    ".parquet": "parquet", ".pq": "parquet",
    ".conll": "conll", ".bio": "conll", ".iob": "conll", ".txt": "txt", ".text": "txt", ".md": "txt",
}  # fmt: skip
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError)
BOM = b"\xef\xbb\xbf"


class Found(NamedTuple):
    """A row and its place."""

    row: dict[str, Any]
    where: str


class Bad(NamedTuple):
    """A row that could not be read: its place, what is wrong with the remedy, and what stands there."""

    where: str
    why: str
    raw: str


class _Twice(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [k for k, _ in pairs]
        raise _Twice(
            f"key {next(k for k in names if names.count(k) > 1)!r} stands twice in one object; keep one of them"
        )
    return made


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def kind_of(path: Path) -> str:
    """A file's format by its name without compression: ``jsonl``, ``json``, ``csv``, ``tsv``, ``parquet``, ``txt`` or ``""``."""
    names = [s.lower() for s in path.suffixes]
    if names and names[-1] in OPENERS:
        names.pop()
    return FORMATS.get(names[-1], "") if names else ""


def open_bytes(path: Path) -> IO[bytes]:
    """A file opened for reading, decompressed by its name."""
    return OPENERS.get(path.suffix.lower(), open)(path, "rb")


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise ValueError("the file is UTF-16; convert it first: iconv -f utf-16 -t utf-8") from None
        raise ValueError(
            f"not UTF-8 (byte 0x{raw[error.start]:02x} at column {error.start + 1}); convert it first: iconv -f latin1 -t utf-8"
        ) from None


def _check(value: Any, text: str) -> None:
    """Refuse half surrogates, which JSON can spell and UTF-8 cannot write."""
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(
                "holds half of a surrogate pair (\\ud800 to \\udfff), which is no character; repair the text"
            ) from None


def parse(text: str) -> dict[str, Any]:
    """One JSON object. Raises ValueError with what is wrong and what helps."""
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        hint = "; if the file is one JSON document, name it .json" if text.strip() in ("{", "[") else ""
        raise ValueError(
            f"malformed JSON: {error.msg} at column {error.colno}; repair or remove the line{hint}"
        ) from None
    except RecursionError:
        raise ValueError("malformed JSON: nested too deeply; repair or remove the line") from None
    if not isinstance(value, dict):
        raise ValueError(
            f'expected a JSON object per row, found {type(value).__name__}; write rows as {{"column": value}}'
        )
    _check(value, text)
    return value


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines without their ends; only a line feed ends a line (not the separators inside Unicode text)."""
    with open_bytes(path) as body:
        number = 0
        try:
            for number, raw in enumerate(body, 1):
                raw = raw.removeprefix(BOM) if number == 1 else raw
                yield number, raw.rstrip(b"\r\n")
        except DAMAGED as error:
            raise ValueError(
                f"{path.name}:{number + 1}: the file is damaged or cut off here ({error}); fetch it again"
            ) from None


def jsonl(path: Path, shown: str) -> Iterator[Found | Bad]:
    """Rows of a JSONL file. Blank lines are no rows."""
    for number, raw in _lines(path):
        if not raw.strip():
            continue
        where = f"{shown}:{number}"
        try:
            yield Found(parse(_decode(raw)), where)
        except ValueError as error:
            yield Bad(where, str(error), raw.decode("utf-8", "replace"))


def json_file(path: Path, shown: str) -> Iterator[Found | Bad]:
    """Rows of a JSON file: a list of objects, one object that holds such a list, or JSON lines under the wrong name."""
    text = _whole(path, shown)
    start = len(text) - len(text.lstrip())
    if text[start : start + 1] == "[":
        yield from _items(text, start, shown)
        return
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        first = text.find("\n", start)
        if first > 0 and _is_row(text[start:first]):
            yield from jsonl(path, shown)
            return
        raise ValueError(
            f"{shown}:{error.lineno}: malformed JSON: {error.msg} at column {error.colno}; repair the file"
        ) from None
    except ValueError as error:
        raise ValueError(f"{shown}: {error}") from None
    if text[end:].strip():
        yield from jsonl(path, shown)
        return
    held = _held(value)
    if held is not None:
        for n, row in enumerate(value[held]):
            yield Found(row, f"{shown}: {held}[{n}]")
    elif isinstance(value, dict):
        yield Found(value, f"{shown}:1")
    else:
        raise ValueError(
            f'{shown}: expected a list of objects, found {type(value).__name__}; write [{{"column": value}}, ...]'
        )


def _held(value: Any) -> str | None:
    """Under which key an object holds the rows: its only key, or one of the usual names."""
    if not isinstance(value, dict):
        return None
    usual = ("data", "rows", "examples", "items", "records", "train")
    names = [k for k in value if k in usual or len(value) == 1]
    lists = [k for k in names if isinstance(value[k], list) and all(isinstance(v, dict) for v in value[k])]
    return lists[0] if len(lists) == 1 and lists[0] not in ("messages", "conversations") else None


def _is_row(text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _items(text: str, start: int, shown: str) -> Iterator[Found | Bad]:
    """Items of a JSON list one by one, so that each knows its line."""
    at, line, counted = start + 1, text.count("\n", 0, start) + 1, start
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        line, counted = line + text.count("\n", counted, at), at
        if text[at : at + 1] == "]":
            if text[at + 1 :].strip():
                raise ValueError(
                    f"{shown}:{line}: text after the end of the list; one JSON document per file, or name it .jsonl"
                )
            return
        try:
            value, end = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{shown}:{error.lineno}: malformed JSON: {error.msg} at column {error.colno}; repair the file"
            ) from None
        except _Twice as error:
            raise ValueError(f"{shown}:{line}: {error}") from None
        where = f"{shown}:{line}"
        if not isinstance(value, dict):
            yield Bad(where, f"expected a JSON object per row, found {type(value).__name__}", text[at:end])
        else:
            try:
                _check(value, text[at:end])
                yield Found(value, where)
            except ValueError as error:
                yield Bad(where, str(error), text[at:end])
        at = end


def _whole(path: Path, shown: str) -> str:
    try:
        with open_bytes(path) as body:
            raw = body.read().removeprefix(BOM)
    except DAMAGED as error:
        raise ValueError(f"{shown}: the file is damaged or cut off ({error}); fetch it again") from None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        try:
            _decode(raw.split(b"\n")[line - 1] if raw[:2] not in (b"\xff\xfe", b"\xfe\xff") else raw)
        except ValueError as clear:
            raise ValueError(f"{shown}:{line}: {clear}") from None
        raise


def csv_file(path: Path, shown: str, mark: str | None = None) -> Iterator[Found | Bad]:
    """Rows of a CSV or TSV file with a header; all values are text. The mark between cells is a comma, or what the header shows."""
    text = _whole(path, shown)
    header = text.split("\n", 1)[0]
    mark = mark or (
        ";" if ";" in header and "," not in header else "\t" if "\t" in header and "," not in header else ","
    )
    before = csv.field_size_limit(2**31 - 1)
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
        names = _header(rows, shown)
        while names:
            line = rows.line_num + 1
            where = f"{shown}:{line}"
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                raise ValueError(
                    f"{where}: malformed CSV: {error}; a quote inside a quoted cell is written twice"
                ) from None
            if not cells:
                continue
            if len(cells) != len(names):
                why = f"{len(cells)} cells for {len(names)} columns; quote cells that hold {mark!r} or line ends"
                yield Bad(where, why, mark.join(cells))
                continue
            yield Found(dict(zip(names, cells, strict=True)), where)
    finally:
        csv.field_size_limit(before)


def _header(rows: Any, shown: str) -> list[str]:
    try:
        names = [name.strip() for name in next(rows, [])]
    except csv.Error as error:
        raise ValueError(f"{shown}:1: malformed CSV header: {error}") from None
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"{shown}:1: column {twice[0]!r} stands twice in the header; rename one of them")
    return names


def txt(path: Path, shown: str) -> Iterator[Found | Bad]:
    """Documents of a plain text: blocks between blank lines where there are such, else one document per line."""
    text = _whole(path, shown).replace("\r\n", "\n")
    lines = text.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    blocks = any(not line.strip() for line in lines[1:])
    kept: list[str] = []
    start = 1
    for number, line in enumerate([*lines, ""], 1):
        if line.strip() and (blocks or not kept):
            start = start if kept else number
            kept.append(line)
        if kept and (not line.strip() or not blocks):
            yield Found({"text": "\n".join(kept)}, f"{shown}:{start}")
            kept = []


def _conll(path: Path, shown: str) -> Iterator[Found | Bad]:
    from posttrain.data.conll import conll

    return conll(path, shown)


READERS: dict[str, Callable[[Path, str], Iterator[Found | Bad]]] = {
    "jsonl": jsonl,
    "json": json_file,
    "csv": csv_file,
    "tsv": lambda path, shown: csv_file(path, shown, "\t"),
    "txt": txt,
    "conll": _conll,
}
