"""Tiny models and random ragged groups for the parity tests, in the worker's format (`trl_worker`) and as our nouns."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from posttrain.core.group import Group, Preference, Response, Score

VOCAB, HIDDEN = 300, 64
PAD, END, BOS = 0, 1, 3
WORDS = range(5, VOCAB)

Json = dict[str, Any]


def write_models(folder: Path) -> Json:
    """Policy, reference and a reward head, all random and different, so that no loss stands at its starting value."""
    for seed, name in enumerate(("policy", "reference")):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=HIDDEN,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            initializer_range=0.08,
            pad_token_id=PAD,
            eos_token_id=END,
            bos_token_id=BOS,
        )
        LlamaForCausalLM(config).save_pretrained(folder / name)
    torch.manual_seed(7)
    save_file({"weight": torch.randn(1, HIDDEN) / HIDDEN**0.5}, folder / "score.safetensors")
    return {
        "policy": str(folder / "policy"),
        "reference": str(folder / "reference"),
        "score": str(folder / "score.safetensors"),
    }


def ids(draw: random.Random, low: int, high: int) -> list[int]:
    return [draw.choice(WORDS) for _ in range(draw.randint(low, high))]


def response(draw: random.Random, whole: bool) -> Json:
    """3 to 12 tokens, the last one the stop token; unless `whole`, a stretch in the middle is not trained."""
    tokens = [*ids(draw, 2, 11), END]
    trained = [1] * len(tokens)
    if not whole and len(tokens) > 5:
        at = draw.randrange(0, len(tokens) - 3)
        trained[at : at + 2] = [0, 0]
    return {"tokens": tokens, "trained": trained}


def groups(kind: str, whole: bool, seed: int) -> list[Json]:
    """Six prompts (for scored kinds four prompts with four answers) of 1 to 14 tokens, in the worker's format."""
    draw = random.Random(seed)
    n = {"answers": 1, "documents": 1, "labels": 1, "pairs": 2, "margins": 2}.get(kind, 4)
    made = [
        {
            "prompt": [BOS] if kind == "documents" else ids(draw, 1, 14),
            "responses": [response(draw, whole) for _ in range(n)],
        }
        for _ in range(6 if n < 4 else 4)
    ]
    if kind == "margins":
        for group in made:
            group["margin"] = round(draw.uniform(0, 1), 3)
    if kind == "labels":
        for i, group in enumerate(made):
            group["responses"][0]["label"] = i % 3 != 0
            group["responses"][0]["kl"] = made[i - 1]["responses"][0]["tokens"]
    if kind in ("scored", "old", "sampled"):
        for group in made:
            for one in group["responses"]:
                one["reward"] = round(draw.uniform(-1, 1), 3)
        made[-1]["responses"][1]["reward"] = None
    return made


def noisy_logps(model: torch.nn.Module, made: Sequence[Json], name: str, seed: int) -> list[Json]:
    """The same groups with per-token log-probs near the policy's own, so that ratios fall on both sides of a clip."""
    draw = random.Random(seed)
    out = copy.deepcopy(list(made))
    with torch.no_grad():
        for group in out:
            for one in group["responses"]:
                row = torch.tensor([group["prompt"] + one["tokens"]])
                logp = torch.log_softmax(model(input_ids=row).logits[0, :-1].float(), -1)
                own = logp.gather(1, row[0, 1:, None])[len(group["prompt"]) - 1 :, 0]
                one[name] = [round(float(x) + draw.gauss(0, 0.25), 5) for x in own]
    return out


def as_groups(made: Sequence[Json]) -> list[Group]:
    """The worker's groups as ours: the first response of two is preferred, a KTO row carries its mismatched answer."""
    out = []
    for number, group in enumerate(made):
        responses = []
        for one in group["responses"]:
            reward = one.get("reward")
            responses.append(
                Response(
                    tokens=np.asarray(one["tokens"]),
                    trained=np.asarray(one["trained"]),
                    label=one.get("label"),
                    logps=np.asarray(one["old"], dtype=np.float32) if "old" in one else None,
                    sampled_logps=np.asarray(one["sampled"], dtype=np.float32) if "sampled" in one else None,
                    score=Score(reward) if "reward" in one else None,
                    stop="stop",
                )
            )
        pairs = (Preference(0, 1, margin=group.get("margin", 0.0)),) if len(responses) == 2 else ()
        for one in group["responses"]:
            if "kl" in one:
                responses.append(
                    Response(tokens=np.asarray(one["kl"]), trained=np.ones(len(one["kl"]), dtype=np.int64), kind="kl")
                )
        out.append(
            Group(
                prompt=(),
                responses=tuple(responses),
                preferences=pairs,
                facts={"id": f"row-{number}"},
                prompt_tokens=np.asarray(group["prompt"]),
            )
        )
    return out
