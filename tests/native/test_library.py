"""Compiling and keeping the kernels: once, atomically, only where nobody else may write, and never in the way where it fails."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
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


@pytest.mark.slow
@needs_compiler
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="narrower vectors are a matter of x86")
def test_the_kernels_with_narrow_vectors(tmp_path: Path) -> None:
    """On a processor with AVX-512 all other tests see wide vectors alone; users with AVX2 get these."""
    narrow = tmp_path / "cc"
    narrow.write_text(f'#!/bin/sh\nexec {COMPILER} "$@" -mno-avx512f\n')
    narrow.chmod(0o700)
    tests = Path(__file__).parents[1]
    asked = [*sorted((tests / "models").glob("test_native_*.py")), tests / "rollout" / "test_parity.py"]
    env = os.environ | {"CC": str(narrow), "XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    probe = "from posttrain.native.library import padded; print(padded(1))"
    panel = subprocess.run([sys.executable, "-c", probe], env=env, capture_output=True, text=True, check=True).stdout
    assert panel.strip() == "16", "two vectors of eight"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not slow", *map(str, asked)]
    ran = subprocess.run(command, env=env, cwd=tests.parent, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:]
