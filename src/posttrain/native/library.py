"""The kernels of `kernels.c`, compiled once per machine by its own C compiler and loaded with ctypes, whose calls hold no interpreter lock.

`library()` is None where there is no compiler, where compiling fails, where the file cannot be kept safely, or with POSTTRAIN_NATIVE=0;
every caller then takes torch, which is tested to give the same numbers to rounding. The compiled file lies in the user's cache under a
name that holds the source, the compiler and the processor, in a folder that nobody else may write to.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = ("-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
TIME_LIMIT = 120
"""Seconds that the compiler may take; it takes about two."""


@cache
def library() -> ctypes.CDLL | None:
    """The kernels, or None where torch must do."""
    if os.environ.get("POSTTRAIN_NATIVE", "1") == "0":
        return None
    compiler = shutil.which(os.environ.get("CC", "cc"))
    try:
        return None if compiler is None else ctypes.CDLL(str(compiled(compiler, folder())))
    except (OSError, subprocess.SubprocessError):
        return None


def compiled(compiler: str, into: Path) -> Path:
    """The shared library in `into`, compiled now where it is not there. Raises OSError or SubprocessError where that fails."""
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=TIME_LIMIT, check=True).stdout
    told = [SOURCE.read_bytes(), version, processor().encode(), " ".join(FLAGS).encode()]
    path = into / f"kernels-{hashlib.blake2b(b'|'.join(told), digest_size=12).hexdigest()}.so"
    if path.exists():
        return path
    handle, name = tempfile.mkstemp(suffix=".so", dir=into)
    os.close(handle)
    try:
        # Not every compiler knows the native processor by this name; the kernels work without.
        for extra in (("-march=native",), ("-mcpu=native",), ()):
            made = subprocess.run(
                [compiler, *FLAGS, *extra, "-o", name, str(SOURCE), "-lm"],
                capture_output=True,
                timeout=TIME_LIMIT,
                check=False,
            )
            if made.returncode == 0:
                os.replace(name, path)
                return path
        raise OSError(made.stderr.decode(errors="replace"))
    finally:
        Path(name).unlink(missing_ok=True)


def folder() -> Path:
    """Where compiled kernels are kept. Raises OSError where others could put a file of theirs there."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = base / "posttrain"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    told = path.stat()
    if hasattr(os, "getuid") and (told.st_uid != os.getuid() or told.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        raise OSError(f"{path} may be written to by others")
    return path


def processor() -> str:
    """What the kernels were compiled for: a home folder may be shared by machines."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text(encoding="utf-8", errors="replace").splitlines() if described.exists() else []
    told = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    return "|".join([platform.machine(), platform.processor(), *sorted(told)])


def address(tensor: object) -> int:
    """Where a tensor's numbers lie; 0 for None, which the kernels take for a part that is not there."""
    return 0 if tensor is None else tensor.data_ptr()  # type: ignore[attr-defined,no-any-return]


def padded(columns: int) -> int:
    """Columns of a packed weight with those that fill its last panel."""
    lib = library()
    assert lib is not None, "weights are packed where the kernels are"
    lib.panel.restype = ctypes.c_int64
    panel: int = lib.panel()
    return -(-columns // panel) * panel
