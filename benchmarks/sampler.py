"""Speed of the sampler against `generate` of transformers and against the skinny-GEMM floor.

    python -m benchmarks.sampler [--repeats 5] [--threads 1] [--kv-heads 8] [--json results.json]

A: 32 rows (4 prompts of about 120 tokens x 8 samples) whose lengths are lognormal (median 40, sigma 0.8, at most 256), ours against
`generate` with the same lengths forced through a stopping criterion, both sampling at temperature 1 without truncation. Ours also returns
log-probabilities; `generate` is not asked for them. Runs alternate A, B, A, B; medians are reported with the load average.
B: one decode step at 32 live rows (64 tokens each), over the time of the matrix products alone at 32 rows, timed before every step.
Both also with 32 prompts of one sample each, where no prompt is shared and every row reads keys and values of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM, StoppingCriteria, StoppingCriteriaList

from posttrain.core.protocols import Sampling
from posttrain.rollout.jobs import Job, Sample
from posttrain.rollout.sampler import Sampler

VOCABULARY = 4096
CLOCK = time.perf_counter


def build(kv_heads: int) -> LlamaForCausalLM:
    """The 5.8M Llama shape: width 256, 6 layers, 4,096 tokens, random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=kv_heads,
        intermediate_size=688,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config).eval()


class Fixed(Sampler):
    """A sampler whose answers have lengths known beforehand: `lengths[job number][index]` tokens."""

    lengths: np.ndarray

    def _start(self, job: Job, index: int, follow: bool) -> Sample:
        sample = super()._start(job, index, follow)
        sample.limit = int(self.lengths[int(job.id)][index])
        return sample


class AtLength(StoppingCriteria):
    """Row i is done after `lengths[i]` new tokens."""

    def __init__(self, start: int, lengths: np.ndarray) -> None:
        self.start, self.lengths = start, torch.from_numpy(lengths.reshape(-1).copy())

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return (input_ids.shape[1] - self.start) >= self.lengths


def theirs(model: Any, prompts: list[list[int]], lengths: np.ndarray) -> None:
    """`generate` of transformers, left-padded, one call."""
    width = max(len(p) for p in prompts)
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, p in enumerate(prompts):
        ids[i, width - len(p) :] = torch.tensor(p)
        mask[i, width - len(p) :] = 1
    out = model.generate(
        ids,
        attention_mask=mask,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        num_return_sequences=lengths.shape[1],
        max_new_tokens=int(lengths.max()),
        eos_token_id=None,
        pad_token_id=0,
        stopping_criteria=StoppingCriteriaList([AtLength(width, lengths)]),
    )
    assert out.shape == (lengths.size, width + lengths.max())


def floor(model: Any, rows: int) -> Callable[[], None]:
    """All matrix products of one decode step and nothing else: fused qkv, out, fused gate and up, down, head."""
    shapes = []
    for layer in model.model.layers:
        a, m = layer.self_attn, layer.mlp
        for parts in ((a.q_proj, a.k_proj, a.v_proj), (a.o_proj,), (m.gate_proj, m.up_proj), (m.down_proj,)):
            shapes.append(torch.cat([p.weight.detach() for p in parts]).t())
    shapes.append(model.lm_head.weight.detach().t())
    inputs = {w.shape[0]: torch.randn(rows, w.shape[0]) for w in shapes}

    def products() -> None:
        for w in shapes:
            torch.mm(inputs[w.shape[0]], w)

    return products


def timed(run: Callable[[], Any], times: int = 1) -> float:
    start = CLOCK()
    for _ in range(times):
        run()
    return (CLOCK() - start) / times


def alternate(runs: dict[str, Callable[[], Any]], repeats: int, times: int = 1) -> dict[str, list[float]]:
    """Seconds of each run, in turns; one warm-up each is left out."""
    out: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            seconds = timed(run, times)
            if turn:
                out[name].append(seconds)
    return out


