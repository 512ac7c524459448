"""The catalogue look-up tool: the reading room's worked example of an environment with tool turns.

The reader asks for a fact of a book. The policy may write ``look up: TITLE``; the catalogue answers in a tool turn with the facts that it
holds, and the policy answers in its next turn. The rows bring their catalogue in `facts`, so the environment needs no world.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from posttrain.core.chat import Chat, Message, as_chat
from posttrain.core.group import Group
from posttrain.readingroom.world import SIMULATION_NOTE, VERSION, Draw, mix

ASK = re.compile(r"look up: *(\S.*)")
NOTHING = "nothing found"
BOOKS = 4
"""Books in each row's catalogue; the reader asks for one of them."""


class Catalogue:
    """An `Environment` over the catalogue in a row's facts (title to entry)."""

    def __init__(self, entries: Mapping[str, str] | None = None) -> None:
        self.entries = dict(entries or {})

    def reset(self, group: Group) -> Catalogue:
        """The catalogue of this row. Raises ValueError where it has none."""
        entries = group.facts.get("catalogue")
        if not isinstance(entries, Mapping):
            raise ValueError(
                f"row {group.id}: no `catalogue` in its facts (title to entry); the look-up tool reads it there"
            )
        return Catalogue(entries)

    def step(self, chat: Chat) -> Chat:
        """The entry of the title that the last turn asks for; nothing where it asks for none."""
        asked = ASK.search(chat[-1].content)
        if asked is None:
            return ()
        return (Message("tool", self.entries.get(asked.group(1).strip(), NOTHING), name="catalogue"),)


def lookup_prompts(n: int, seed: int = 0, split: str = "train", lang: str = "en") -> list[Group]:
    """Rows that ask for a year of publication which only the catalogue knows; facts: catalogue, gold answer, id."""
    rows = []
    for i in range(n):
        draw = Draw(mix(VERSION, seed, split, "lookup", i), split, lang)
        books = [draw.book(lang=lang) for _ in range(BOOKS)]
        entries = {b.title: f"{b.title}, {b.publisher}, {b.year}" for b in books}
        wanted = draw.pick(sorted(entries))
        year = next(b.year for b in reversed(books) if b.title == wanted)
        facts = {
            "id": f"{VERSION}:{seed}:{split}:lookup:{lang}:{i}",
            "catalogue": entries,
            "gold": {"answer": str(year), "title": wanted},
            "simulation": SIMULATION_NOTE,
        }
        rows.append(Group(as_chat(f"When was {wanted} published?"), facts=facts))
    return rows
