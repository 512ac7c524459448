"""What calls cost, and the line that spending never crosses.

A call is reserved at its worst case before it is sent (every byte of the prompt a token, every answer at its longest) and settled at what
the server reports, so spending cannot pass the budget even when all calls in flight end at their worst.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from posttrain.core.chat import Chat
from posttrain.core.protocols import Request

PER_MESSAGE = 16
"""Tokens that a template may add around one message: generous, as it only widens the reservation."""


class BudgetExceeded(RuntimeError):
    """The next call could pass the budget. Everything paid for is stored; a larger budget goes on from there."""


@dataclass(frozen=True, slots=True)
class Price:
    """Money per million tokens, in any one currency."""

    input: float = 0.0
    output: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("input", self.input), ("output", self.output)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"price.{name} is {value}; give the cost of a million tokens, 0 or more")

    def of(self, tokens_in: int, tokens_out: int) -> float:
        """The cost of one call."""
        return (tokens_in * self.input + tokens_out * self.output) / 1e6


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits over everything that one store has paid for; None is no limit. tokens: input and output together."""

    tokens: int | None = None
    money: float | None = None

    def refuses(self, tokens: int, money: float) -> str | None:
        """Why spending that much in all is too much, or None."""
        if self.tokens is not None and tokens > self.tokens:
            return f"{tokens:,} tokens (spent, in flight and this call at its worst) pass the budget of {self.tokens:,}"
        if self.money is not None and money > self.money * (1 + 1e-12):
            return f"{money:.4f} (spent, in flight and this call at its worst) pass the budget of {self.money:g}"
        return None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job would cost at worst. calls: to be sent; known: answered from the store."""

    calls: int
    known: int
    tokens_in: int
    tokens_out: int
    money: float

    def __str__(self) -> str:
        return (
            f"{self.calls:,} calls to send, {self.known:,} answered before; at most {self.tokens_in:,} tokens in, "
            f"{self.tokens_out:,} out, {self.money:.4f} in money"
        )


def most_tokens_in(prompt: Chat) -> int:
    """No tokenizer makes more tokens of a text than it has bytes."""
    return sum(len(m.content.encode("utf-8", "surrogatepass")) + PER_MESSAGE for m in prompt) + PER_MESSAGE


def worst(request: Request) -> tuple[int, int]:
    """The most tokens that one answer to a request can cost, in and out."""
    tools = sum(len(str(t).encode()) for t in request.tools)
    return most_tokens_in(request.prompt) + tools, request.sampling.max_tokens
