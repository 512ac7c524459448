"""Law *ranks*: two processes give the gradient of one, also when one of them has nothing to do; a missing rank is named."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.laws.build import apart

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def start(rank: int, world: int, port: int, out: Path, scale: int) -> subprocess.Popen[str]:
    env = os.environ | {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
    }
    command = [sys.executable, "-m", "tests.laws.rank_worker", str(out), str(scale)]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def gradients(world: int, out: Path, scale: int) -> dict[str, dict]:
    port = free_port()
    workers = [start(r, world, port, out, scale) for r in range(world)]
    for worker in workers:
        text, _ = worker.communicate(timeout=150)
        assert worker.returncode == 0, text[-2000:]
    by_method: dict[str, dict] = {}
    for name, value in load_file(out).items():
        method, _, tensor = name.partition("/")
        by_method.setdefault(method, {})[tensor] = value
    return by_method


@pytest.mark.parametrize("scale", [1, 2])
def test_two_ranks_are_one(tmp_path: Path, scale: int) -> None:
    one = gradients(1, tmp_path / "one.safetensors", scale)
    two = gradients(2, tmp_path / "two.safetensors", scale)
    assert set(one) == set(two) and len(one) >= 4
    for method in one:
        assert apart(one[method], two[method]) < 1e-4, method


def test_three_ranks_one_idle(tmp_path: Path) -> None:
    """Two groups over three ranks: one rank has no group and still takes part."""
    one = gradients(1, tmp_path / "one.safetensors", 1)
    three = gradients(3, tmp_path / "three.safetensors", 1)
    for method in one:
        assert apart(one[method], three[method]) < 1e-4, method


def test_missing_rank_is_named() -> None:
    code = (
        "import os; from posttrain.engine import ranks\n"
        "try:\n    ranks.start(timeout_s=3)\nexcept RuntimeError as e:\n    print(e)\n"
    )
    env = os.environ | {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    env["PYTHONPATH"] = str(ROOT / "src")
    made = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert "rank 1 of 2 did not join" in made.stdout, made.stdout + made.stderr
