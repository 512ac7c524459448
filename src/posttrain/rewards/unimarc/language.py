"""A small guess at the language of a title: script first, then function words. It would rather say nothing than guess.

Only for rule L4-04 (a warning). Leaves out everything a title of some words does not show; confidence is the share of function
words found that belong to the winner.
"""

from __future__ import annotations

import re

_WORDS = {
    "fre": "le la les des du un une et dans pour sur avec aux au par de l d histoire",
    "eng": "the of and in a an for to with on from its his by",
    "ger": "der die das und ein eine von zur zum im für mit des dem den",
    "spa": "el los las y del una en por con para la de",
    "ita": "il lo gli della delle dei e nel nella per con di storia",
}
_LISTS = {code: frozenset(words.split()) for code, words in _WORDS.items()}
_LETTERS = re.compile(r"[^\W\d_]")
_CYRILLIC = frozenset(
    {"rus", "ukr", "bel", "bul", "srp", "mac", "mkd", "kaz", "tat", "mon", "kir", "bak", "chv", "chu"}
)
_SCRIPTS: tuple[tuple[str, frozenset[str]], ...] = (
    ("[\u3040-\u30ff]", frozenset({"jpn"})),
    ("[\uac00-\ud7af]", frozenset({"kor"})),
    ("[\u3400-\u9fff]", frozenset({"chi", "zho", "jpn", "kor"})),
    ("[\u0400-\u04ff]", _CYRILLIC),
    ("[\u0370-\u03ff]", frozenset({"gre", "ell", "grc"})),
    ("[\u0590-\u05ff]", frozenset({"heb", "yid", "arc"})),
    ("[\u0600-\u06ff]", frozenset({"ara", "per", "fas", "urd", "ota", "pus"})),
)


def likely_languages(text: str, least: float = 0.9) -> frozenset[str]:
    """Codes the text may be in, at confidence `least`; empty = no verdict."""
    letters = _LETTERS.findall(text)
    if not letters:
        return frozenset()
    joined = "".join(letters)
    for pattern, codes in _SCRIPTS:
        if len(re.findall(pattern, joined)) >= least * len(letters):
            return codes
    words = re.findall(r"[^\W\d_]+", text.casefold())
    hits = {code: sum(w in known for w in words) for code, known in _LISTS.items()}
    best = max(hits, key=lambda code: hits[code])
    # A word may belong to several lists, so the winner is held against words that are not its own.
    others = sum(any(w in known for known in _LISTS.values()) and w not in _LISTS[best] for w in words)
    rivals = [code for code in hits if code != best and hits[code] >= hits[best]]
    if hits[best] < 3 or rivals or hits[best] < least * (hits[best] + others):
        return frozenset()
    return frozenset({best, {"fre": "fra", "ger": "deu"}.get(best, best)})
