"""Rewards at decoding time: per token over the likeliest candidates, and best-of-n.

Per token: `logit + w * r(prompt, text so far + candidate)` over the top k, the others out (ARGS, Khanov et al. 2024, arXiv:2402.01694); it
costs k scorings a token. Best-of-n: draw n, keep the best scored; the KL it spends is at most log n - (n-1)/n (Stiennon et al. 2020;
Beirami et al. 2024, arXiv:2401.01879). Leaves out look-ahead by chunks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from posttrain.core.chat import chat_text
from posttrain.core.group import Group
from posttrain.core.protocols import Model, Request, Reward
from posttrain.guard.pipeline import Row

Texts = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
"""(prompts, responses) -> scores: a plain reward."""


class RewardGuidance:
    """The stage. weight: w in logits per unit of reward. candidates: k."""

    name = "reward"

    def __init__(self, reward: Texts, tokenizer: Any, weight: float = 1.0, candidates: int = 40) -> None:
        if candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {candidates}")
        self.reward, self.tokenizer, self.weight, self.candidates = reward, tokenizer, weight, candidates

    def __call__(self, row: Row, logits: Tensor) -> Tensor:
        if self.weight == 0:
            return logits
        assert row.request is not None, "a guarded row knows its request"
        best = logits.topk(min(self.candidates, logits.shape[0])).indices
        texts = [self.tokenizer.decode([*row.tokens, int(c)], skip_special_tokens=True) for c in best]
        scores = torch.tensor(
            list(self.reward([chat_text(row.request.prompt)] * len(texts), texts)), dtype=logits.dtype
        )
        out = torch.full_like(logits, -1e9)
        out[best] = logits[best] + self.weight * scores
        return out


@dataclass(frozen=True)
class Chosen:
    """Best of the answers drawn: all of them in `group`, their scores, the index kept, and how many were drawn."""

    group: Group
    scores: tuple[float, ...]
    index: int

    @property
    def text(self) -> str:
        return self.group.responses[self.index].text

    @property
    def drawn(self) -> int:
        return len(self.scores)

    @property
    def kl(self) -> float:
        """Upper bound of the KL to the model, in nats."""
        return math.log(self.drawn) - (self.drawn - 1) / self.drawn


def best_of_n(
    model: Model, requests: Sequence[Request], reward: Reward, n: int, enough: float | None = None, at_once: int = 0
) -> list[Chosen]:
    """n answers to each request, the best kept. enough: stop drawing for a request once a score reaches it, e.g. a quantile of scores
    on other prompts; answers are then drawn `at_once` at a time (default: a quarter of n). A response that cannot be scored never wins.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    step = n if enough is None else max(1, at_once or n // 4)
    made: list[Group | None] = [None] * len(requests)
    scores: list[list[float]] = [[] for _ in requests]
    for at in range(0, n, step):
        todo = [i for i in range(len(requests)) if enough is None or max(scores[i], default=-math.inf) < enough]
        if not todo:
            break
        asked = [replace(requests[i], n=min(step, n - at), seed=requests[i].seed + at * 1_000_003) for i in todo]
        fresh = model.generate(asked)
        for i, group, judged in zip(todo, fresh, reward(fresh), strict=True):
            old = made[i]
            made[i] = group if old is None else replace(old, responses=old.responses + group.responses)
            scores[i] += [-math.inf if s.value is None else s.value for s in judged]
    out = []
    for done, found in zip(made, scores, strict=True):
        assert done is not None, "the first round draws for every request"
        out.append(Chosen(done, tuple(found), max(range(len(found)), key=lambda k: (found[k], -k))))
    return out
