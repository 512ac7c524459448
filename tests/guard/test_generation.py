"""A model pushed towards banned phrases, in many segmentations, never says them; batches equal single rows; Guarded is a Model."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from posttrain.core.chat import as_chat
from posttrain.core.protocols import Request, Sampling
from posttrain.detectors.toxicity import toxicity
from posttrain.guard.automaton import Automaton
from posttrain.guard.bans import Bans
from posttrain.guard.experts import Companion, ExpertMix, VocabMismatch, mix, same_vocabulary
from posttrain.guard.guarded import BLOCKED, Guarded
from posttrain.guard.pipeline import Guard, GuidanceError, Row
from posttrain.guard.rewards import best_of_n
from posttrain.guard.vocabulary import Vocabulary
from posttrain.jobs.assembly import resolve
from posttrain.rollout.policy import Policy
from tests.rollout.models import model_of

PHRASES = ["the library", "house", "été", "密码", "в доме"]


class Towards:
    """A stage that raises every token that goes on with a phrase, whole or in pieces of any size."""

    name = "towards"

    def __init__(self, vocabulary: Vocabulary, phrases: list[str], push: float) -> None:
        rng = random.Random(0)
        self.bodies, self.push = vocabulary.bodies, push
        self.texts = [" " + p for p in phrases] + phrases
        rng.shuffle(self.texts)
        self.known: dict[bytes, list[int]] = {}

    def __call__(self, row: Row, logits: Tensor) -> Tensor:
        said = b"".join(self.bodies[t] or b"" for t in row.tokens[-12:])
        out = logits.clone()
        for text in self.texts:
            body = text.encode()
            done = next((n for n in range(len(body) - 1, -1, -1) if said.endswith(body[:n])), 0)
            rest = body[done:]
            out[self._next(rest)] += self.push * (1 + done)
        return out

    def _next(self, rest: bytes) -> list[int]:
        if rest not in self.known:
            self.known[rest] = [t for t, piece in enumerate(self.bodies) if piece and rest.startswith(piece)]
        return self.known[rest]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy.open(resolve("base"), slots=16)


def pushed(policy: Policy, tokens: int, word: bool) -> tuple[int, int]:
    """(violations, tokens) of answers pushed towards the phrases."""
    vocabulary = Vocabulary.of(policy.loaded.tokenizer)
    bans = Bans(vocabulary, () if word else PHRASES, PHRASES if word else (), stop_ids=policy.loaded.stops)
    guard = Guard(bans, stages=[Towards(vocabulary, PHRASES, 4.0)])
    found = Automaton([(p, word) for p in PHRASES])
    seen = bad = 0
    seed = 0
    while seen < tokens:
        asked = [
            Request(as_chat(f"Tell me {i}"), Sampling(temperature=1.2, max_tokens=64), seed=seed + i) for i in range(16)
        ]
        for group in Guarded(policy, guard).generate(asked):
            text = group.responses[0].text
            bad += found.find(text) >= 0
            seen += 64 if group.responses[0].tokens is None else len(group.responses[0].tokens)
        seed += 16
    return bad, seen


def test_pushed_towards_bans_nothing_is_said(policy: Policy) -> None:
    for word in (False, True):
        bad, seen = pushed(policy, 600, word)
        assert bad == 0 and seen >= 600
    free = Guard(stages=[Towards(Vocabulary.of(policy.loaded.tokenizer), PHRASES, 4.0)])
    said = Guarded(policy, free).generate([Request(as_chat("Tell me"), Sampling(max_tokens=64), n=8)])[0]
    assert any(Automaton([(p, False) for p in PHRASES]).find(r.text) >= 0 for r in said.responses), (
        "the push does not push"
    )


def test_batches_equal_single_rows_and_streams_equal_answers(policy: Policy) -> None:
    bans = Bans(Vocabulary.of(policy.loaded.tokenizer), ["the"], ["a"], stop_ids=policy.loaded.stops)
    guarded = Guarded(policy, Guard(bans))
    asked = [Request(as_chat(f"Tell me {i}"), Sampling(max_tokens=24), seed=i, id=str(i)) for i in range(5)]
    together = [g.responses[0].text for g in guarded.generate(asked)]
    assert together == [guarded.generate([r])[0].responses[0].text for r in asked]
    streamed = dict.fromkeys(map(str, range(5)), "")
    for event in guarded.stream(asked):
        streamed[event.id] += event.text
        assert Automaton([("the", False)]).find(streamed[event.id], end=False) < 0
    assert list(streamed.values()) == together


def test_detectors_before_and_behind_answer_in_words(policy: Policy) -> None:
    guarded = Guarded(policy, before=[toxicity])
    group = guarded.generate([Request(as_chat("You are an idiot"), Sampling(max_tokens=4), n=2)])[0]
    assert [r.text for r in group.responses] == [BLOCKED] * 2 and group.responses[0].stop == "content_filter"
    behind = Guarded(policy, behind=[lambda p, r: toxicity("", "you are an idiot")])
    assert behind.generate([Request(as_chat("Hi"), Sampling(max_tokens=4))])[0].responses[0].text == BLOCKED


def test_expert_mix_is_the_formula_and_a_strength_of_nothing_is_the_base() -> None:
    base, expert, anti = torch.tensor([2.0, 1.0, -9.0]), torch.tensor([0.0, 3.0, 9.0]), torch.tensor([0.0, 1.0, 0.0])
    made = mix(base, expert, anti, 1.0)
    assert made[2] == -1e9 and made.argmax() == 1
    assert torch.allclose(made[:2], (base + expert.log_softmax(-1) - anti.log_softmax(-1))[:2])
    assert mix(base, expert, anti, 0.0) is base
    model, _ = model_of("llama")
    stage = ExpertMix(Companion(model, lambda chat: [5, 6], "e"), strength=1.0)
    row = Row(Request(as_chat("x")))
    first = stage(row, torch.zeros(model.config.vocab_size))
    row.tokens.append(7)
    second = stage(row, torch.zeros(model.config.vocab_size))
    truth = model(torch.tensor([[5, 6, 7]])).logits[0, -1].log_softmax(-1)
    flat = torch.zeros(model.config.vocab_size).log_softmax(-1)
    assert not torch.equal(first, second) and torch.allclose(second, truth - flat, atol=1e-4)


def test_mismatches_and_broken_stages_are_named() -> None:
    class Tokens:
        def __init__(self, names: str) -> None:
            self.names = names

        def get_vocab(self) -> dict[str, int]:
            return {c: i for i, c in enumerate(self.names)}

    same_vocabulary(Tokens("abc"), Tokens("abcd"))
    with pytest.raises(VocabMismatch, match="another id"):
        same_vocabulary(Tokens("abc"), Tokens("acb"))
    guard = Guard(stages=[lambda logits: logits * float("nan")])
    with pytest.raises(GuidanceError, match="guidance"):
        guard.adjust(guard.start(Request(as_chat("x"))), torch.zeros(4))


def test_best_of_n_keeps_the_best_and_may_stop_early(policy: Policy) -> None:
    from posttrain.core.group import Score

    calls: list[int] = []

    def length(groups: Any) -> list[list[Score]]:
        calls.append(sum(len(g.responses) for g in groups))
        return [[Score(float(len(r.text))) for r in g.responses] for g in groups]

    asked = [Request(as_chat("Tell me"), Sampling(max_tokens=8), seed=1)]
    best = best_of_n(policy, asked, length, 8)[0]
    assert (
        best.scores[best.index] == max(best.scores) and best.drawn == 8 and best.kl == pytest.approx(1.2044, abs=1e-3)
    )
    calls.clear()
    early = best_of_n(policy, asked, length, 8, enough=1.0)[0]
    assert early.drawn == 2 and sum(calls) == 2
