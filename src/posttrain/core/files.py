"""Files that are whole or absent: write beside, flush to the disk, rename. Content hashes that lineage is made of.

`crash_point` names the places where tests kill the process; it does nothing unless POSTTRAIN_CRASH_AT asks for that name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

_visits: dict[str, int] = {}


def crash_point(name: str) -> None:
    """Die by SIGKILL here if POSTTRAIN_CRASH_AT is ``name`` or ``name:k`` (the k-th visit, from 1)."""
    wanted = os.environ.get("POSTTRAIN_CRASH_AT")
    if not wanted:
        return
    place, _, visit = wanted.partition(":")
    if place != name:
        return
    _visits[name] = _visits.get(name, 0) + 1
    if _visits[name] == int(visit or 1):
        os.kill(os.getpid(), signal.SIGKILL)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: str | os.PathLike[str], body: bytes) -> Path:
    """Write `body` to `path` so that a reader sees the old file or the new one, never a part. Raises OSError naming it (disk full)."""
    target = Path(path)
    try:
        _write_beside(target, body)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error
    _sync_directory(target.parent)
    return target


def _write_beside(target: Path, body: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(body)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, target)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """`write_bytes` of UTF-8."""
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Readable JSON, UTF-8, keys in the order given."""
    return write_text(path, json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")


@contextmanager
def whole_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A directory that appears complete or not at all: fill the one yielded, it is renamed on success.

    An older directory of that name is replaced (moved aside first, removed after the rename). Raises OSError (disk full).
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part"))
    os.chmod(beside, 0o755)
    try:
        yield beside
        for file in sorted(beside.rglob("*")):
            if file.is_file():
                with open(file, "rb") as done:
                    os.fsync(done.fileno())
        crash_point("before-rename")
        aside = None
        if target.exists():
            aside = target.with_name(f".{target.name}.old-{os.getpid()}")
            os.replace(target, aside)
        os.replace(beside, target)
        _sync_directory(target.parent)
        crash_point("after-rename")
        if aside is not None:
            shutil.rmtree(aside)
    except SafetensorError as error:  # how a disk that is full is told where tensors are written
        shutil.rmtree(beside, ignore_errors=True)
        raise OSError(f"{target} could not be written ({error})") from error
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def append_line(path: str | os.PathLike[str], value: Any) -> None:
    """Append one JSON object as a line, flushed: at most the last line of the file can be torn by a kill."""
    with open(path, "a", encoding="utf-8") as out:
        out.write(json.dumps(value, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    return str(value)


def read_lines(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The JSON objects of a JSONL file that we wrote; a torn last line is left out."""
    rows: list[dict[str, Any]] = []
    lines = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    for number, line in enumerate(lines):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            if number != len(lines) - 1:
                raise ValueError(f"{path}:{number + 1}: not a JSON object") from None
    return rows


def hash_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as body:
        while chunk := body.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def hash_tree(path: str | os.PathLike[str], keep: Callable[[Path], bool] = lambda _: True) -> str:
    """Content hash of a file, or of a directory (names and contents of the files that `keep` accepts)."""
    root = Path(path)
    if root.is_file():
        return hash_file(root)
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*")):
        if file.is_file() and keep(file):
            digest.update(f"{file.relative_to(root).as_posix()}\0{hash_file(file)}\n".encode())
    return digest.hexdigest()


def hash_json(value: Any) -> str:
    """SHA-256 of a JSON-able value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()
