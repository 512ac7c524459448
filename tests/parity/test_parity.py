"""Our losses and gradients against TRL 1.16's, on the same weights and token ids.

Each case of `cases.py` runs our method through the engine in one piece, and TRL's trainer in its own environment (`make
bench-env`; `POSTTRAIN_BENCH_PYTHON` names another interpreter). Compared: the loss within 1e-5 relative, every gradient tensor
within 1e-4 of its norm. Cases of methods that do not exist yet wait; the last tests count that every other one really ran.
"""

from __future__ import annotations

import json
import os
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

import posttrain.methods  # noqa: F401  (fills the registry)
from posttrain.core.method import Method
from posttrain.core.needs import Loss
from posttrain.engine.local import LocalEngine
from tests.parity import rows
from tests.parity.cases import CASES, MAY_WAIT, Case

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LOSS, GRADIENT = 1e-5, 1e-4
NEAR_ZERO = 4e-6
"""Below this a loss or a gradient is rounding noise of fp32 (a first GRPO step has loss 0: terms of several nats cancel), and is
compared absolutely."""


def bench_python() -> Path:
    given = os.environ.get("POSTTRAIN_BENCH_PYTHON")
    return Path(given) if given else ROOT / ".venv-bench" / "bin" / "python"


def method_of(case: Case) -> Method | None:
    """The case's method, or None while the registry lacks it, or a link or field it names. Other faults are raised."""
    try:
        return Method.of(case.method)
    except ValueError as error:
        if all("unknown" in line for line in str(error).splitlines()):
            return None
        raise


DUE = [case for case in CASES if method_of(case) is not None]
WAITING = [case.name for case in CASES if method_of(case) is None]


@dataclass(frozen=True)
class Result:
    loss: float
    gradients: dict[str, Tensor]


def ours(case: Case, groups: list[rows.Json], models: rows.Json, token_budget: int = 1 << 20) -> Result:
    """Loss and gradients of one case by the engine, with the head's gradient under TRL's name."""
    method = method_of(case)
    assert method is not None
    torch.manual_seed(0)
    needs = method.needs()
    heads: dict[str, nn.Module] = {}
    if needs.score:
        heads["score"] = nn.Linear(rows.HIDDEN, needs.score, bias=False)
        with torch.no_grad():
            heads["score"].weight.copy_(load_file(models["score"])["weight"])
    roles = {role: causal(models["reference"]) for role in needs.roles}
    engine = LocalEngine(causal(models["policy"]), heads, roles, needs, token_budget=token_budget)
    batch = method.batch(rows.as_groups(groups), engine)
    totals = engine.total(batch.counts)
    value = 0.0
    for piece in engine.plan(batch, method.atom):
        loss: Loss = method.loss(engine.forward(piece, needs), piece)
        scalar = loss.over(totals, method.sums)
        engine.backward(scalar)
        value += float(scalar.detach())
    assert engine.path == "shared", engine.notes
    names = {f"heads.{name}.weight": f"{name}.weight" for name in heads}
    return Result(value, {names.get(n, n): p.grad for n, p in engine.named_parameters().items() if p.grad is not None})


def causal(folder: str) -> nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> rows.Json:
    return rows.write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def data(models: rows.Json) -> dict[str, list[rows.Json]]:
    """The groups of every due case, by its name."""
    policy = causal(models["policy"])
    made = {}
    for case in DUE:
        seed = zlib.crc32(case.name.encode())  # a case keeps its rows whatever else is in the table
        groups = rows.groups(case.rows, case.whole, seed)
        if case.rows in ("old", "sampled"):
            groups = rows.noisy_logps(policy, groups, case.rows, seed)
        made[case.name] = groups
    return made


@pytest.fixture(scope="module")
def theirs(
    models: rows.Json, data: dict[str, list[rows.Json]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """TRL's answers by case name, all from one process."""
    python, folder = bench_python(), tmp_path_factory.mktemp("trl")
    assert python.exists(), f"{python}: no bench environment; run `make bench-env` or set POSTTRAIN_BENCH_PYTHON"
    files = []
    for case in DUE:
        body = {
            "name": case.name,
            "trainer": case.trainer,
            "options": case.options,
            "groups": data[case.name],
            "gradients": str(folder / f"{case.name}.safetensors"),
            **models,
        }
        files.append(folder / f"{case.name}.json")
        files[-1].write_text(json.dumps(body))
    worker = subprocess.run(
        [python, Path(__file__).with_name("trl_worker.py")],
        input="".join(f"{f}\n" for f in files),
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    answers = [json.loads(line) for line in worker.stdout.splitlines()]
    assert len(answers) == len(DUE), f"TRL answered {len(answers)} of {len(DUE)} cases:\n{worker.stderr[-2000:]}"
    return {a["name"]: a for a in answers}


@pytest.fixture(scope="module")
def ran() -> Iterator[set[str]]:
    """Names of the cases that were compared to the end."""
    yield set()


def distance(a: Tensor, b: Tensor) -> float:
    """Norm of the difference over the norm, absolute where both are rounding noise."""
    scale = float(b.norm())
    gap = float((a - b).norm())
    return gap / scale if scale > NEAR_ZERO else gap


@pytest.mark.parametrize("case", DUE, ids=lambda case: case.name)
def test_equals_trl(
    case: Case,
    models: rows.Json,
    data: dict[str, list[rows.Json]],
    theirs: dict[str, dict[str, Any]],
    ran: set[str],
) -> None:
    answer = theirs[case.name]
    assert "error" not in answer, f"TRL failed:\n{answer.get('error')}"
    assert answer["trl"].startswith("1.16."), answer["trl"]
    gradients = load_file(answer["gradients"])
    assert max(float(g.norm()) for g in gradients.values()) > 1e-3, "a case with no gradient compares nothing"
    for budget in (1 << 20, 40):  # in one piece, as TRL does, and cut into several
        mine = ours(case, data[case.name], models, budget)
        assert mine.loss == pytest.approx(answer["loss"], rel=LOSS, abs=NEAR_ZERO)
        found = {n: g for n, g in mine.gradients.items() if n in gradients}
        assert set(gradients) - set(found) == set(), "TRL trains tensors that ours does not"
        assert all(n == "lm_head.weight" for n in set(mine.gradients) - set(found))
        worst = max(found, key=lambda n: distance(found[n], gradients[n]))
        assert distance(found[worst], gradients[worst]) <= GRADIENT, f"gradient of {worst}, pieces of {budget} tokens"
    ran.add(case.name)


def test_only_future_methods_wait() -> None:
    """A method that leaves the registry, or a renamed field, must fail here and not leave the table."""
    assert MAY_WAIT.issuperset(WAITING)


def test_every_due_case_ran(ran: set[str], request: pytest.FixtureRequest) -> None:
    """No silent skip: as many comparisons as there are cases of methods that exist (when the whole file is run)."""
    whole = {item.name for item in request.session.items if "test_equals_trl" in item.name}
    print(f"parity with TRL: {len(ran)} of {len(DUE)} due cases equal; waiting for their method: {WAITING or 'none'}")
    if len(whole) == len(DUE):
        assert ran == {case.name for case in DUE}
