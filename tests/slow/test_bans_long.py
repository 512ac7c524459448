"""A hundred thousand tokens of a model that is pushed towards banned phrases, under many random segmentations: none is ever said.

Every world has phrases and a vocabulary of its own: random pieces of the phrases in other cases, look-alikes, marks and with hidden
characters, so that a phrase can be spelt in countless ways. The truth is looked up in the text by brute force, without the automaton: no
phrase in any answer, and at sampled steps exactly those tokens masked that would complete one.
"""

from __future__ import annotations

import random
import unicodedata
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from posttrain.core.chat import as_chat
from posttrain.core.protocols import Request, Sampling
from posttrain.guard.bans import Bans, BanTooBroad
from posttrain.guard.fold import FOLDING, characters, word_class
from posttrain.guard.guarded import Guarded
from posttrain.guard.pipeline import Guard, Row
from posttrain.guard.vocabulary import Vocabulary
from posttrain.rollout.sampler import Sampler

pytestmark = pytest.mark.slow
WORLDS, TOKENS, ROWS, LENGTH = 20, 100_000, 32, 80
LETTERS = "abcdeo é密в"
CHECKED = 0.01
"""Share of the steps at which the whole mask is compared with the truth."""


class Pieces:
    """A tokenizer of byte pieces that can decode, which is all that the sampler asks."""

    def __init__(self, bodies: list[bytes | None]) -> None:
        self.bodies = bodies

    def decode(self, ids: Any, **_: Any) -> str:
        return b"".join(self.bodies[int(i)] or b"" for i in ids).decode("utf-8", "replace")


def disguised(rng: random.Random, phrase: str) -> str:
    """The phrase in another spelling that folds to the same."""
    out = ""
    for c in phrase:
        c = c.upper() if rng.random() < 0.3 else c
        c = {"a": "а", "o": "о", "c": "с", "e": "е"}.get(c, c) if rng.random() < 0.3 else c
        out += c + ("\u200b" if rng.random() < 0.2 else "")
    return unicodedata.normalize("NFD", out) if rng.random() < 0.3 else out


def world(rng: random.Random) -> tuple[list[str], Vocabulary]:
    """Phrases and a vocabulary that can spell them in pieces of any size; id 0 ends an answer."""
    phrases = []
    while len(phrases) < 6:
        made = "".join(rng.choice(LETTERS) for _ in range(rng.randrange(3, 9))).strip()
        if len(made) >= 3 and "  " not in made:
            phrases.append(made)
    pieces = {bytes([b]) for b in (LETTERS + LETTERS.upper() + "\u200bао .").encode()}
    while len(pieces) < 300:
        body = f" {disguised(rng, rng.choice(phrases))} ".encode()
        i, j = sorted((rng.randrange(len(body)), rng.randrange(len(body))))
        pieces.add(body[i : j + 1])
    return phrases, Vocabulary([None, *sorted(pieces)])


def said(body: str, sought: str, word: bool, over: bool, start: int = 0) -> bool:
    """Does the text hold the phrase, both folded? In word mode between boundaries; over: the end of the text is one."""
    at = body.find(sought, start)
    while at >= 0:
        before, after = body[at - 1 : at] if at else "", body[at + len(sought) : at + len(sought) + 1]
        left = not before or word_class(before) != 1 or word_class(sought[0]) != 1
        right = (
            (over or word_class(sought[-1]) == 0)
            if not after
            else word_class(after) != 1 or word_class(sought[-1]) != 1
        )
        if not word or (left and right):
            return True
        at = body.find(sought, at + 1)
    return False


