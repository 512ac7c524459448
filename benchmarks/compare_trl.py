"""Speed and memory of training steps against TRL 1.16, default and tuned, step by step in turn.

    python -m benchmarks.compare_trl --method sft|dpo|reward|kto|all --size 6m|27m|all [--rounds 10] [--threads 2]

Live processes (`our_side.py`; `trl_side.py` in its two modes) take one optimizer step each in every round, so that whatever
else the machine does falls on all of them; the first round is warm-up. The same weights, rows and optimizer; posttrain and TRL
default see the same batches in the same order, and their losses are compared (KTO pairs its mismatched answers in another way
than TRL, so only its first step must agree). Rates count real tokens, dense-equivalent.

Like is compared with like: TRL default scores its reference in every step, and so does ours beside it; TRL tuned has computed the
reference's log-probs beforehand, and ours beside it (`kept`) reads its own from the score cache. Both preparations are reported.

The last line is `METHOD SIZE default=<ratio> tuned=<ratio> limit=<ratio> memory=<ratio>`: our rate over TRL's in either mode. A rate is
all tokens of the measured steps over all their seconds, because batches of like length (TRL tuned) have steps of very unequal size,
whose rates do not average to that of a run; medians of the steps' rates are printed beside it. `limit`: what the tuned ratio would be
if ours ran at the floor of each phase (`floors.py`: operations at the measured peak, the optimizer's bytes at the measured bandwidth, a
decode step at its thin products); the rates are measured before every round, for the machine's state changes, and their medians taken.
memory: our larger peak over TRL's smaller one. Raw step times go to benchmarks/results/.
POSTTRAIN_BENCH_PYTHON names the interpreter of TRL's environment.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # the sides are scripts of this directory, and import their workload by its bare name

import floors  # noqa: E402
import workload  # noqa: E402


class Side:
    """One live process of the comparison."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
            cwd=HERE,
            env=environment,
        )
        self.steps: list[dict[str, Any]] = []
        self.ready = self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise SystemExit(f"a side of the comparison ended early:\n{tail}")
        return json.loads(line)

    def step(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        self.steps.append(self._read())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)

    @property
    def rate(self) -> float:
        """Tokens per second over all steps after the warm-up."""
        measured = self.steps[1:]
        return sum(s["tokens"] for s in measured) / sum(s["seconds"] for s in measured)

    @property
    def rates(self) -> list[float]:
        """Tokens per second of each step after the warm-up."""
        return [s["tokens"] / s["seconds"] for s in self.steps[1:]]


