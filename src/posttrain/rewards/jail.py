# ruff: noqa: SIM905 (a line of words reads better than a list of quotes)
"""The inside of the sandbox: a script that locks its own process down and then runs a program that nobody trusts.

Run by `sandbox.run` as ``python -I -S -B jail.py`` in an empty directory, with an empty environment. It reads one JSON object from its
input, sets resource limits, gives up every privilege to come, lets the kernel (Landlock) show it nothing but the standard library, and
takes a seccomp filter that leaves reading, memory, clocks and exit: no process, no thread, no socket, no signal to others, no file opened
for writing. Where the kernel has no Landlock, no file is opened at all, and the modules of `PRELOADED` are what can be imported. What was
denied fails with an OSError inside. Leaves out other systems than Linux on x86-64 and ARM64.

It imports the standard library alone and nothing of this project.
"""

from __future__ import annotations

import ctypes
import importlib
import io
import json
import os
import platform
import resource
import struct
import sys
from pathlib import Path

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
OPEN = {"x86_64": ((2, 1), (257, 2)), "aarch64": ((56, 2),)}
"""(number, place of the flags) of the calls that open a file."""
# fmt: off
ALLOWED = {
    "x86_64": (0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 20, 21, 23, 24, 25, 28, 32, 35, 39, 60, 63, 72, 79, 89, 96, 98,
                   99,
               100, 102, 104, 107, 108, 110, 131, 186, 202, 204, 217, 228, 229, 230, 231, 262, 267, 269, 270, 271, 273, 318, 332, 334, 439),
    "aarch64": (17, 23, 25, 29, 48, 57, 61, 62, 63, 64, 66, 67, 72, 73, 78, 79, 80, 93, 94, 98, 99, 101, 113, 114, 115, 123, 124, 132, 134,
                135, 139, 153, 160, 165, 169, 172, 173, 174, 175, 176, 177, 178, 179, 214, 215, 216, 222, 226, 233, 278, 291, 293, 439),
}
# fmt: on
WRITING = 0o3 | 0o100 | 0o1000 | 0o2000 | 0o20000000
"""Flags of open that could change a file: write, create, truncate, append, temporary."""
PRELOADED = (
    "array bisect calendar cmath collections copy csv datetime decimal enum fractions functools hashlib heapq itertools math operator"
    " random re statistics string textwrap time typing unicodedata"
).split()
"""Modules imported before a lock under which no file can be opened."""
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


def limits(seconds: float, memory: int) -> None:
    """CPU time, address space, no core, few descriptors, no byte into any file."""
    cpu = int(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))


def program(machine: str, reads: bool = True) -> bytes:
    """The seccomp filter: the architecture must be ours, files open for reading only (or not at all), the rest by list."""

    def line(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    lines = [line(LOAD, 4), line(EQUAL, ARCHITECTURES[machine], 1, 0), line(RETURN, KILL), line(LOAD, 0)]
    lines += [line(AT_LEAST, 0x40000000, 0, 1), line(RETURN, KILL)]
    for number, flags in OPEN[machine] if reads else ():
        lines += [line(EQUAL, number, 0, 4), line(LOAD, 16 + 8 * flags), line(ANY_BIT, WRITING, 0, 1)]
        lines += [line(RETURN, REFUSE | 13), line(RETURN, ALLOW)]
    for number in ALLOWED[machine]:
        lines += [line(EQUAL, number, 0, 1), line(RETURN, ALLOW)]
    return b"".join([*lines, line(RETURN, REFUSE | 1)])


def read_only_library(libc: ctypes.CDLL) -> bool:
    """Landlock: beneath the standard library files may be read, everywhere else nothing. False where the kernel has none."""
    ruleset = ctypes.create_string_buffer(struct.pack("Q", (1 << 13) - 1))
    made = libc.syscall(444, ruleset, ctypes.c_size_t(8), 0)
    if made < 0:
        return False
    for place in {str(Path(os.__file__).parent), *(p for p in sys.path if Path(p).is_dir())}:
        parent = os.open(place, os.O_PATH)
        rule = ctypes.create_string_buffer(struct.pack("=Qi", (1 << 2) | (1 << 3), parent))
        libc.syscall(445, made, 1, rule, 0)
        os.close(parent)
    done = libc.syscall(446, made, 0) == 0
    os.close(made)
    return bool(done)


def lock(machine: str) -> None:
    """No way back from here. Raises OSError where the kernel refuses, and then nothing untrusted runs."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    sees = read_only_library(libc)
    if not sees:
        for module in PRELOADED:
            importlib.import_module(module)
    body = program(machine, reads=sees)
    kept = ctypes.create_string_buffer(body)
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(body) // 8, ctypes.addressof(kept)))
    if libc.prctl(22, 2, filter_, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def main() -> None:
    """Lock, run the program, evaluate the calls; results go to the descriptor named on the command line."""
    task = json.loads(sys.stdin.buffer.read())
    answers = int(sys.argv[1])
    sys.setrecursionlimit(2000)
    limits(task["seconds"], task["memory"])
    lock(platform.machine())
    sys.stdin = io.StringIO(task["stdin"])
    space = {"__name__": "__main__"}
    exec(compile(task["code"], "answer", "exec"), space)
    for number, call in enumerate(task["calls"]):
        try:
            said = {"value": repr(eval(compile(call, "test", "eval"), space))}
        except Exception as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        os.write(answers, (json.dumps([number, said]) + "\n").encode())


if __name__ == "__main__":
    main()
