"""Pieces side by side: each core takes its own pieces of a step, in place of all cores sharing every operation.

The pieces of a step have nothing to do with each other until their gradients are summed. With all cores on one operation they wait for the
slowest of them thousands of times a step; with a piece for each they wait once, and small operations lose nothing to being split. Every
hand is a *twin* of the engine: the same weights in memory, with gradients and switches (attention, adapters, last block) of its own.
Which hand takes which piece depends on their sizes alone, and gradients are summed in the order of the hands, so a step has the same bits
each time. Costs the activations of one more piece, and one more gradient, for each hand. Leaves out: GPUs, whose kernels are parallel
already; blocks that are computed again in the backward, whose repetition would run in the first engine's model; quantized weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from posttrain.core.batch import Batch
from posttrain.core.machine import lanes

if TYPE_CHECKING:
    from posttrain.engine.local import LocalEngine

T = TypeVar("T")
LEAST = 192
"""Stream tokens of a piece below which it is not worth a hand: matrix products of fewer rows are slow."""


class Hands:
    """The engines of one model, the first being the one that others see. Raises ValueError for a model that cannot have twins."""

    def __init__(self, engine: LocalEngine, count: int) -> None:
        self.count = count
        self.engines = [engine, *(twin(engine) for _ in range(count - 1))]
        self.pool = lanes(count)

    def each(self, pieces: Sequence[Batch], work: Callable[[LocalEngine, Batch], T]) -> list[T]:
        """`work` on every piece, by the engine that it is given; results in the order of the pieces, gradients in the first engine."""
        engine, graph = self.engines[0], torch.is_grad_enabled()
        for other in self.engines[1:]:
            other.path, other.attention, other.head_limit = engine.path, engine.attention, engine.head_limit
        made: dict[int, T] = {}

        def take(hand: int, mine: Sequence[int]) -> None:
            with torch.set_grad_enabled(graph):  # a setting of each thread
                for i in mine:
                    made[i] = work(self.engines[hand], pieces[i])

        waiting = [self.pool.submit(take, hand, mine) for hand, mine in enumerate(shares(pieces, self.count))]
        errors = [future.exception() for future in waiting]  # waits for all of them: none may run on behind an error
        self._gather()  # after an error, too: what a twin holds would be added to a later step
        for error in errors:
            if error is not None:
                raise error
        return [made[i] for i in range(len(pieces))]

    def _gather(self) -> None:
        """Operations and gradients of the twins are the first engine's."""
        own = self.engines[0].named_parameters()
        for other in self.engines[1:]:
            self.engines[0].flops += other.flops
            other.flops = 0.0
            for name, parameter in other.named_parameters().items():
                grad, parameter.grad = parameter.grad, None
                if grad is not None:
                    mine = own[name]
                    mine.grad = grad if mine.grad is None else mine.grad.add_(grad)


def shares(pieces: Sequence[Batch], hands: int) -> list[list[int]]:
    """Which pieces each hand takes, the largest first to whoever has least so far; each hand's in their order."""
    taken: list[list[int]] = [[] for _ in range(hands)]
    load = [0] * hands
    for i in sorted(range(len(pieces)), key=lambda i: (-pieces[i].T, i)):
        hand = load.index(min(load))
        taken[hand].append(i)
        load[hand] += pieces[i].T
    return [sorted(mine) for mine in taken]


def twin(engine: LocalEngine) -> LocalEngine:
    """Another engine over the same weights. It trains nothing by itself: no optimizer, no kept scores, no hands."""
    memo: dict[int, Any] = {id(t): _same(t) for module in _modules(engine) for t in _tensors(module)}
    memo |= {id(own): None for own in (engine.optimizer, engine.kept, engine.hands) if own is not None}
    memo[id(engine.notes)] = engine.notes
    made = copy.deepcopy(engine, memo)
    made._work = {}  # counted by model
    made.flops = 0.0
    return made


def _modules(engine: LocalEngine) -> Iterator[nn.Module]:
    yield from (engine.model, engine.heads, *engine.roles.values())
    if engine.critic is not None:
        yield engine.critic.model


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    for part in module.modules():
        if getattr(part, "gradient_checkpointing", False):
            raise ValueError("blocks that are computed again in the backward have one engine")
    yield from module.parameters()
    yield from module.buffers()


def _same(tensor: Tensor) -> Tensor:
    """The same memory, as a leaf with a gradient of its own."""
    if not isinstance(tensor, nn.Parameter):
        return tensor
    if type(tensor) is not nn.Parameter:
        raise ValueError(f"weights of type {type(tensor).__name__} have one engine")
    return nn.Parameter(tensor.detach(), requires_grad=tensor.requires_grad)
