"""Each patch of this directory plants a classic bug in a copy of the tree; the test that it names must fail there, and pass without it.

A patch begins with two lines, `What:` and `Test:`. One that no longer applies is a failure: the code moved, so does the patch.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PATCHES = sorted(Path(__file__).parent.glob("*.patch"))


def header(patch: Path, name: str) -> str:
    lines = patch.read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith(f"{name}: ")).removeprefix(f"{name}: ")


class Lab:
    """The forking process of tests/mutations/lab.py, and one copy of the tree."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(Path(__file__).with_name("lab.py"))]
        self.process = subprocess.Popen(
            command, cwd=tree, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._reply() == {"ready": True}

    def _reply(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the lab died"
        return json.loads(line)

    def test(self, *tests: str) -> tuple[int, str]:
        """pytest's exit code in the copy (0 passed, 1 failed, others: could not run), and what it said."""
        assert self.process.stdin is not None
        log = self.tree / "log.txt"
        request = {"tree": str(self.tree), "tests": tests, "log": str(log), "real": str(ROOT)}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self._reply()["code"]), log.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    tree = tmp_path_factory.mktemp("tree")
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    made = Lab(tree)
    yield made
    assert made.process.stdin is not None
    made.process.stdin.close()
    made.process.wait(timeout=20)


def test_there_are_patches() -> None:
    assert len(PATCHES) >= 16
    assert all(header(p, "What") and (ROOT / header(p, "Test").partition("::")[0]).is_file() for p in PATCHES)


def test_named_tests_pass_without_a_patch(lab: Lab) -> None:
    code, said = lab.test(*dict.fromkeys(header(p, "Test") for p in PATCHES))
    assert code == 0, said


@pytest.mark.parametrize("patch", PATCHES, ids=lambda p: p.stem)
def test_planted_bug_is_found(patch: Path, lab: Lab) -> None:
    name = next(
        line for line in patch.read_text(encoding="utf-8").splitlines() if line.startswith("+++ b/")
    ).removeprefix("+++ b/")
    file = lab.tree / name
    before = file.read_bytes()
    apply = ["git", "apply", "-C1", "--recount", "--whitespace=nowarn", str(patch)]
    done = subprocess.run(apply, cwd=lab.tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and file.read_bytes() != before, f"{patch.name} no longer applies: {done.stderr}"
    try:
        code, said = lab.test(header(patch, "Test"))
        assert code == 1, f"{header(patch, 'Test')} did not fail (pytest said {code}):\n{said}"
        assert " failed" in said or "FAILED" in said
    finally:
        file.write_bytes(before)
        shutil.rmtree(file.parent / "__pycache__", ignore_errors=True)
