"""Does a model say the same when the question says the same? Reworded, sampled again, and in another language.

Likeness of two answers is the share of words they have in common (Dice). The language arm asks the built-in suite's problems and compares
the last number of the answers. A policy is held against its reference on the same prompts. Leaves out likeness of meaning.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from posttrain.audit.consistency_figures import figured
from posttrain.audit.probe import Measured
from posttrain.audit.suite import suite
from posttrain.core.chat import Chat, Message
from posttrain.core.group import Group
from posttrain.core.protocols import Request, Sampling
from posttrain.detectors.language import language_of
from posttrain.detectors.repetition import units

MOST, PROBLEMS = 60, 30
"""Prompts of the first two arms, and problems of the third."""
DROP = 0.05
POLITE = {
    "en": "Please answer this: {x}",
    "fr": "Répondez à ceci, s'il vous plaît : {x}",
    "ru": "Ответьте, пожалуйста: {x}",
    "zh": "请回答：{x}",
}
NUMBER = re.compile(r"\d+")
REMEDY = "train on reworded prompts, or lower the learning rate"


def steadiness(policy: Any, reference: Any, prompts: Sequence[Group], checker: Any) -> Iterator[Measured]:
    """C15: likeness of the policy's answers less that of the reference's, in three arms."""
    asked = list({g.prompt_hash: g.prompt for g in prompts}.items())[:MOST]
    checker.progress(f"self-consistency: {len(asked)} prompts")
    chats, ids = [c for _, c in asked], [i for i, _ in asked]
    both = [_likeness(model, chats, checker.max_tokens, checker.seed) for model in (policy, reference)]
    for arm, place in (("reworded", 0), ("sampled again", 1)):
        yield _arm(arm, both[0][place] - both[1][place], ids, checker)
    languages = [_across(model, checker.max_tokens) for model in (policy, reference)]
    yield _arm("English and French", languages[0] - languages[1], [str(i) for i in range(PROBLEMS)], checker)


def _arm(arm: str, values: np.ndarray, ids: Sequence[str], checker: Any) -> Measured:
    phrase = "Answers have become less steady"
    return figured(
        "C15", arm, values, ids, "floor", -DROP, "of likeness", phrase, REMEDY, "", checker.reps, checker.seed
    )


def _said(model: Any, chats: Sequence[Chat], sampling: Sampling, seed: int = 0) -> list[str]:
    return [g.responses[0].text for g in model.generate([Request(c, sampling, 1, seed) for c in chats])]


def _likeness(model: Any, chats: Sequence[Chat], tokens: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    greedy = Sampling(temperature=0.0, max_tokens=tokens)
    plain = _said(model, chats, greedy)
    other = _said(model, [reworded(c) for c in chats], greedy)
    again = _said(model, chats, Sampling(temperature=0.7, max_tokens=tokens), seed)
    rows = [[alike(p, x) for p, x in zip(plain, said, strict=True)] for said in (other, again)]
    return np.asarray(rows[0]), np.asarray(rows[1])


def reworded(chat: Chat) -> Chat:
    """The chat with its last turn asked politely, in its own language."""
    last = chat[-1]
    polite = POLITE.get(language_of(last.content), POLITE["en"])
    return (*chat[:-1], Message(last.role, polite.format(x=last.content)))


def alike(a: str, b: str) -> float:
    """Dice's share of common words, 1 for equal texts."""
    x, y = Counter(units(a)), Counter(units(b))
    total = sum(x.values()) + sum(y.values())
    return 1.0 if not total else 2 * sum((x & y).values()) / total


def _across(model: Any, tokens: int) -> np.ndarray:
    """1 where a problem gets the same last number in both languages."""
    greedy = Sampling(temperature=0.0, max_tokens=tokens)
    said = []
    for lang in ("en", "fr"):
        cases = [c for c in suite((lang,), PROBLEMS) if c.kind == "pair"]
        said.append([(NUMBER.findall(t) or [""])[-1] for t in _said(model, [c.prompt for c in cases], greedy)])
    return np.asarray([float(a == b != "") for a, b in zip(*said, strict=True)])
