"""Ranking in the terminal, as the lesson on post-training has it: print the answers, read ``0 > 1 = 2``, ask again with the reason."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from posttrain.feedback.ranking_text import RankingError, Tiers, parse_ranking
from posttrain.feedback.visible import visible

SKIP, QUIT = "s", "q"


class Quit(Exception):
    """The person wants to stop."""


def collect_preference(
    instruction: str, responses: Sequence[str], *, read: Callable[[str], str] = input, write: Callable[[str], None] = print,
    shuffle: bool = True, seed: int | None = None, display: Sequence[int] | None = None,
) -> Tiers | None:  # fmt: skip
    """The ranking in keys of `responses`, best first; None where the person skips. Raises Quit.

    Answers are shown as ``[0] ...`` in an order drawn anew (or in `display`: key at each place), and what is typed names places.
    """
    order = list(range(len(responses))) if display is None else list(display)
    if shuffle and display is None:
        random.Random(seed).shuffle(order)
    write("")
    write(f"Instruction: {visible(instruction)}")
    for place, key in enumerate(order):
        write(f"\n[{place}] {visible(responses[key])}")
    write("")
    example = " > ".join(map(str, range(min(3, len(order)))))
    while True:
        try:
            said = read(f"Ranking, best first ({example}; = ties; {SKIP} skips, {QUIT} quits): ").strip()
        except EOFError:
            raise Quit from None
        if said.lower() in (SKIP, QUIT):
            if said.lower() == QUIT:
                raise Quit
            return None
        try:
            return [[order[p] for p in tier] for tier in parse_ranking(said, len(order))]
        except RankingError as error:
            write(f"  {error}")
