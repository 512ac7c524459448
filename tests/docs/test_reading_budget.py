"""How much of ours a person reads to follow one SFT step from batch to optimiser step: at most 600 lines.

Counted are all source lines of every function of ours that really executed, decorators, docstrings and comments included. What leads to the
batch (the source that hands out groups, laying them flat) is listed apart, as it is loading. The second step is traced: the first
one also proves, once per run, that prompts may be shared. The kernels in C are off: each stands for what torch computes here.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pytest

import posttrain
from posttrain.core.group import Group, Response
from posttrain.data.source import Offline
from posttrain.engine.local import LocalEngine
from posttrain.engine.optimizer import Optimizer
from posttrain.methods import SFT
from posttrain.models import native_head, native_modules
from posttrain.train.loop import train
from tests.docs.test_by_hand import by_hand

LIMIT = 600
OURS = Path(posttrain.__file__).parent
LOADING = {LocalEngine.layout.__code__, Offline.stream.__code__, Offline.publish.__code__}
"""What these call comes before the batch."""


def executed(work: Callable[[], object]) -> tuple[set[CodeType], set[CodeType]]:
    """Code of ours that `work` entered: on the way from batch to step, and only on the way to the batch. This thread alone: backward on
    the CPU stays in it."""
    step, loading = set[CodeType](), set[CodeType]()

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_name != "<module>" and Path(code.co_filename).is_relative_to(OURS):
            (loading if under(frame, LOADING) else step).add(code)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return step, loading - step


def under(frame: FrameType | None, codes: set[CodeType]) -> bool:
    while frame is not None:
        if frame.f_code in codes:
            return True
        frame = frame.f_back
    return False


def lines_of(codes: set[CodeType]) -> dict[str, dict[int, str]]:
    """By file: the numbers of the source lines, each with the name of the outermost function that holds it."""
    found: dict[str, dict[int, str]] = {}
    for code in sorted(codes, key=lambda c: (c.co_filename, c.co_firstlineno)):
        source, first = inspect.getsourcelines(code)
        lines = found.setdefault(str(Path(code.co_filename).relative_to(OURS)), {})
        for number in range(first, first + len(source)):
            lines.setdefault(number, code.co_qualname)
    return found


def size(found: dict[str, dict[int, str]]) -> int:
    return sum(map(len, found.values()))


def table(found: dict[str, dict[int, str]]) -> str:
    """One line per function with its lines, files as headings."""
    out = []
    for file, lines in found.items():
        out.append(f"{file} ({len(lines)})")
        for name in dict.fromkeys(lines.values()):
            out.append(f"    {sum(n == name for n in lines.values()):4d}  {name}")
    return "\n".join(out)


def test_an_sft_step_is_read_in_one_sitting(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (native_modules, native_head):
        monkeypatch.setattr(module, "library", lambda: None)
    rng = np.random.default_rng(0)
    groups = [
        Group((), (Response(tokens=rng.integers(3, 60, n), trained=np.ones(n, dtype=bool)),), prompt_tokens=np.ones(4, int))
        for n in (5, 7, 3, 6)
    ]  # fmt: skip
    method = SFT()
    engine = LocalEngine(by_hand.tiny_llama(), needs=method.needs(), attention="buckets")
    engine.optimize(Optimizer(), 1e-3, 2)
    steps = train(engine, method, Offline(groups, 2, steps=2), 2)
    next(steps)
    before = {n: p.detach().clone() for n, p in engine.named_parameters().items()}
    step, loading = executed(lambda: next(steps))
    found, earlier = lines_of(step), lines_of(loading)
    text = (
        f"from batch to optimiser step\n{table(found)}\n\nto the batch (loading)\n{table(earlier)}\n\n"
        f"{size(found)} lines from batch to optimiser step (limit {LIMIT}), {size(earlier)} before"
    )
    print(text)
    assert all((p != before[n]).any() for n, p in engine.named_parameters().items() if "layers" in n)
    assert engine.path == "shared"
    names = {code.co_qualname for code in step}
    for landmark in ("train", "accumulate", "LocalEngine.forward", "SFT.loss", "shared_hidden", "LocalEngine.step"):
        assert landmark in names, f"{landmark} was not traced: the count would be too low"
    assert "layout" in {code.co_qualname for code in loading}
    assert size(found) <= LIMIT, text
