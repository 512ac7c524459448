"""What the fused decoder keeps of a prompt, and what all layers of one decoding step share."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(slots=True, eq=False)
class Prompt:
    """A prefilled prompt: its length, keys and values [L, 2 Hkv, P, D] until they are placed, its place in the pool (-1 = private)."""

    length: int
    kv: Tensor | None
    place: int = -1
    rows: int = 0
    open: bool = True


@dataclass(slots=True, eq=False)
class Plan:
    """What all layers of one step share: masks per window, where keys are written, and how rows map to seats of the prompt pool."""

    rows: int
    width: int
    write: Tensor
    column: int | None  # where all rows write, when they are equally long
    turn: dict[str, Tensor]
    own: dict[int, Tensor]
    places: int = 0
    seats: int = 0
    pool_width: int = 0
    row_of_seat: Tensor | None = None
    seat_of_row: Tensor | None = None
    private: Tensor | None = None
    shared: dict[int, Tensor] | None = None
