"""Variants of an answer: what should not matter, and what must.

Every function takes (text, lang, rng) and gives a new text, or None where the text offers no place for it (an answer without a number
cannot have its number changed); such rows are counted, never silently passed. Leaves out paraphrase by a model.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from posttrain.audit import words

Variant = Callable[[str, str, random.Random], str | None]
SENTENCE = re.compile(r"[^.!?。！？\n]+(?:[.!?。！？]+(?=\s|$|[^\d\s])|\n|$)")
NUMBER = re.compile(r"\d+")


def sentences(text: str) -> list[str]:
    """Sentences without their surrounding white space; a point between digits ends none."""
    return [s.strip() for s in SENTENCE.findall(text) if s.strip()]


def _join(parts: list[str], lang: str) -> str:
    return ("" if lang == "zh" else " ").join(parts)


# What adds length


def filler(text: str, lang: str, rng: random.Random) -> str | None:
    """A generic sentence at the end."""
    return text.rstrip() + words.FILLER[lang]


def repeated(text: str, lang: str, rng: random.Random) -> str | None:
    """The last sentence said again."""
    return _join([text.rstrip(), sentences(text)[-1]], lang) if sentences(text) else None


def padded(share: float) -> Variant:
    """Generic text until the answer is `share` times as long."""

    def variant(text: str, lang: str, rng: random.Random) -> str | None:
        wanted, out = int(share * len(text)), text.rstrip()
        while len(out) < wanted:
            out += words.FILLER[lang]
        return out

    return variant


# What changes the looks


def bullets(text: str, lang: str, rng: random.Random) -> str | None:
    return "\n".join(f"- {s}" for s in sentences(text)) if sentences(text) else None


def bold(text: str, lang: str, rng: random.Random) -> str | None:
    found = sentences(text)
    return text.replace(found[-1], f"**{found[-1]}**") if found else None


def heading(text: str, lang: str, rng: random.Random) -> str | None:
    title = {"en": "Answer", "fr": "Réponse", "ru": "Ответ", "zh": "回答"}[lang]
    return f"## {title}\n\n{text}"


def tabled(text: str, lang: str, rng: random.Random) -> str | None:
    return "| |\n|---|\n" + "\n".join(f"| {s} |" for s in sentences(text)) if sentences(text) else None


def emoji(text: str, lang: str, rng: random.Random) -> str | None:
    return f"{text.rstrip()} {rng.choice(words.EMOJI)}"


# Words that carry no content


def keyword(word: str) -> Variant:
    """`word` at the start, in the middle or at the end, in turn by chance."""

    def variant(text: str, lang: str, rng: random.Random) -> str | None:
        found, place = sentences(text) or [text], rng.randrange(3)
        comma, stop = ("，", "。") if lang == "zh" else (", ", ".")
        if place == 0:
            return f"{word[0].upper()}{word[1:]}{comma}{text}"
        if place == 2 or len(found) < 2:
            return _join([text.rstrip(), f"{word}{stop}"], lang)
        middle = len(found) // 2
        return _join(
            [*found[:middle], f"{word[0].upper()}{word[1:]}{comma}{found[middle]}", *found[middle + 1 :]], lang
        )

    return variant


def hedged(text: str, lang: str, rng: random.Random) -> str | None:
    return words.HEDGE[lang] + text


def praised(text: str, lang: str, rng: random.Random) -> str | None:
    """Praise of the asker before the answer."""
    return words.PRAISE[lang] + text


def evaded(text: str, lang: str, rng: random.Random) -> str | None:
    return words.NON_ANSWER[lang]


def authority(text: str, lang: str, rng: random.Random) -> str | None:
    return text.rstrip() + words.AUTHORITY[lang]


# Noise


def typos(text: str, lang: str, rng: random.Random) -> str | None:
    """About one pair of neighbouring letters in forty swapped; digits stay."""
    chars = list(text)
    places = [i for i in range(1, len(chars) - 2) if chars[i].isalpha() and chars[i + 1].isalpha()]
    for i in rng.sample(places, min(len(places), max(1, len(places) // 40))):
        chars[i], chars[i + 1] = chars[i + 1], chars[i]
    return "".join(chars) if places else None


def spaces(text: str, lang: str, rng: random.Random) -> str | None:
    """A doubled space and a newline at the end."""
    at = [m.start() for m in re.finditer(r" ", text)]
    if not at:
        return text + "\n"
    i = rng.choice(at)
    return text[:i] + " " + text[i:] + "\n"


def lower(text: str, lang: str, rng: random.Random) -> str | None:
    return None if text.lower() == text else text.lower()


def unpunctuated(text: str, lang: str, rng: random.Random) -> str | None:
    """Without the marks at ends of sentences inside the text."""
    made = re.sub(r"[,;!](?=\s)", "", text.rstrip(".。"))
    return None if made == text else made


# What must be noticed


def negated(text: str, lang: str, rng: random.Random) -> str | None:
    """The last statement turned into its opposite."""
    for plain, turned in words.NEGATED[lang]:
        at = text.rfind(plain)
        if at >= 0:
            return text[:at] + turned + text[at + len(plain) :]
    found = sentences(text)
    return text.replace(found[-1], words.UNMARKED[lang] + found[-1]) if found else None


def renumbered(text: str, lang: str, rng: random.Random) -> str | None:
    """The last number changed."""
    found = list(NUMBER.finditer(text))
    if not found:
        return None
    at = found[-1]
    return f"{text[: at.start()]}{int(at.group()) + rng.choice((1, 2, 3, 7, 11))}{text[at.end() :]}"


def truncated(text: str, lang: str, rng: random.Random) -> str | None:
    return text[: len(text) // 2] if len(text) >= 8 else None


def shuffled(text: str, lang: str, rng: random.Random) -> str | None:
    """Sentences in another order; at least four are needed."""
    found = sentences(text)
    if len(set(found)) < 4:
        return None
    mixed = found[:]
    while mixed == found:
        rng.shuffle(mixed)
    return _join(mixed, lang)


def foreign(text: str, lang: str, rng: random.Random) -> str | None:
    """A sentence of another language in place of the answer."""
    return words.FOREIGN[lang]


def markdown(text: str, lang: str, rng: random.Random) -> str | None:
    """Heading and bullets: the third style of T03."""
    inner = bullets(text, lang, rng)
    return None if inner is None else heading(inner, lang, rng)
