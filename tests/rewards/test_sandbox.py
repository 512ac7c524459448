"""The sandbox holds: loops, forks, memory, files, network, output, signals and reading end in a refusal, and honest programs run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from posttrain.core.group import group
from posttrain.rewards import Python
from posttrain.rewards.code import agrees, program_in
from posttrain.rewards.sandbox import run, supported

pytestmark = pytest.mark.skipif(supported() is not None, reason=str(supported()))


def test_honest_programs_run() -> None:
    code = (
        "import math, collections, re, json, itertools, heapq, functools, datetime\ndef f(x): return x * 2\nprint('hi')"
    )
    made = run(code, ["f(3)", "f('a')", "f(None)"])
    assert made.status == "ok" and made.stdout == "hi\n"
    assert (
        made.results[0] == {"value": "6"}
        and made.results[1] == {"value": "'aa'"}
        and "TypeError" in made.results[2]["error"]
    )
    assert run("print(int(input()) + 1)", stdin="41\n").stdout == "42\n"


def test_time_and_output_end_a_program() -> None:
    began = time.monotonic()
    assert run("while True: pass", seconds=0.6).status == "time"
    assert run("import time; time.sleep(60)", seconds=0.4).status == "time"
    flood = run("while True: print('x' * 1000)", seconds=5)
    assert flood.status == "output" and len(flood.stdout) < 80_000
    assert time.monotonic() - began < 4


HOSTILE = {
    "fork bomb": "import os\nwhile True: os.fork()",
    "thread": "import threading\nthreading.Thread(target=print).start()",
    "other program": "import subprocess\nsubprocess.run(['ls'])",
    "network": "import socket\nsocket.socket()",
    "kill": "import os\nos.kill(os.getppid(), 9)",
    "own limits": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "memory": "x = bytearray(10**10)",
    "directory": "import os\nos.mkdir('x')",
    "secrets of the parent": "import os\nopen(f'/proc/{os.getppid()}/environ').read()",
    "own memory map": "open('/proc/self/maps').read()",
    "files of the machine": "open('/etc/passwd').read()",
    "listing": "import os\nos.listdir('/home')",
    "link": "import os\nos.symlink('/etc/passwd', 'x')",
    "trace": "import ctypes\nprint(1 / (ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0))",
    "crash": "import ctypes\nctypes.string_at(0)",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_the_kernel_refuses(name: str) -> None:
    made = run(HOSTILE[name] + "\nprint('survived')", ["1 + 1"], seconds=3)
    assert made.status == "error" and "survived" not in made.stdout and not made.results


def test_files_stay_as_they_are(tmp_path: Path) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text("mine")
    os.chmod(tmp_path, 0o777)
    for code in (f"open({str(kept)!r}, 'w')", f"open({str(kept)!r}, 'a')", f"import os; os.remove({str(kept)!r})",
                 f"import os; os.open({str(tmp_path / 'new')!r}, os.O_CREAT | os.O_WRONLY)", "open('here', 'w')"):  # fmt: skip
        assert run(code).status == "error"
    assert kept.read_text() == "mine" and [p.name for p in tmp_path.iterdir()] == ["kept.txt"]


def test_expected_values_never_enter() -> None:
    """A program that returns every number it can find cannot find the one that is expected; one that exits early passes nothing."""
    reward = Python(seconds=5)
    spy = "import sys, gc\nfound = [v for o in gc.get_objects() if isinstance(o, dict) for v in o.values() if v == 73519]\n"
    spy += "def f(x): return found[0] if found else 0"
    asked = group(
        "f?", spy, "import sys; sys.exit(0)", "def f(x): return 73519", facts={"tests": ["assert f(1) == 73519"]}
    )
    assert [s.value for s in reward([asked])[0]] == [0.0, 0.0, 1.0]


def test_partial_strict_and_printed() -> None:
    tests = ["assert f(2) == 4", "f(0) == 0", {"call": "f(1.5)", "value": 3.0}, "assert f(3) > 5"]
    asked = group("f?", "def f(x): return 2 * x", "def f(x): return x * x", facts={"tests": tests})
    assert [s.value for s in Python()([asked])[0]] == [1.0, 0.75]
    assert [s.value for s in Python(strict=True)([asked])[0]] == [1.0, 0.0]
    assert "f(1.5) gave 2.25" in Python()([asked])[0][1].why
    printed = group("p?", "print(int(input()) * 2)", "print(1)", facts={"tests": [{"stdin": "4\n", "stdout": "8"}]})
    assert [s.value for s in Python()([printed])[0]] == [1.0, 0.0]
    with pytest.raises(ValueError, match=r"facts\['tests'\]\[0\]: give 'assert"):
        Python()([group("f?", "pass", facts={"tests": [3]})])


def test_reading_programs_and_results() -> None:
    assert program_in("<think>```python\nbad\n```</think>Here:\n```python\ngood\n```\nbye") == "good\n"
    assert program_in("def f(): pass") == "def f(): pass"
    assert agrees("[1, (2, 3)]", [1, [2, 3]]) and agrees("0.30000000000000004", 0.3) and agrees("{1, 2}", {2, 1})
    assert not agrees("True", 1) and not agrees("4", "4") and not agrees("<object>", 4)


def test_a_kernel_without_landlock_opens_no_file() -> None:
    """The filter then refuses every open; what was imported before still works."""
    script = (
        "import platform, sys\n"
        "from posttrain.rewards import jail\n"
        "jail.read_only_library = lambda libc: False\n"
        "jail.lock(platform.machine())\n"
        "import statistics\n"
        "print(statistics.mean([1, 2]))\n"
        "for path in ('/etc/passwd', jail.__file__):\n"
        "    try:\n        open(path)\n        print('opened')\n    except OSError as error:\n        print(type(error).__name__)\n"
    )
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert made.stdout.split() == ["1.5", "PermissionError", "PermissionError"], made.stderr
