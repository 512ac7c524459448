"""The reading room's tokenizer: a byte-level BPE trained on its corpus, saved as a directory that transformers loads.

``python -m posttrain.readingroom.tokenizer OUT [--vocabulary 2560] [--seed 0]``. Digits are split singly, special tokens are reserved for
roles and thinking, and there is no chat template: fine-tuning applies one by name.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable
from pathlib import Path

from posttrain.readingroom.room import ReadingRoom

SPECIAL = (
    "<|bos|>", "<|eos|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>", "<|thinking|>", "<|/thinking|>",
    *(f"<|reserved_{i}|>" for i in range(6)),
)  # fmt: skip
# Constant pieces of a notice stay whole (leader, heads of fields with their indicators and first code, constants of field 100, the author
# code); everywhere else digits stand alone and words keep their leading space.
PATTERN = "|".join(
    (
        r"LDR #{5}nam#{2}22#{8}45#{2}",
        r"001 (?=\d)",
        r"\d{3} [0-9#]{2}\$[a-z](?:20260105d)?",
        r"#{4}k#{2}y0[a-z]{3}y50#{6}[a-z]{2}",
        r"\$4070",
        r"\d",
        r" {2,}",
        r"\n",
        r" ?\p{L}+",
        r"\$[a-z]",
        r" ?[^\s\p{L}\d$]+",
        r"[^\S\n]",
        r"\$",
    )
)
VOCABULARY = 2560
TRAINING_CHARACTERS = 6_000_000


def train(texts: Iterable[str], vocabulary: int = VOCABULARY):  # type: ignore[no-untyped-def]
    """A PreTrainedTokenizerFast trained on texts. Every text round-trips: the alphabet is all 256 bytes."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        pad_token="<|pad|>",
        extra_special_tokens=list(SPECIAL[3:]),
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def main(arguments: list[str] | None = None) -> None:
    """Train, save, and print lengths of prompts and answers in tokens."""
    parser = argparse.ArgumentParser(
        prog="python -m posttrain.readingroom.tokenizer", description=__doc__.split("\n")[0]
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    room = ReadingRoom(given.seed)
    tokenizer = train(room.corpus(seed=1, n_characters=TRAINING_CHARACTERS), given.vocabulary)
    tokenizer.save_pretrained(given.out)
    print(f"{room.version} ({room.simulation}): {len(tokenizer)} tokens in {given.out}")
    for split in ("train", "held-out", "ood"):
        rows = room.prompts(split, 1000)
        for what, texts in (
            ("prompt", [g.facts["source"] for g in rows]),
            ("answer", [g.facts["gold"]["answer"] for g in rows]),
        ):
            lengths = sorted(len(ids) for ids in tokenizer(texts)["input_ids"])
            cuts = {p: lengths[min(len(lengths) - 1, int(len(lengths) * p / 100))] for p in (5, 50, 90, 99)}
            print(
                f"{split:9} {what}: "
                + "  ".join(f"p{p} {n}" for p, n in cuts.items())
                + f"  mean {statistics.fmean(lengths):.1f}"
            )


if __name__ == "__main__":
    main()
