"""What bans cost: tokens/s with and without 1,000 banned phrases on a vocabulary of 50,000 entries, after warm-up.

    python -m benchmarks.ban_cost [--out benchmarks/results/ban_cost.json]

A random Llama with a byte-level vocabulary made of random pieces; both runs draw the same requests, in turn, several times; the figure is
the median of the paired ratios of processor time. `fresh` are requests that were not drawn before: their new states are computed within the
measurement, and a random model draws nearly any token, so they are the hardest case.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from posttrain.core.chat import as_chat
from posttrain.core.files import write_json
from posttrain.core.protocols import Request, Sampling
from posttrain.guard.bans import Bans
from posttrain.guard.pipeline import Guard
from posttrain.guard.vocabulary import Vocabulary
from posttrain.rollout.sampler import Sampler

ENTRIES, PHRASES = 50_000, 1_000
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"


class Bytes:
    """A tokenizer of byte pieces that can decode, which is all that the sampler asks."""

    def __init__(self, bodies: list[bytes | None]) -> None:
        self.bodies = bodies

    def decode(self, ids: Any, **_: Any) -> str:
        return b"".join(self.bodies[int(i)] or b"" for i in ids).decode("utf-8", "replace")


def vocabulary(rng: random.Random) -> list[bytes | None]:
    pieces = {bytes([b]) for b in range(256)}
    while len(pieces) < ENTRIES - 1:
        word = "".join(rng.choice(LETTERS[: rng.randrange(6, 26)]) for _ in range(rng.randrange(2, 9)))
        pieces.add(((" " if rng.random() < 0.5 else "") + word).encode())
    return [None, *sorted(pieces)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="benchmarks/results/ban_cost.json")
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = random.Random(0)
    bodies = vocabulary(rng)
    config = LlamaConfig(
        vocab_size=ENTRIES, hidden_size=320, intermediate_size=860, num_hidden_layers=6, num_attention_heads=5,
        num_key_value_heads=5, max_position_embeddings=512,
    )  # fmt: skip
    sampler = Sampler(
        LlamaForCausalLM(config).eval(), Bytes(bodies), [0], lambda chat, tools: [5, 6, 7], slots=8, threads=1
    )
    phrases = list({"".join(rng.choice(LETTERS[:18]) for _ in range(rng.randrange(6, 16))) for _ in range(PHRASES)})
    guard = Guard(Bans(Vocabulary(bodies, ENTRIES), phrases, stop_ids=[0]))

    def seconds(steer: Guard | None, seed: int) -> float:
        drawn = Sampling(temperature=0.8, max_tokens=64, min_tokens=0)
        began = time.process_time()
        sampler.generate([Request(as_chat(f"{i}"), drawn, seed=seed + i, steer=steer) for i in range(8)])
        return time.process_time() - began

    for seed in range(4):
        seconds(None, seed)
        seconds(guard, seed)

    def overheads(seeds: list[int]) -> list[float]:
        """Guarded over free, minus 1, in alternating order."""
        out = []
        for turn, seed in enumerate(seeds):
            first = seconds(guard if turn % 2 else None, seed)
            second = seconds(None if turn % 2 else guard, seed)
            out.append((first / second if turn % 2 else second / first) - 1)
        return out

    known = overheads([seed % 4 for seed in range(asked.rounds)])
    fresh = overheads([100 * (seed + 1) for seed in range(asked.rounds)])
    told = {
        "phrases": len(phrases), "vocabulary": ENTRIES, "parameters": sum(p.numel() for p in sampler.model.parameters()),
        "overhead_median": round(float(np.median(known)), 4), "overheads": [round(r, 4) for r in known],
        "fresh_median": round(float(np.median(fresh)), 4), "fresh": [round(r, 4) for r in fresh],
        "states": len(guard.bans.automaton.states) if guard.bans else 0, "load_average": [round(x, 2) for x in os.getloadavg()],
    }  # fmt: skip
    write_json(asked.out, told)
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
