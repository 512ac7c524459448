"""Holding out by prompt: a prompt and all its rows stand on one side, whatever the order or the answers.

`overlap` finds prompts on both sides of two files. Equality is exact, by content hash; near duplicates are a matter of dedup.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from posttrain.core.group import Group


def prompt_key(made: Group) -> str:
    """Hash of what a group asks; a plain document, which asks nothing, counts by its text."""
    if made.prompt or not made.responses:
        return made.prompt_hash
    return "document:" + hashlib.sha256(made.responses[0].text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Split:
    """Two parts without a common prompt, each in the order of the data."""

    train: list[Group]
    held_out: list[Group]

    @classmethod
    def of(cls, groups: Sequence[Group], held_out: float | int, seed: int = 0) -> Split:
        """Hold out a share of the rows (below 1) or a number of rows (1 or more), by whole prompts in an order drawn from seed.

        Prompts are added until the held-out part has that many rows, so it may have a few more where a prompt has several.
        The choice depends on seed and on the prompts alone, not on their order. Raises ValueError when a side would be empty.
        """
        wanted = held_out if held_out >= 1 else round(held_out * len(groups))
        if held_out <= 0 or wanted < 1:
            raise ValueError(
                f"held_out={held_out} of {len(groups)} rows holds out nothing; give a larger share or a number of rows"
            )
        rows: dict[str, int] = {}
        keys = [prompt_key(g) for g in groups]
        for key in keys:
            rows[key] = rows.get(key, 0) + 1
        chosen: set[str] = set()
        count = 0
        for key in sorted(rows, key=lambda k: hashlib.sha256(f"{seed}:{k}".encode()).digest()):
            if count >= wanted:
                break
            chosen.add(key)
            count += rows[key]
        if len(chosen) == len(rows):
            raise ValueError(
                f"held_out={held_out} leaves nothing to train on: {len(groups)} rows have {len(rows)} different prompts; hold out fewer"
            )
        train = [g for g, key in zip(groups, keys, strict=True) if key not in chosen]
        return cls(train, [g for g, key in zip(groups, keys, strict=True) if key in chosen])


def overlap(train: Sequence[Group], held_out: Sequence[Group]) -> list[tuple[Group, Group]]:
    """Held-out groups whose prompt is also trained on, each with the first such training group."""
    known: dict[str, Group] = {}
    for made in train:
        known.setdefault(prompt_key(made), made)
    return [(known[key], made) for made in held_out if (key := prompt_key(made)) in known]