def with_answers(method: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as they are computed: prompts that are answered in the step, each with its answers at their full length."""
    shape = workload.SHAPES[method]
    return [r if r["answers"] else {**r, "answers": [[0] * shape.answer] * shape.answers} for r in rows]


def sides(method: str, size: str, rounds: int, threads: int, folder: Path) -> dict[str, Side]:
    """Start the processes on the same model and rows."""
    python = Path(os.environ.get("POSTTRAIN_BENCH_PYTHON", HERE.parent / ".venv-bench" / "bin" / "python"))
    if not python.exists():
        raise SystemExit(f"{python}: no bench environment; run `make bench-env` or set POSTTRAIN_BENCH_PYTHON")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "GOMP_SPINCOUNT": "30000",
        "PYTHONPATH": str(HERE.parent / "src"),
    }
    common = [str(folder / "model"), str(folder / "rows.jsonl"), str(rounds)]
    trl = {
        mode: Side([str(python), "trl_side.py", method, mode, *common], environment, folder / f"{mode}.log")
        for mode in ("default", "tuned")
    }
    ours = {"posttrain": Side([sys.executable, "our_side.py", method, *common], environment, folder / "ours.log")}
    if method in floors.KEPT:
        scores = str(folder / "scores")
        command = [sys.executable, "our_side.py", method, *common, scores]
        ours["kept"] = Side(command, environment, folder / "kept.log")
    return {**ours, **trl}


def report(
    method: str, size: str, live: dict[str, Side], rows: list[dict[str, Any]], on: floors.Machine
) -> dict[str, Any]:
    """Medians and ratios; prints one line per side."""
    rows, best = with_answers(method, rows), "kept" if "kept" in live else "posttrain"
    floor = floors.phases(method, size, rows, on, kept=best == "kept")
    dense = floors.phases(method, size, rows, on, shared=False, kept=best == "kept")
    steps = len(rows) // workload.SHAPES[method].groups
    tokens = sum(len(r["prompt"]) + len(a) for r in rows for a in r["answers"])
    floor_rate = tokens / sum(floor.values())
    rate = {name: side.rate for name, side in live.items()}
    for name, side in live.items():
        low, high = min(side.rates), max(side.rates)
        seconds = statistics.median(s["seconds"] for s in side.steps[1:])
        beforehand = f", {side.ready['preparation_seconds']:.1f} s beforehand" if name in ("kept", "tuned") else ""
        print(
            f"{name:10} {rate[name]:8.0f} tokens/s (steps: median {statistics.median(side.rates):.0f}, {low:.0f} to {high:.0f})  "
            f"{seconds:7.3f} s/step  "
            f"peak {side.steps[-1]['peak'] / 2**20:6.0f} MiB (idle {side.ready['idle'] / 2**20:.0f}){beforehand}"
        )
    gap = max(abs(a["loss"] - b["loss"]) for a, b in zip(live["posttrain"].steps, live["default"].steps, strict=True))
    print(f"largest difference of the losses of the same steps, posttrain against TRL default: {gap:.1e}")
    told = ", ".join(f"{name} {1e3 * seconds / steps:.0f} ms" for name, seconds in floor.items())
    at_peak = sum(floor[name] for name in floor if name not in ("optimizer", "decode"))
    measured = tokens / rate[best]
    print(
        f"floor {floor_rate:.0f} tokens/s, a step: {told}, at {on.flops / 1e9:.0f} GFLOP/s and {on.bandwidth / 1e9:.0f} GB/s\n"
        f"ours reaches {rate[best] / floor_rate:.0%} of it, {at_peak / measured:.0%} of the peak of the library's large products"
        + (
            f" and {at_peak / measured * on.flops / on.own:.0%} of that of our kernels ({on.own / 1e9:.0f} GFLOP/s)"
            if on.own
            else ""
        )
        + "; "
        f"dense work is {sum(dense.values()) / sum(floor.values()):.2f} times the shared work ({steps} steps)"
    )
    memory = {name: side.steps[-1]["peak"] for name, side in live.items()}
    return {
        "default": rate["posttrain"] / rate["default"],
        "tuned": rate[best] / rate["tuned"],
        "limit": floor_rate / rate["tuned"],
        "memory": max(memory["posttrain"], memory[best]) / min(memory["default"], memory["tuned"]),
        "loss_gap": gap,
        "floor_tokens_per_second": floor_rate,
        "floor_ms_a_step": {n: 1e3 * v / steps for n, v in floor.items()},
        "share_of_peak": at_peak / measured,
        "gemm_gflops": on.flops / 1e9,
        "own_gemm_gflops": on.own / 1e9,
        "copy_gb_per_s": on.bandwidth / 1e9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=[*sorted(workload.SHAPES), "all"], required=True)
    parser.add_argument("--size", choices=[*sorted(workload.SIZES), "all"], required=True)
    parser.add_argument("--rounds", type=int, default=10, help="steps of each side, the first one is warm-up")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    if given.rounds < 6:
        raise SystemExit("--rounds: at least 6 (a warm-up and five measured steps)")
    methods = sorted(workload.SHAPES) if given.method == "all" else [given.method]
    sizes = sorted(workload.SIZES) if given.size == "all" else [given.size]
    lines = [compare(m, s, given.rounds, given.threads) for s in sizes for m in methods]
    if len(lines) > 1:
        print("\n".join(["", *lines]))


def compare(method: str, size: str, rounds: int, threads: int) -> str:
    """One case: run all sides in turn, write the raw times, print and return the last line."""
    rows = workload.rows(method, rounds, workload.SIZES[size].vocab)
    load, seen = [os.getloadavg()[0]], []
    with tempfile.TemporaryDirectory(prefix="compare-trl-") as name:
        folder = Path(name)
        workload.write_model(folder / "model", size)
        workload.write_rows(folder / "rows.jsonl", rows)
        live = sides(method, size, rounds, threads, folder)
        for _ in range(rounds):
            seen.append(floors.machine(method, size, threads))
            for side in live.values():
                side.step()
            load.append(os.getloadavg()[0])
        for side in live.values():
            side.close()
    print(f"{method} {size}: {rounds - 1} measured rounds, {threads} threads, load {load[0]:.1f}-{max(load):.1f}")
    result = report(method, size, live, rows, floors.usual(seen[1:]))
    raw = {
        "command": f"python -m benchmarks.compare_trl --method {method} --size {size} --rounds {rounds} --threads {threads}",
        "threads": threads,
        "load_average": load,
        "machine": [asdict(on) for on in seen],
        "result": result,
        "sides": {n: {"ready": s.ready, "steps": s.steps} for n, s in live.items()},
    }
    out = HERE / "results" / f"trl_{method}_{size}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(raw, indent=1) + "\n")
    line = (
        f"{method} {size} default={result['default']:.2f} tuned={result['tuned']:.2f} "
        f"limit={result['limit']:.2f} memory={result['memory']:.2f}"
    )
    print(line, flush=True)
    return line


if __name__ == "__main__":
    main()
