"""The verifier of code: does the program in an answer do what its tests ask?

Tests stand in ``facts["tests"]``: ``assert f(2) == 4`` (or ``f(2) == 4``), ``{call: "f(2)", value: 4}``, or a ``stdin`` and the
``stdout`` it must give, for a program that reads and prints. Calls are evaluated in the sandbox and their results compared outside, so the
expected values are never within an answer's reach. Programs run by `sandbox`.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import PositiveFloat, PositiveInt

from posttrain.core.group import Group, Response, Score, group
from posttrain.core.machine import cores
from posttrain.rewards.answers import clipped
from posttrain.rewards.criterion import Criterion, RewardExample
from posttrain.rewards.final_answer import after_thinking
from posttrain.rewards.sandbox import Outcome, run

BLOCK = re.compile(r"```(?:python|py|python3)?[ \t]*\n(.*?)```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Case:
    """One test: an expression whose result is `expected`, or (call None) an input whose output is."""

    call: str | None
    expected: Any
    stdin: str = ""


def program_in(text: str) -> str:
    """The last fenced block after the reasoning, or the whole text where there is none."""
    text = after_thinking(text)
    found = BLOCK.findall(text)
    return found[-1] if found else text


def cases_of(group: Group, fact: str) -> list[Case]:
    """The tests of a group. Raises ValueError naming the group for tests that cannot be read."""
    given = group.facts.get(fact)
    if not isinstance(given, list | tuple) or not given:
        raise ValueError(f"group {group.id}: facts[{fact!r}] must be a list of tests")
    return [_case(test, f"group {group.id}: facts[{fact!r}][{n}]") for n, test in enumerate(given)]


def _case(test: Any, where: str) -> Case:
    if isinstance(test, Mapping) and set(test) >= {"call", "value"}:
        return Case(str(test["call"]), test["value"])
    if isinstance(test, Mapping) and "stdout" in test:
        return Case(None, str(test["stdout"]), str(test.get("stdin", "")))
    if isinstance(test, str):
        return _asserted(test, where)
    raise ValueError(f"{where}: give 'assert f(2) == 4', {{call, value}} or {{stdin, stdout}}, got {test!r}")


def _asserted(test: str, where: str) -> Case:
    try:
        body = ast.parse(test.strip().removeprefix("assert ")).body
    except SyntaxError as error:
        raise ValueError(f"{where}: {error.msg}: {test!r}") from None
    if len(body) != 1 or not isinstance(body[0], ast.Expr):
        raise ValueError(f"{where}: one expression is expected: {test!r}")
    node = body[0].value
    if isinstance(node, ast.Tuple) and len(node.elts) == 2:  # assert x == y, "message"
        node = node.elts[0]
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq):
        for call, literal in ((node.left, node.comparators[0]), (node.comparators[0], node.left)):
            try:
                return Case(ast.unparse(call), ast.literal_eval(literal))
            except ValueError:
                continue
    return Case(f"bool({ast.unparse(node)})", True)


def agrees(said: str, expected: Any) -> bool:
    """Does the repr of a result mean the expected value? Floats agree within 1e-6."""
    if len(said) > 20_000:
        return False
    try:
        value = ast.literal_eval(said)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return said == repr(expected)
    return _same(value, expected)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return a == b or (
            (isinstance(a, float) or isinstance(b, float)) and math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)
        )
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    return bool(a == b)


class Python(Criterion):
    """The share of its tests that the program in an answer passes, run in a locked-down process."""

    name: ClassVar[str] = "python"
    facts: ClassVar[tuple[str, ...]] = ("tests",)
    fact: str = "tests"
    """The fact that holds the tests."""
    seconds: PositiveFloat = 3.0
    """Wall-clock limit of one run of the program."""
    megabytes: PositiveInt = 256
    """Memory that it may take."""
    strict: bool = False
    """Give nothing unless every test passes."""

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        """Scores in order; programs run side by side, one per core."""
        with ThreadPoolExecutor(max_workers=cores()) as pool:
            rows = [[pool.submit(self.one, g, r) for r in g.responses] for g in groups]
            return [[future.result() for future in row] for row in rows]

    def one(self, group: Group, response: Response) -> Score:
        cases, code = cases_of(group, self.fact), program_in(response.text)
        if not code.strip():
            return Score(0.0, {"passed": 0.0, "tests": float(len(cases))}, "no program")
        reasons = [*self._calls(code, [c for c in cases if c.call is not None])]
        reasons += [self._printed(code, c) for c in cases if c.call is None]
        failed = [r for r in reasons if r is not None]
        share = 1 - len(failed) / len(cases)
        why = f"{len(cases) - len(failed)} of {len(cases)} tests pass" + (
            f"; first failure: {failed[0]}" if failed else ""
        )
        value = float(not failed) if self.strict else share
        return Score(value, {"passed": share, "tests": float(len(cases))}, why)

    def _calls(self, code: str, cases: Sequence[Case]) -> list[str | None]:
        """Why each call failed, or None where it gave what was expected."""
        if not cases:
            return []
        outcome = run(code, [c.call for c in cases if c.call is not None], "", self.seconds, self.megabytes)
        return [self._judged(outcome, number, case) for number, case in enumerate(cases)]

    def _judged(self, outcome: Outcome, number: int, case: Case) -> str | None:
        said = outcome.results.get(number)
        if said is None:
            return f"{case.call}: {self._ended(outcome)}"
        if "value" in said and agrees(said["value"], case.expected):
            return None
        return f"{case.call} gave {clipped(said.get('value', said.get('error', '')))}"

    def _printed(self, code: str, case: Case) -> str | None:
        outcome = run(code, (), case.stdin, self.seconds, self.megabytes)
        if outcome.status != "ok":
            return self._ended(outcome)
        lines = [line.rstrip() for line in outcome.stdout.strip().splitlines()]
        wanted = [line.rstrip() for line in str(case.expected).strip().splitlines()]
        return None if lines == wanted else f"printed {clipped(outcome.stdout)!r}"

    def _ended(self, outcome: Outcome) -> str:
        told = {"time": f"longer than {self.seconds:g} s", "output": "too much output"}
        return told.get(outcome.status, outcome.said or "ended before the tests")

    @classmethod
    def example(cls) -> RewardExample:
        tests = ["assert double(2) == 4", {"call": "double('ab')", "value": "abab"}]
        gold, half = "```python\ndef double(x):\n    return x * 2\n```", "def double(x):\n    return x + 2"
        return RewardExample([group("Double?", gold, half, "def double(x", "", facts={"tests": tests})])