class Pushed:
    """A stage that raises every token which goes on with a phrase, and compares masks with the truth now and then."""

    name = "pushed"

    def __init__(self, vocabulary: Vocabulary, phrases: list[str], word: bool, rng: random.Random) -> None:
        self.bodies, self.phrases, self.word, self.rng = vocabulary.bodies, phrases, word, rng
        self.folded = [FOLDING.text(p) for p in phrases]
        self.targets = [disguised(rng, p).encode() for p in phrases for _ in range(3)]
        self.known: dict[bytes, Tensor] = {}
        self.compared = 0

    def __call__(self, row: Row, logits: Tensor) -> Tensor:
        raw = b"".join(self.bodies[t] or b"" for t in row.tokens)
        if self.rng.random() < CHECKED:
            self.compare(row, raw)
        logits = logits.clone()
        for target in self.targets:
            done = next((n for n in range(len(target) - 1, -1, -1) if raw.endswith(target[:n])), 0)
            logits[self.going_on(target[done:])] += 1.0 + 2.0 * done
        return logits

    def going_on(self, rest: bytes) -> Tensor:
        if rest not in self.known:
            found = [t for t, piece in enumerate(self.bodies) if piece and rest.startswith(piece)]
            self.known[rest] = torch.tensor(found, dtype=torch.long)
        return self.known[rest]

    def compare(self, row: Row, raw: bytes) -> None:
        """Masked are exactly the tokens after which the text holds a phrase (looked for in its last characters)."""
        start = int(len(raw) > 80)  # the first character kept is only the one before
        raw = raw[-80:]
        while raw and 0x80 <= raw[0] < 0xC0:
            raw = raw[1:]
        masked = set() if row.forbidden is None else set(row.forbidden.tolist())
        for token, body in enumerate(self.bodies):
            if body is not None:
                text = FOLDING.text(characters(raw + body)[0])
                wrong = any(said(text, p, self.word, False, start) for p in self.folded)
                assert wrong == (token in masked), (text, body, self.phrases)
        self.compared += 1


def test_a_hundred_thousand_tokens_without_a_violation() -> None:
    drawn = violations = compared = worlds = 0
    rng = random.Random(0)
    while drawn < TOKENS or worlds < WORLDS:
        word = worlds % 2 == 1
        phrases, vocabulary = world(rng)
        try:
            bans = Bans(vocabulary, () if word else phrases, phrases if word else (), stop_ids=[0])
        except BanTooBroad:
            continue
        worlds += 1
        torch.manual_seed(worlds)
        config = LlamaConfig(
            vocab_size=vocabulary.size, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, max_position_embeddings=128,
        )  # fmt: skip
        stage = Pushed(vocabulary, phrases, word, rng)
        model = Sampler(
            LlamaForCausalLM(config).eval(),
            Pieces(vocabulary.bodies),
            [0],
            lambda chat, tools: [1, 2],
            slots=ROWS,
            threads=1,
        )
        guarded = Guarded(model, Guard(bans, stages=[stage]))
        asked = [Request(as_chat(str(i)), Sampling(max_tokens=LENGTH), seed=i) for i in range(2 * ROWS)]
        for group in guarded.generate(asked):
            answer = group.responses[0]
            violations += any(said(FOLDING.text(answer.text), p, word, over=True) for p in stage.folded)
            drawn += LENGTH if answer.tokens is None else len(answer.tokens)
        compared += stage.compared
    assert violations == 0
    assert compared > 500, "too few masks were compared"


def test_the_push_reaches_the_phrases_when_nothing_forbids_them() -> None:
    rng = random.Random(1)
    phrases, vocabulary = world(rng)
    config = LlamaConfig(
        vocab_size=vocabulary.size, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=128,
    )  # fmt: skip
    stage = Pushed(vocabulary, phrases, False, rng)
    stage.compare = lambda row, raw: None  # type: ignore[method-assign]
    model = Sampler(
        LlamaForCausalLM(config).eval(), Pieces(vocabulary.bodies), [0], lambda chat, tools: [1, 2], slots=ROWS
    )
    asked = [
        Request(as_chat(str(i)), Sampling(max_tokens=LENGTH), seed=i, steer=Guard(stages=[stage])) for i in range(ROWS)
    ]
    texts = [g.responses[0].text for g in model.generate(asked)]
    assert sum(any(p in FOLDING.text(t) for p in stage.folded) for t in texts) > ROWS // 2
