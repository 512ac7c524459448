"""Which tensors move: chosen by patterns on parameter names, everything else frozen.

A pattern is a glob over the whole name (``model.layers.1.*``) or the name of a module (``lm_head`` means all in it). Names are those
of the plain model; adapters keep theirs (``...q_proj.lora_A.weight``). A pattern that names nothing is an error.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn


@dataclass(frozen=True)
class Chosen:
    """Names of trainable and frozen tensors, and what the user should know."""

    trainable: tuple[str, ...]
    frozen: tuple[str, ...]
    notes: tuple[str, ...] = ()


def plain_name(name: str) -> str:
    """A parameter's name without what adapter wrappers add.

    >>> plain_name("base_model.model.model.layers.0.q_proj.lora_A.default.weight")
    'model.layers.0.q_proj.lora_A.weight'
    """
    name = name.removeprefix("base_model.model.").replace(".base_layer", "")
    return re.sub(r"(lora_\w+)\.default\b", r"\1", name)


def matches(pattern: str, name: str) -> bool:
    """Does a pattern name this parameter, or a module it lies in?"""
    return fnmatchcase(name, pattern) or fnmatchcase(name, pattern.removesuffix(".") + ".*")


def _named(patterns: Sequence[str], names: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        hits = {n for n in names if matches(pattern, n)}
        if not hits:
            modules = {n[:i] for n in names for i, c in enumerate(n) if c == "."}
            near = difflib.get_close_matches(pattern, [*names, *modules], n=1, cutoff=0.0)
            raise ValueError(f"pattern {pattern!r} names no parameter; did you mean {near[0]!r}?")
        found |= hits
    return found


def apply_train(model: nn.Module, only: Sequence[str] = (), freeze: Sequence[str] = ()) -> Chosen:
    """Set `requires_grad`: train only what `only` names (everything trainable when empty), less what `freeze` names.

    Under an adapter only adapter tensors can be trained. A tied tensor has several names and follows each of them. Raises
    ValueError for a pattern that names nothing, for both lists at once, and when nothing is left to train.
    """
    if only and freeze:
        raise ValueError("train: give only or freeze, not both")
    adapted = hasattr(model, "disable_adapter")
    aliases: dict[int, list[str]] = {}
    tensors: dict[int, nn.Parameter] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        aliases.setdefault(id(parameter), []).append(plain_name(name))
        tensors[id(parameter)] = parameter
    names = [n for several in aliases.values() for n in several]
    wanted, unwanted = _named(only, names), _named(freeze, names)
    trainable: list[str] = []
    frozen: list[str] = []
    notes: list[str] = []
    for key, parameter in tensors.items():
        mine = aliases[key]
        chosen = not unwanted.intersection(mine) and (not only or bool(wanted.intersection(mine)))
        moves = chosen and (parameter.requires_grad if adapted else parameter.is_floating_point())
        parameter.requires_grad_(moves)
        (trainable if moves else frozen).append(mine[0])
        if len(mine) > 1 and (only or freeze) and (wanted | unwanted).intersection(mine):
            notes.append(f"{' = '.join(mine)} is one tied tensor: {'trained' if moves else 'frozen'}")
    if not trainable:
        inside = " (under LoRA only adapter tensors can be)" if adapted else ""
        raise ValueError(f"train: nothing is left to train{inside}")
    if only or freeze:
        notes.insert(0, f"{len(trainable)} tensors are trained, {len(frozen)} are frozen")
    return Chosen(tuple(trainable), tuple(frozen), tuple(notes))
