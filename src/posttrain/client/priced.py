"""A Model that answers nothing and adds up what its calls would cost: the dry run of a judge or a generator.

Calls that follow from answers (a repaired reply, a second question about the first answer) are not known before there are answers, so
whoever prints the sum says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from posttrain.client.money import Estimate, worst
from posttrain.core.group import Group, Response
from posttrain.core.protocols import Event, Request


def unpriced(requests: Sequence[Request]) -> Estimate:
    """The calls of a local model: their worst case in tokens, no money."""
    used = [[worst(r)[i] * r.n for r in requests] for i in (0, 1)]
    return Estimate(sum(r.n for r in requests), 0, sum(used[0]), sum(used[1]), 0.0)


class Priced:
    """price: what some requests would cost at worst; nothing is sent. Every answer is empty, with stop reason ``error``."""

    def __init__(self, price: Callable[[Sequence[Request]], Estimate]) -> None:
        self._price, self._asked = price, list[Request]()

    by = "nobody"

    def generate(self, requests: Sequence[Request]) -> list[Group]:
        """One Group of empty answers per request."""
        self._asked += requests
        return [Group(r.prompt, (Response(stop="error", by=self.by),) * r.n, facts=r.facts) for r in requests]

    def stream(self, requests: Iterable[Request]) -> Iterator[Event]:
        """One empty event per answer."""
        for number, made in enumerate(self.generate(list(requests))):
            for index in range(len(made.responses)):
                yield Event(str(number), index, stop="error")

    @property
    def estimate(self) -> Estimate:
        """What all calls asked for so far would cost at worst; equal calls once, answered ones nothing."""
        return self._price(self._asked)