def ragged(prompts: int, n: int, seed: int) -> tuple[list[list[int]], np.ndarray]:
    """Random prompts of 100 to 140 tokens and lognormal answer lengths [prompts, n]."""
    rng = np.random.default_rng(seed)
    texts = [rng.integers(3, VOCABULARY, size=int(rng.integers(100, 141))).tolist() for _ in range(prompts)]
    return texts, np.clip(np.exp(rng.normal(np.log(40), 0.8, size=(prompts, n))).astype(int), 4, 256)


def compare(model: Any, sampler: Fixed, prompts: int, n: int, repeats: int) -> dict[str, Any]:
    texts, lengths = ragged(prompts, n, 0)
    sampler.lengths = lengths
    with torch.no_grad():
        runs = {
            "ours": lambda: sampler.decode(texts, Sampling(max_tokens=256), n=n),
            "generate": lambda: theirs(model, texts, lengths),
        }
        seconds = alternate(runs, repeats)
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["generate"], strict=True)]
    tokens = int(lengths.sum())
    return {
        "rows": prompts * n,
        "tokens": tokens,
        "longest": int(lengths.max()),
        "ours_tok_s": tokens / statistics.median(seconds["ours"]),
        "generate_tok_s": tokens / statistics.median(seconds["generate"]),
        "speedup": statistics.median(ratios),
        "speedup_range": [min(ratios), max(ratios)],
    }


def against_floor(model: Any, sampler: Fixed, prompts: int, n: int, repeats: int, steps: int = 64) -> dict[str, Any]:
    """One step at full slots (decoder, draw and bookkeeping) over the products alone, which are timed just before each step."""
    texts, _ = ragged(prompts, n, 1)
    sampler.lengths = np.full((prompts, n), steps)
    products = floor(model, prompts * n)
    sampler.decode(texts, Sampling(max_tokens=256), n=n)
    floors: list[float] = []
    whole: list[float] = []
    decoder = sampler._decoder
    assert decoder is not None
    plain = decoder.step, sampler._advance

    def step(tokens: list[int]) -> torch.Tensor:
        floors.append(timed(products))
        start = CLOCK()
        logits = plain[0](tokens)
        whole.append(CLOCK() - start)
        return logits

    def advance(samples: list[Sample], logits: torch.Tensor) -> list[Sample]:
        start = CLOCK()
        out = plain[1](samples, logits)
        if len(whole) and len(samples) == prompts * n and len(samples[0].tokens) > 1:
            whole[-1] += CLOCK() - start
        return out

    decoder.step, sampler._advance = step, advance  # type: ignore[method-assign]
    try:
        for _ in range(repeats):
            sampler.decode(texts, Sampling(max_tokens=256), n=n)
    finally:
        decoder.step, sampler._advance = plain  # type: ignore[method-assign]
    ratios = np.array(whole) / np.array(floors)
    return {
        "step_ms": 1e3 * statistics.median(whole),
        "floor_ms": 1e3 * statistics.median(floors),
        "ratio": float(np.median(ratios)),
        "ratio_quartiles": [float(q) for q in np.quantile(ratios, (0.25, 0.75))],
        "tokens_per_s": prompts * n / statistics.median(whole),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--json", default=None)
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: time of this thread, for a shared machine"
    )
    args = parser.parse_args()
    if args.clock == "cpu":
        global CLOCK
        CLOCK = time.thread_time
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    model = build(args.kv_heads)
    sampler = Fixed(model, None, [2], lambda chat, tools: [], slots=32, threads=args.threads)
    sampler.stop_ids = frozenset()
    out = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": args.threads,
        "clock": args.clock,
        "parameters": sum(p.numel() for p in model.parameters()),
        "load": os.getloadavg(),
        "ragged 4x8": compare(model, sampler, 4, 8, args.repeats),
        "ragged 32x1": compare(model, sampler, 32, 1, args.repeats),
        "step 4x8": against_floor(model, sampler, 4, 8, args.repeats),
        "step 32x1": against_floor(model, sampler, 32, 1, args.repeats),
        "load_after": os.getloadavg(),
    }
    print(json.dumps(out, indent=1))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(out, f, indent=1)


if __name__ == "__main__":
    main()
