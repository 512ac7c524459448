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
if ours ran at the FLOP floor (the operations of a step with shared prompts at the matrix-multiplication peak that this program measures
first). memory: our larger peak over TRL's smaller one. Raw step times go to benchmarks/results/. POSTTRAIN_BENCH_PYTHON names the
interpreter of TRL's environment.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # the sides are scripts of this directory, and import their workload by its bare name

import workload  # noqa: E402

FORWARDS = {"sft": 3, "reward": 3, "dpo": 4, "kto": 4, "grpo": 5, "rloo": 5}
"""Forward-equivalents of a step: forward and backward are three, a live reference pass a fourth, sampling (each token once) a fifth."""
KEPT = ("dpo", "kto")
"""Methods whose reference can be scored beforehand; a step is three forward-equivalents then."""


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


def gemm_peak(threads: int) -> float:
    """FLOP/s of one large fp32 matrix multiplication, best of several."""
    import torch

    torch.set_num_threads(threads)
    a, b = torch.randn(1536, 1536), torch.randn(1536, 1536)
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * 1536**3 / best


def forward_flops(size: str, row: dict[str, Any], scored: bool, shared: bool) -> float:
    """Operations of one forward over a group: trunk, attended pairs, and the head at scored positions only."""
    s = workload.SIZES[size]
    prompt, answers = len(row["prompt"]), [len(a) for a in row["answers"]]
    trunk = s.layers * (4 * s.hidden**2 + 3 * s.hidden * s.inner)
    if shared:
        tokens = prompt + sum(answers)
        pairs = prompt * (prompt + 1) / 2 + sum(prompt * a + a * (a + 1) / 2 for a in answers)
    else:
        tokens = sum(prompt + a for a in answers)
        pairs = sum((prompt + a) * (prompt + a + 1) / 2 for a in answers)
    head = 2 * s.hidden * s.vocab * sum(answers) if scored else 0
    return 2 * trunk * tokens + head + 4 * s.hidden * s.layers * pairs


def step_flops(method: str, size: str, rows: list[dict[str, Any]], shared: bool) -> float:
    """Operations of all the rows' steps, with the reference's pass left out where it is computed beforehand."""
    return (FORWARDS[method] - (method in KEPT)) * sum(forward_flops(size, r, method != "reward", shared) for r in rows)


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
    if method in KEPT:
        scores = str(folder / "scores")
        command = [sys.executable, "our_side.py", method, *common, scores]
        ours["kept"] = Side(command, environment, folder / "kept.log")
    return {**ours, **trl}


def report(method: str, size: str, live: dict[str, Side], rows: list[dict[str, Any]], peak: float) -> dict[str, Any]:
    """Medians and ratios; prints one line per side."""
    per_step = workload.SHAPES[method].groups
    rows = with_answers(method, rows)
    flops = {k: step_flops(method, size, rows, k == "shared") for k in ("shared", "dense")}
    tokens = sum(len(r["prompt"]) + len(a) for r in rows for a in r["answers"])
    floor_rate = tokens / (flops["shared"] / peak)
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
    best = "kept" if "kept" in live else "posttrain"
    print(
        f"FLOP floor {floor_rate:.0f} tokens/s at {peak / 1e9:.0f} GFLOP/s; ours reaches {rate[best] / floor_rate:.0%}; "
        f"dense work is {flops['dense'] / flops['shared']:.2f} times the shared work ({len(rows) // per_step} steps)"
    )
    memory = {name: side.steps[-1]["peak"] for name, side in live.items()}
    return {
        "default": rate["posttrain"] / rate["default"],
        "tuned": rate[best] / rate["tuned"],
        "limit": floor_rate / rate["tuned"],
        "memory": max(memory["posttrain"], memory[best]) / min(memory["default"], memory["tuned"]),
        "loss_gap": gap,
        "floor_tokens_per_second": floor_rate,
        "gemm_gflops": peak / 1e9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=[*sorted(FORWARDS), "all"], required=True)
    parser.add_argument("--size", choices=[*sorted(workload.SIZES), "all"], required=True)
    parser.add_argument("--rounds", type=int, default=10, help="steps of each side, the first one is warm-up")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    if given.rounds < 6:
        raise SystemExit("--rounds: at least 6 (a warm-up and five measured steps)")
    methods = sorted(FORWARDS) if given.method == "all" else [given.method]
    sizes = sorted(workload.SIZES) if given.size == "all" else [given.size]
    lines = [compare(m, s, given.rounds, given.threads) for s in sizes for m in methods]
    if len(lines) > 1:
        print("\n".join(["", *lines]))


def compare(method: str, size: str, rounds: int, threads: int) -> str:
    """One case: run all sides in turn, write the raw times, print and return the last line."""
    rows = workload.rows(method, rounds, workload.SIZES[size].vocab)
    load, peak = [os.getloadavg()[0]], gemm_peak(threads)
    with tempfile.TemporaryDirectory(prefix="compare-trl-") as name:
        folder = Path(name)
        workload.write_model(folder / "model", size)
        workload.write_rows(folder / "rows.jsonl", rows)
        live = sides(method, size, rounds, threads, folder)
        for _ in range(rounds):
            for side in live.values():
                side.step()
            load.append(os.getloadavg()[0])
        for side in live.values():
            side.close()
    print(f"{method} {size}: {rounds - 1} measured rounds, {threads} threads, load {load[0]:.1f}-{max(load):.1f}")
    result = report(method, size, live, rows, peak)
    raw = {
        "command": f"python -m benchmarks.compare_trl --method {method} --size {size} --rounds {rounds} --threads {threads}",
        "threads": threads,
        "load_average": load,
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
