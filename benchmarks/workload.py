"""What both sides of a speed comparison work on: the models, the rows and the word-level tokenizer. No posttrain, no TRL.

Random-word data: lognormal lengths (sigma 0.6) with the given means; answers end in the stop token. A word is two tokens, as in the
project's specification of performance (60 words are a prompt of 120 tokens), and every token is written as a text of its own, so that
text and ids agree on both sides. The models are random Llamas; speed does not depend on the weights.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PAD, END, UNKNOWN, BEGIN = "<pad>", "</s>", "<unk>", "<s>"
SPECIAL = (PAD, END, UNKNOWN, BEGIN)
END_ID = SPECIAL.index(END)
SIGMA = 0.6
WORD = 2
"""Tokens of a word."""
SCORE_HEAD = "score_head.st"
"""Beside the weights, under an ending that no model loader takes for a shard."""


@dataclass(frozen=True)
class Size:
    """A Llama shape with tied embeddings: 5.9 and 27.8 million weights."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocab: int = 4096


SIZES = {"6m": Size(hidden=256, layers=6, heads=8, inner=704), "27m": Size(hidden=512, layers=8, heads=8, inner=1408)}


@dataclass(frozen=True)
class Shape:
    """Rows of one method: groups per optimizer step, answers per prompt, mean tokens of a prompt and of an answer."""

    groups: int
    answers: int
    prompt: int
    answer: int


SHAPES = {
    "sft": Shape(groups=16, answers=1, prompt=40 * WORD, answer=50 * WORD),
    "dpo": Shape(groups=8, answers=2, prompt=100 * WORD, answer=30 * WORD),
    "reward": Shape(groups=8, answers=2, prompt=100 * WORD, answer=30 * WORD),
    "kto": Shape(groups=16, answers=1, prompt=100 * WORD, answer=30 * WORD),
    "grpo": Shape(groups=4, answers=8, prompt=60 * WORD, answer=64),
    "rloo": Shape(groups=4, answers=8, prompt=60 * WORD, answer=64),
}


def lengths(draw: np.random.Generator, mean: int, n: int) -> np.ndarray:
    """n lognormal lengths with this mean, at least 2 and at most eight times the mean."""
    raw = draw.lognormal(math.log(mean) - SIGMA**2 / 2, SIGMA, n)
    return np.clip(np.rint(raw), 2, 8 * mean).astype(int)


def rows(method: str, steps: int, vocab: int, seed: int = 0) -> list[dict[str, Any]]:
    """Groups for `steps` optimizer steps: {"prompt": [ids], "answers": [[ids] ...], "label": bool}.

    Sampled methods have no answers, and all their prompts have the same length (what is compared there is the rollout).
    """
    shape, draw = SHAPES[method], np.random.default_rng(seed)
    n = shape.groups * steps
    online = method in ("grpo", "rloo")
    prompts = np.full(n, shape.prompt) if online else lengths(draw, shape.prompt, n)
    made = []
    for i in range(n):
        answers = [] if online else lengths(draw, shape.answer, shape.answers)
        made.append(
            {
                "prompt": draw.integers(len(SPECIAL), vocab, prompts[i]).tolist(),
                "answers": [[*draw.integers(len(SPECIAL), vocab, a - 1).tolist(), END_ID] for a in answers],
                "label": bool(draw.random() < 0.5),
            }
        )
    return made


def write_rows(path: Path, made: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in made))


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def words(ids: list[int]) -> str:
    """The text of ordinary ids (no special token)."""
    return " ".join(f"t{i}" for i in ids)


def tokenizer(vocab: int) -> Any:
    """A `transformers` tokenizer with one token per text between spaces."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = [*SPECIAL, *(f"t{i}" for i in range(len(SPECIAL), vocab))]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(names)}, unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=PAD, eos_token=END, unk_token=UNKNOWN, bos_token=BEGIN, padding_side="left"
    )


def write_model(folder: Path, size: str, seed: int = 0) -> None:
    """A random fp32 Llama of a size with its tokenizer and a reward head, as a directory that both sides load."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = SIZES[size]
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=SPECIAL.index(PAD),
        eos_token_id=END_ID,
        bos_token_id=SPECIAL.index(BEGIN),
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer(shape.vocab).save_pretrained(folder)
    save_file({"weight": torch.randn(1, shape.hidden) / shape.hidden**0.5}, folder / SCORE_HEAD)
