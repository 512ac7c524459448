# ruff: noqa: SIM905 (a line of words reads better than a list of quotes)
"""Which language a text is in: script first, then frequent short words. English, French, Russian, Chinese; `und` where unsure.

Made for routing detectors and for the question "did it answer in the user's language?", not for linguistics: other languages of the
same script come out as `und` where their short words are not ours. Also tells mixed scripts, a sign of look-alike obfuscation.
"""

from __future__ import annotations

import re
from collections import Counter

from posttrain.detectors.verdict import Verdict, void

FRENCH = frozenset(
    "le la les un une des du de et est en que qui pas ne pour dans ce cette il elle je vous nous sur avec au aux ou mais sont être "
    "votre ma mon puis comment quel quelle dit peux c'est n'est d'un d'une l'étage j'ai".split()
)
ENGLISH = frozenset(
    "the a an and is are was of to in that it for on with as at by this be or not you i have from what which how your can do who where "
    "when there he she they we his her will would could should".split()
)
WORD = re.compile(r"[a-zà-öø-ÿœ']+")


def scripts(text: str) -> Counter[str]:
    """Letters by script: latin, cyrillic, han, other."""
    found: Counter[str] = Counter()
    for c in text:
        if not c.isalpha():
            continue
        code = ord(c)
        if code < 0x250 or 0x1E00 <= code < 0x1F00:
            found["latin"] += 1
        elif 0x400 <= code < 0x530:
            found["cyrillic"] += 1
        elif 0x4E00 <= code < 0xA000 or 0x3400 <= code < 0x4DC0 or 0x20000 <= code < 0x32000:
            found["han"] += 1
        else:
            found["other"] += 1
    return found


def language_of(text: str) -> str:
    """`en`, `fr`, `ru`, `zh` or `und`.

    >>> language_of("Где закрытая комната?"), language_of("抱歉，我不能说。"), language_of("Je ne peux pas dire qui a le livre.")
    ('ru', 'zh', 'fr')
    """
    found = scripts(text)
    total = sum(found.values())
    if not total:
        return "und"
    # A Chinese character says about as much as three letters.
    if found["han"] * 3 >= found["latin"] and found["han"] * 3 >= found["cyrillic"] and found["han"]:
        return "zh"
    if found["cyrillic"] * 2 > total:
        return "ru"
    if found["latin"] * 2 <= total:
        return "und"
    lowered = text.lower().replace("’", "'")
    words = WORD.findall(lowered)
    french = sum(w in FRENCH or w[:2] in ("l'", "d'", "j'", "n'", "s'", "c'") for w in words)
    french += sum(c in "éèêàùçôîûœ" for c in lowered)
    english = sum(w in ENGLISH or w[-2:] in ("'s", "'t") for w in words)
    if french == english:
        return "en" if english else "und"
    return "fr" if french > english else "en"


def same_language(prompt: str, response: str) -> Verdict:
    """Flagged where the response is surely in another language than the prompt."""
    empty = void("language", response)
    if empty:
        return empty
    asked, given = language_of(prompt), language_of(response)
    flagged = "und" not in (asked, given) and asked != given and len(response.split()) + len(response) // 8 > 3
    return Verdict("language", given, flagged, float(flagged), why=f"asked in {asked}, answered in {given}")


def mixed_words(text: str) -> list[str]:
    """Words that mix Latin and Cyrillic letters, as look-alike obfuscation does."""
    return [w for w in re.findall(r"\w+", text) if {"latin", "cyrillic"} <= set(scripts(w))]
