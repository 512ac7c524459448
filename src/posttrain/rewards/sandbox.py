"""Running a program that nobody trusts, in a process of its own that the kernel has locked down. See `jail` for what it may do.

The parent holds the clock, reads a bounded amount of output, and kills the process (its whole session) when either runs out. Expected
results never enter the child, so an answer cannot read them. Leaves out other systems than Linux on x86-64 and ARM64, and packages
beyond the standard library.
"""

from __future__ import annotations

import json
import os
import platform
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from posttrain.rewards import jail

SCRIPT = Path(jail.__file__)
OUTPUT = 65_536
"""Bytes of output that are read; a program that writes more is stopped."""
LONGEST = 100_000
"""Characters of a program."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. status: ``ok``, ``error`` (an exception, a limit, a refusal of the kernel), ``time``, ``output``. results: what
    the calls gave, by their number. said: last line of the error output."""

    status: Literal["ok", "error", "time", "output"]
    stdout: str
    results: dict[int, dict[str, str]]
    said: str = ""


def supported() -> str | None:
    """Why programs cannot be run here, or None."""
    if sys.platform != "linux" or platform.machine() not in jail.ARCHITECTURES:
        return f"running code needs Linux on x86-64 or ARM64, where the kernel can lock a process down; this is {platform.platform()}"
    return None


def run(code: str, calls: Sequence[str] = (), stdin: str = "", seconds: float = 2.0, megabytes: int = 256) -> Outcome:
    """Run a program, then evaluate expressions in its space. seconds: of wall clock, start of the interpreter included.

    Raises ValueError where the system cannot lock a process down.
    """
    missing = supported()
    if missing:
        raise ValueError(missing)
    if len(code) > LONGEST:
        return Outcome("error", "", {}, f"the program is longer than {LONGEST} characters")
    task = {"code": code, "calls": list(calls), "stdin": stdin, "seconds": seconds, "memory": megabytes * 2**20}
    read_end, write_end = os.pipe()
    try:
        with tempfile.TemporaryDirectory(prefix="posttrain-code-") as place:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(SCRIPT), str(write_end)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                cwd=place, env={"PYTHONHASHSEED": "0"}, pass_fds=(write_end,), start_new_session=True,
            )  # fmt: skip
            os.close(write_end)
            write_end = -1
            return _watched(process, json.dumps(task).encode(), read_end, seconds)
    finally:
        os.close(read_end)
        if write_end >= 0:
            os.close(write_end)


def _watched(process: subprocess.Popen[bytes], task: bytes, answers: int, seconds: float) -> Outcome:
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    stop: Literal["time", "output"] | None = None
    heard: dict[int, bytes] = {}
    descriptors = [process.stdout.fileno(), process.stderr.fileno(), answers]
    try:
        process.stdin.write(task)
        process.stdin.close()
        heard, stop = _read(descriptors, time.monotonic() + seconds)
        if stop is None:
            process.wait(timeout=1.0)
    except (BrokenPipeError, subprocess.TimeoutExpired):
        stop = stop or "time"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stderr.close()
    out, err, said = (heard.get(d, b"").decode("utf-8", "replace") for d in descriptors)
    status: Literal["ok", "error", "time", "output"] = stop or ("ok" if process.returncode == 0 else "error")
    lines = err.strip().splitlines()
    last = lines[-1] if lines else (f"ended by signal {-process.returncode}" if process.returncode < 0 else "")
    return Outcome(status, out, _results(said), last[:200])


def _read(descriptors: Sequence[int], until: float) -> tuple[dict[int, bytes], Literal["time", "output"] | None]:
    """What was written to each descriptor until all are closed, the clock runs out or one has written too much."""
    heard = dict.fromkeys(descriptors, b"")
    with selectors.DefaultSelector() as selector:
        for descriptor in descriptors:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            left = until - time.monotonic()
            if left <= 0:
                return heard, "time"
            for key, _ in selector.select(left):
                piece = os.read(key.fd, 8192)
                heard[key.fd] += piece
                if not piece:
                    selector.unregister(key.fd)
                if len(heard[key.fd]) > OUTPUT:
                    return heard, "output"
    return heard, None


def _results(text: str) -> dict[int, dict[str, str]]:
    """Results of calls by number; a line that is none of ours is left out."""
    out: dict[int, dict[str, str]] = {}
    for line in text.splitlines():
        try:
            number, said = json.loads(line)
        except (ValueError, TypeError):
            continue
        if isinstance(number, int) and isinstance(said, dict):
            out.setdefault(number, {str(k): str(v) for k, v in said.items()})
    return out
