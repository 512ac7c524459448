"""The fragments of docs/from_the_lessons.md run as they stand, in order, in one process, on a random model of two layers."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.models.tiny import tiny_directory

PAGE = Path(__file__).parents[2] / "docs" / "from_the_lessons.md"
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_fragment_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = PAGE.read_text(encoding="utf-8")
    found = [(text[: m.start(1)].count("\n"), m.group(1)) for m in FENCE.finditer(text)]
    assert len(found) >= 20 and text.count("```") == 2 * len(found), "a fragment that is not python is not run"
    tiny_directory(tmp_path / "model", "llama")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for line, code in found:
        began = time.perf_counter()
        exec(compile("\n" * line + code, str(PAGE), "exec"), names)  # errors name the page's own line
        print(f"{PAGE.name}:{line + 1}  {time.perf_counter() - began:.2f} s")
    assert (tmp_path / "runs/dpo/model/config.json").is_file() and (tmp_path / "runs/rm/report.html").is_file()
