"""Compiling and keeping the kernels: once, atomically, only where nobody else may write, and never in the way where it fails."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from posttrain.native import library as made

COMPILER = shutil.which("cc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made.library.cache_clear()
    yield
    made.library.cache_clear()


@needs_compiler
def test_compiled_once_and_kept(tmp_path: Path) -> None:
    assert COMPILER is not None
    first = made.compiled(COMPILER, tmp_path)
    stamp = first.stat().st_mtime_ns
    assert made.compiled(COMPILER, tmp_path) == first and first.stat().st_mtime_ns == stamp
    assert [p.name for p in tmp_path.glob("*.so")] == [first.name], "nothing half-written stays"
    lib = made.library()
    assert lib is not None and lib.decode and lib.attend
    kept = tmp_path / "cache" / "posttrain"
    assert kept.stat().st_mode & 0o022 == 0


@needs_compiler
def test_another_source_is_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert COMPILER is not None
    first = made.compiled(COMPILER, tmp_path)
    other = tmp_path / "kernels.c"
    other.write_text(made.SOURCE.read_text(encoding="utf-8") + "\nint more(void) { return 7; }\n", encoding="utf-8")
    monkeypatch.setattr(made, "SOURCE", other)
    assert made.compiled(COMPILER, tmp_path) != first


@needs_compiler
def test_what_does_not_compile_leaves_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert COMPILER is not None
    broken = tmp_path / "kernels.c"
    broken.write_text("int f( {", encoding="utf-8")
    monkeypatch.setattr(made, "SOURCE", broken)
    with pytest.raises(OSError, match="error"):
        made.compiled(COMPILER, tmp_path)
    assert not list(tmp_path.glob("*.so")) and made.library() is None


@pytest.mark.parametrize(("name", "value"), [("POSTTRAIN_NATIVE", "0"), ("CC", "no-such-compiler")])
def test_without_kernels(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert made.library() is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no POSIX permissions")
def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    shared = tmp_path / "cache" / "posttrain"
    shared.mkdir(parents=True)
    shared.chmod(0o777)
    with pytest.raises(OSError, match="written to by others"):
        made.folder()
    assert made.library() is None
