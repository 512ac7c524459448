"""Drills for pretraining: lists said twice and looked up by key, so that a tiny model learns to copy from its context.

Copying and looking up are what every task of the desk stands on, and the last thing that a small model finds by itself (induction heads:
Olsson et al. 2022, arXiv:2209.11895). The words are those of `train`; nothing here is an answer to any prompt.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from posttrain.readingroom.world import Draw, mix

PLACES = ("Shelf", "Box", "Rayon", "Carton", "Card", "Fiche")


LETTERS = {"en": ("bcdfghklmnprstvw", "aeiouy"), "fr": ("bcdfgjlmnprstv", "aeéiouè"), "ru": ("бвгдзклмнпрст", "аеиоуы")}


def coined(draw: Draw, n: int) -> list[str]:
    """n made-up words and numbers that no statistics can predict: only copying helps."""
    hard, soft = LETTERS.get(draw.lang, LETTERS["en"])
    out = []
    for _ in range(n):
        if draw.chance(0.35):
            out.append(str(draw.rng.randrange(10 ** draw.rng.randrange(1, 6))))
        else:
            word = "".join(draw.rng.choice(hard) + draw.rng.choice(soft) for _ in range(draw.rng.randrange(1, 4)))
            out.append(word.capitalize() if draw.chance(0.4) else word)
    return out


def words(draw: Draw, n: int) -> list[str]:
    """n short things: names, titles, places, publishers, numbers, years."""
    out: list[str] = []
    while len(out) < n:
        book = draw.book(rich=0.0, lang=draw.lang)
        number = str(draw.rng.randrange(10 ** draw.rng.randrange(1, 5)))
        people = [a.name for a in book.authors[:1]]
        out += [book.title, book.publisher, book.place, number, *people, str(book.year)]
    draw.rng.shuffle(out)
    return out[:n]


def twice(draw: Draw) -> str:
    """A list, and the same list again."""
    said = words(draw, draw.rng.randrange(4, 14))
    joiner = draw.pick((", ", "\n", " / ", "; "))
    return joiner.join(said) + draw.pick(("\n\n", "\n=\n", "\n")) + joiner.join(said)


def coined_twice(draw: Draw) -> str:
    """Made-up words and numbers, twice."""
    said = coined(draw, draw.rng.randrange(4, 16))
    joiner = draw.pick((" ", ", ", "\n"))
    return joiner.join(said) + "\n" + joiner.join(said)


def looked_up(draw: Draw) -> str:
    """Things under keys, then some keys with their things, in another order."""
    n = draw.rng.randrange(3, 9)
    place, keys = draw.pick(PLACES), draw.rng.sample(range(1, 100), n)
    table = dict(zip(keys, draw.pick((words, coined))(draw, n), strict=True))
    mark = draw.pick((": ", " = ", " : ", " "))
    asked = draw.rng.sample(keys, n)
    first = "\n".join(f"{place} {k}{mark}{table[k]}" for k in keys)
    again = "\n".join(f"{place} {k}{mark}{table[k]}" for k in asked)
    return f"{first}\n\n{again}"


def reversed_lookup(draw: Draw) -> str:
    """The same, asked by the thing and answered by its key."""
    n = draw.rng.randrange(3, 8)
    table = dict(zip(words(draw, n), draw.rng.sample(range(1, 1000), n), strict=False))
    first = "\n".join(f"{k}: {v}" for k, v in table.items())
    asked = draw.rng.sample(list(table), len(table))
    return first + "\n\n" + "\n".join(f"{k}? {table[k]}" for k in asked)


def drills(seed: int, n: int) -> Iterator[str]:
    """n documents; document i is a function of (seed, i)."""
    for i in range(n):
        draw = Draw(
            mix(seed, "drill", i),
            "train",
            random.Random(mix(seed, "lang", i)).choice(("en", "en", "fr", "fr", "ru", "zh")),
        )
        yield draw.pick((coined_twice, coined_twice, twice, looked_up, reversed_lookup))(draw)
