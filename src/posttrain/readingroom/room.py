"""The reading room: prompts, demonstrations, corpus and gold of the embedded world, from one seed.

A simulation: see `SIMULATION_NOTE`. Row i of a split is a function of (seed, split, i), so ranges can be drawn in pieces. Rows come in
twos: 2k and 2k + 1 share a task and a language, and where the task has twins they are each other's.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Sequence

from posttrain.core.chat import Message, user
from posttrain.core.group import Group, answer
from posttrain.readingroom.demonstrations import demonstration
from posttrain.readingroom.gold import GoldReward
from posttrain.readingroom.item import Item, polished
from posttrain.readingroom.tasks import SHARES, TASKS
from posttrain.readingroom.vocabulary import LANGS, SPLITS
from posttrain.readingroom.world import SIMULATION_NOTE, VERSION, Draw, mix

LANG_SHARES = {"en": 42, "fr": 42, "ru": 8, "zh": 8}


class ReadingRoom:
    """The world of one seed."""

    version = VERSION
    simulation = SIMULATION_NOTE

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.gold = GoldReward()

    def prompts(
        self,
        split: str,
        n: int,
        tasks: Sequence[str] | None = None,
        langs: Sequence[str] | None = None,
        start: int = 0,
    ) -> list[Group]:
        """Rows start .. start + n - 1 of a split, without responses.

        Raises ValueError for an unknown split, task or language, and where no task speaks the languages asked for.
        """
        return [self.row(split, i, tasks, langs)[0] for i in range(start, start + n)]

    def demonstrations(
        self,
        n: int,
        seed: int = 0,
        quality: float = 0.6,
        split: str = "train",
        tasks: Sequence[str] | None = None,
        langs: Sequence[str] | None = None,
        start: int = 0,
    ) -> list[Group]:
        """Rows with one response each, written by a program. quality: share of them that are the gold answer; the others are wordy, hedge,
        hold a slip, miss a part or behave wrongly (`Response.by` says which). The same rows as `prompts(split, n)`."""
        if not 0 <= quality <= 1:
            raise ValueError(f"quality is the share of clean demonstrations and lies in [0, 1], got {quality}")
        out = []
        for i in range(start, start + n):
            row, item = self.row(split, i, tasks, langs)
            rng = random.Random(mix(self.seed, "demonstration", seed, row.id))
            text, kind = demonstration(rng, item, row.facts["lang"], quality)
            out.append(row.with_responses([answer(text, by=f"simulated:demonstration:{kind}")]))
        return out

    def candidates(self, groups: Sequence[Group], k: int = 4, seed: int = 0, quality: float = 0.35) -> list[Group]:
        """k answers of mixed quality to each row, no two alike where the row allows it: for preference data without a model."""
        out = []
        for row in groups:
            item = self.item(row)
            rng = random.Random(mix(self.seed, "candidates", seed, row.id))
            made: dict[str, str] = {}
            for _ in range(6 * k):
                text, kind = demonstration(rng, item, row.facts["lang"], quality)
                made.setdefault(text, kind)
                if len(made) == k:
                    break
            out.append(row.with_responses([answer(t, by=f"simulated:candidate:{kind}") for t, kind in made.items()]))
        return out

    def corpus(
        self, n_docs: int | None = None, seed: int = 0, n_characters: int | None = None, split: str = "train"
    ) -> Iterator[str]:
        """Plain documents for pretraining, from the vocabulary of `train` unless another split is named; see `corpus.documents`."""
        from posttrain.readingroom.corpus import documents

        return documents(mix(self.seed, "corpus", seed), n_docs, n_characters, split)

    def row(self, split: str, i: int, tasks: Sequence[str] | None, langs: Sequence[str] | None) -> tuple[Group, Item]:
        """Row i of a split and the item behind it."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is unknown; accepted: {', '.join(SPLITS)}")
        if i < 0:
            raise ValueError(f"rows are counted from 0, got {i}")
        pair, second = divmod(i, 2)
        chooser = random.Random(mix(self.seed, split, "pair", pair))
        task, lang = choose(chooser, tasks, langs)
        twins = TASKS[task].twins
        where = f"{VERSION}:{self.seed}:{split}:{task}:{lang}"
        item = made(task, lang, split, where, pair, second)
        number = f"{where}:{i}"
        facts = {
            "id": number,
            "task": task,
            "lang": lang,
            "split": split,
            "twin_of": f"{where}:{i - 1 if second else i + 1}" if twins else None,
            "benign_twin": bool(twins and second),
            "source": item.prompt if item.system is None else f"{item.system}\n{item.prompt}",
            "behaviour": item.behaviour,
            "gold": {"answer": item.answer, **item.gold},
            "world": VERSION,
            "simulation": SIMULATION_NOTE,
        }
        system = () if item.system is None else (Message("system", item.system),)
        return Group(prompt=(*system, user(item.prompt)), facts=facts), item

    def item(self, group: Group) -> Item:
        """The item behind a row of this world, made again from its id. Raises ValueError when the id is not of this seed and version."""
        parts = group.id.split(":")
        if len(parts) != 6 or parts[0] != VERSION or parts[1] != str(self.seed):
            raise ValueError(f"row {group.id!r} is not of {VERSION} with seed {self.seed}")
        _, _, split, task, lang, i = parts
        return self.row(split, int(i), [task], [lang])[1]


def made(task: str, lang: str, split: str, where: str, pair: int, second: int) -> Item:
    """One of the two items of a pair, drawn again until it (twins: both) lies on its split's side.

    A hash of the prompt decides the side, so no prompt of `train` stands in another split, whatever the seeds; `ood` takes all.
    """
    twins = TASKS[task].twins

    def item(seed: int, twin: bool) -> Item:
        return polished(TASKS[task].make(Draw(seed, split, lang), twin), lang)

    for attempt in range(10_000):
        seed = mix(where, pair, attempt, 0 if twins else second)
        mine = item(seed, twins and second == 1)
        if on_side(mine, split) and (not twins or on_side(item(seed, second == 0), split)):
            return mine
    raise AssertionError(f"{task} {lang} has too few distinct prompts for {split}")


def on_side(item: Item, split: str) -> bool:
    """May this prompt stand in this split?"""
    held_out = zlib.crc32(f"{item.system}\n{item.prompt}".encode()) % 2 == 0
    return split == "ood" or held_out == (split != "train")


def choose(rng: random.Random, tasks: Sequence[str] | None, langs: Sequence[str] | None) -> tuple[str, str]:
    """A task by its share, then a language that it speaks by its share."""
    for given, known, what in ((tasks, TASKS, "task"), (langs, LANGS, "language")):
        for name in given or ():
            if name not in known:
                raise ValueError(f"{what} {name!r} is unknown; accepted: {', '.join(known)}")
    wanted = [lang for lang in LANGS if langs is None or lang in langs]
    open_tasks = [t for t in TASKS if (tasks is None or t in tasks) and any(lang in TASKS[t].langs for lang in wanted)]
    if not open_tasks:
        raise ValueError(f"none of the tasks {list(tasks or TASKS)} speaks {list(langs or LANGS)}")
    task = rng.choices(open_tasks, [SHARES[t] for t in open_tasks])[0]
    spoken = [lang for lang in wanted if lang in TASKS[task].langs]
    return task, rng.choices(spoken, [LANG_SHARES[lang] for lang in spoken])[0]
