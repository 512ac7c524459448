"""The floors of docs/architecture.md, held by reading every import; files stay short; everything imports; help needs no torch."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "posttrain"
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 400


@cache
def floors() -> dict[str, tuple[str, int]]:
    """(floor, place in its list) of every room, from the table of docs/architecture.md."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.split("## Floors", 1)[1].split("\n## ", 1)[0]
    found: dict[str, tuple[str, int]] = {}
    for line in table.splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")]
        if len(cells) == 2 and re.fullmatch(r"[0-9s]", cells[0]):
            for place, name in enumerate(re.findall(r"`([\w.]+)`", cells[1])):
                found[name.removesuffix(".py")] = (cells[0], place)
    return found


def room(file: Path) -> str:
    """The room of a file: its first folder, or its own name (`cli`, the package itself)."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """(line, room) of every import of ours in a file, also inside functions; type-checking blocks do not run and are left out."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    unseen = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute"
            names = (
                [f"{node.module}.{a.name}" for a in node.names] if node.module == "posttrain" else [node.module or ""]
            )
        for name in names:
            if name.partition(".")[0] == "posttrain" and "." in name:
                yield node.lineno, name.split(".")[1]


def allowed(mine: str, other: str) -> bool:
    """May a file of room `mine` import room `other`?"""
    if mine == other:
        return True
    (floor, place), (below, earlier) = floors()[mine], floors()[other]
    if floor == "s":
        return below in "01"
    if below == "s":
        return floor in "45"
    if floor in "123" and below == floor:
        return earlier < place
    return int(below) < int(floor)


def test_the_table_names_every_room() -> None:
    there = {room(f) for f in FILES} - {"__init__", "__main__"}
    assert there - set(floors()) == set(), "rooms that docs/architecture.md does not place"
    assert floors()["cli"][0] == "5" and floors()["core"][0] == "0"


def test_imports_go_downwards() -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: {room(file)} imports {other}"
        for file in FILES
        if room(file) in floors()
        for line, other in imports(file)
        if other in floors() and not allowed(room(file), other)
    ]
    assert wrong == [], "\n".join(wrong)


@pytest.mark.parametrize(
    ("mine", "other", "may"),
    [("train", "models", True), ("models", "train", False), ("data", "models", True), ("models", "data", False),
     ("report", "core", True), ("report", "models", False), ("report", "readingroom", False), ("jobs", "report", True),
     ("core", "methods", False), ("methods", "objectives", True), ("cli", "jobs", True), ("jobs", "cli", False)],
)  # fmt: skip
def test_the_rule_itself(mine: str, other: str, may: bool) -> None:
    assert allowed(mine, other) is may


def test_files_are_short_or_say_why() -> None:
    long = []
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        told = (ast.get_docstring(ast.parse(text)) or "").lower()
        if len(text.splitlines()) > LONGEST and not re.search(
            r"one (file|page|table|piece)|long(er)? (because|as)|together", told
        ):
            long.append(f"{file.relative_to(ROOT)}: {len(text.splitlines())} lines, and its docstring does not say why")
    assert long == [], "\n".join(long)


def run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    settings = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", **env}
    return subprocess.run(
        [sys.executable, "-c", code], env=settings, capture_output=True, text=True, timeout=240, check=False
    )


def test_imports_all() -> None:
    """Every module imports, and none needs an optional extra."""
    names = [".".join(("posttrain", *f.relative_to(PACKAGE).with_suffix("").parts)) for f in FILES]
    names = [n.removesuffix(".__init__") for n in names if not n.endswith("__main__")]
    code = f"""
import sys
for name in ("wandb", "trackio", "vllm", "trl"):
    sys.modules[name] = None  # as if not installed
import importlib
for name in {names!r}:
    importlib.import_module(name)
"""
    made = run(code)
    assert made.returncode == 0, made.stderr[-2000:]


def test_help_needs_no_torch() -> None:
    code = """
import sys
from posttrain.cli import main
assert main(["--help"]) == 0
try:
    main(["dpo", "--help"])
except SystemExit as end:
    assert not end.code
assert main(["dpo", "--no-such-option", "1"]) == 2
heavy = {"torch", "transformers", "pydantic", "numpy", "datasets"} & set(sys.modules)
assert not heavy, heavy
"""
    made = run(code)
    assert made.returncode == 0 and "usage: posttrain" in made.stdout, made.stderr[-2000:]
