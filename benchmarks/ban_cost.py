"""What 1,000 banned phrases cost while decoding, on text never seen before, at the base's vocabulary and at 50,000 entries.

    python -m benchmarks.ban_cost [--out benchmarks/results/ban_cost.json]

The same requests are answered with and without the bans, turn and turn about in one process, so that other programs slow both; processor
time per token. `fresh`: bans that have decoded nothing, and new requests, in every round. `known`: the same bans all along. The small
vocabulary is that of the shipped base with its weights, and the phrases are pairs of words of its own language, so nearly every word
begins one. The large one is made of random pieces and its model has random weights: it draws nearly any token.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Callable
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
from posttrain.jobs.assembly import resolve
from posttrain.readingroom import ReadingRoom
from posttrain.rollout.policy import Policy
from posttrain.rollout.sampler import Sampler

ENTRIES, PHRASES, ROWS, TOKENS = 50_000, 1_000, 8, 48
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"
Seconds = Callable[[Guard | None, int], float]


class Bytes:
    """A tokenizer of byte pieces that can decode, which is all that the sampler asks."""

    def __init__(self, bodies: list[bytes | None]) -> None:
        self.bodies = bodies

    def decode(self, ids: Any, **_: Any) -> str:
        return b"".join(self.bodies[int(i)] or b"" for i in ids).decode("utf-8", "replace")


def pieces(rng: random.Random) -> list[bytes | None]:
    """Random words with and without a space before them, and all single bytes; id 0 ends an answer."""
    made = {bytes([b]) for b in range(256)}
    while len(made) < ENTRIES - 1:
        word = "".join(rng.choice(LETTERS[: rng.randrange(6, 26)]) for _ in range(rng.randrange(2, 9)))
        made.add(((" " if rng.random() < 0.5 else "") + word).encode())
    return [None, *sorted(made)]


def large(rng: random.Random) -> tuple[Sampler, Vocabulary, list[str], list[int]]:
    """50,000 entries: sampler, vocabulary, phrases, stop ids."""
    bodies = pieces(rng)
    config = LlamaConfig(
        vocab_size=ENTRIES, hidden_size=320, intermediate_size=860, num_hidden_layers=6, num_attention_heads=5,
        num_key_value_heads=5, max_position_embeddings=512,
    )  # fmt: skip
    sampler = Sampler(
        LlamaForCausalLM(config).eval(), Bytes(bodies), [0], lambda chat, tools: [5, 6, 7], slots=ROWS, threads=1
    )
    phrases: dict[str, None] = {}
    while len(phrases) < PHRASES:
        phrases["".join(rng.choice(LETTERS[:18]) for _ in range(rng.randrange(6, 16)))] = None
    return sampler, Vocabulary(bodies, ENTRIES), list(phrases), [0]


def small(rng: random.Random) -> tuple[Sampler, Vocabulary, list[str], list[int]]:
    """The shipped base: sampler, vocabulary, phrases, stop ids."""
    policy = Policy.open(resolve("base"), slots=ROWS, device="cpu")
    words = sorted({w for text in ReadingRoom(0).corpus(n_docs=200, seed=1) for w in text.split() if len(w) > 3})
    phrases: dict[str, None] = {}
    while len(phrases) < PHRASES:
        phrases[f"{rng.choice(words)} {rng.choice(words)}"] = None
    stops = sorted(policy.loaded.stops)
    return policy.sampler, Vocabulary.of(policy.loaded.tokenizer), list(phrases), stops


def seconds_of(sampler: Sampler) -> Seconds:
    """Processor seconds per token of a batch under a guard."""

    def seconds(guard: Guard | None, seed: int) -> float:
        drawn = Sampling(temperature=0.8, max_tokens=TOKENS)
        asked = [Request(as_chat(f"Tell me about {i}"), drawn, seed=seed + i, steer=guard) for i in range(ROWS)]
        began = time.process_time()
        groups = sampler.generate(asked)
        return (time.process_time() - began) / sum(
            len(r.tokens) for g in groups for r in g.responses if r.tokens is not None
        )

    return seconds


def measured(made: tuple[Sampler, Vocabulary, list[str], list[int]], rounds: int) -> dict[str, Any]:
    """Overheads of one model: medians of the paired ratios with the middle half, and what the bans cost to prepare."""
    sampler, vocabulary, phrases, stops = made
    seconds = seconds_of(sampler)
    began = time.process_time()
    vocabulary.spelling()
    spelled = time.process_time() - began
    kept = Guard(Bans(vocabulary, phrases, stop_ids=stops))
    ready: list[float] = []

    def fresh() -> Guard:
        began = time.process_time()
        guard = Guard(Bans(vocabulary, phrases, stop_ids=stops))
        ready.append(time.process_time() - began)
        return guard

    def overheads(guard: Callable[[], Guard], first: int) -> tuple[list[float], float]:
        out, free_all = [], []
        for turn in range(rounds):
            steer, seed = guard(), first + 100 * turn
            both = {steer is g: seconds(g, seed) for g in ((steer, None) if turn % 2 else (None, steer))}
            out.append(both[True] / both[False] - 1)
            free_all.append(both[False])
        return out, float(np.median(free_all))

    overheads(lambda: kept, 1)  # warm-up of the decoder
    known, _ = overheads(lambda: kept, 1)
    new, free = overheads(fresh, 10_000)
    return {
        "vocabulary": vocabulary.size, "phrases": len(phrases), "rows": ROWS,
        "parameters": sum(p.numel() for p in sampler.model.parameters()), "microseconds_a_token": round(1e6 * free, 1),
        "fresh": spread(new), "known": spread(known),
        "prepare_vocabulary_seconds": round(spelled, 3), "prepare_bans_seconds": round(float(np.median(ready)), 3),
    }  # fmt: skip


def spread(values: list[float]) -> dict[str, Any]:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {
        "median": round(float(middle), 4),
        "quartiles": [round(float(low), 4), round(float(high), 4)],
        "rounds": len(values),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="benchmarks/results/ban_cost.json")
    parser.add_argument("--rounds", type=int, default=21)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    told = {
        "base": measured(small(random.Random(0)), asked.rounds),
        "large": measured(large(random.Random(0)), asked.rounds),
        "clock": "processor time",
        "torch": torch.__version__,
        "load_average": [round(x, 2) for x in os.getloadavg()],
    }
    write_json(asked.out, told)
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
