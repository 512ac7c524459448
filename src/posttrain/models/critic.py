"""Trunks for a value head that are not the policy's: an adapter of its own on the policy's frozen base, or a copy of the whole model.

A linear head on the policy's trunk costs nothing; a trunk of its own learns values without pulling at the policy, and costs one more
forward and backward. An adapter shares the base's weights with the policy's adapter; both stand on the same frozen base.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from posttrain.models.adapters import is_adapted

NAME = "critic"
POLICY = "default"
"""peft's name for the adapter that it was made with."""


class Separate:
    """A copy of the model, trained beside it."""

    def __init__(self, model: nn.Module) -> None:
        if is_adapted(model):
            raise ValueError("critic: separate needs whole weights; with lora take critic: adapter, or head")
        self.model = copy.deepcopy(model)

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """What is trained beside the policy, by name; the copy's language-model head reads nothing and stays."""
        head = getattr(self.model, "lm_head", None)
        idle = {id(p) for p in head.parameters()} if head is not None else set()
        tied = {id(p) for p in self.model.get_input_embeddings().parameters()}  # type: ignore[operator]
        return {
            f"{NAME}.{n}": p
            for n, p in self.model.named_parameters()
            if p.requires_grad and (id(p) not in idle or id(p) in tied)
        }

    @contextmanager
    def speaking(self) -> Iterator[nn.Module]:
        """The model whose hidden states the value head reads."""
        yield self.model


class Adapter:
    """A second adapter on the policy's base, switched on while values are computed."""

    def __init__(self, model: nn.Module) -> None:
        if not is_adapted(model):
            raise ValueError(
                "critic: adapter needs a policy that is an adapter too: set lora, or take critic: separate"
            )
        self.model = model
        model.add_adapter(NAME, copy.deepcopy(model.peft_config[POLICY]))  # type: ignore[operator, index, union-attr]
        self._both_trained()

    def _both_trained(self) -> None:
        """peft freezes the adapter that is not active; both learn here."""
        for name, parameter in self.model.named_parameters():
            if f".{NAME}." in name or f".{POLICY}." in name:
                parameter.requires_grad_(True)

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Nothing more: they are parameters of the model itself."""
        return {}

    @contextmanager
    def speaking(self) -> Iterator[nn.Module]:
        """The model with the critic's adapter in place of the policy's."""
        self.model.set_adapter(NAME)  # type: ignore[operator]
        try:
            yield self.model
        finally:
            self.model.set_adapter(POLICY)  # type: ignore[operator]
            self._both_trained()
