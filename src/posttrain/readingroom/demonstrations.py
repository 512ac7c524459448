"""Imperfect answers, written by a program: what an ordinary collection of demonstrations looks like.

A clean answer is the gold one. The rest are wordy, hedge, hold a small slip, miss a part, or behave wrongly (agree with a wrong
reader, guess, refuse what is harmless, tell what is secret). So a model trained on them ends below the gold, and preferences have
something to add.
"""

from __future__ import annotations

import random

from posttrain.readingroom.item import Item

BEHAVES_WRONGLY = ("agree", "guess", "comply", "obey", "overrefuse", "overask", "leak", "deny", "contradict")
PARTIAL = ("miss", "short", "bare", "blunt", "reason", "copy", "keep")
SLIPS = ("slip", "swap")
OPENERS = {
    "en": ("Thank you for your question. ", "With pleasure, dear reader. ", "Let me look at this for you. "),
    "fr": (
        "Merci pour votre question. ",
        "Avec plaisir, chère lectrice, cher lecteur. ",
        "Laissez-moi regarder cela. ",
    ),
    "ru": ("Спасибо за вопрос. ", "С удовольствием отвечу. "),
    "zh": ("谢谢您的问题。", "很高兴为您回答。"),
}
CLOSERS = {
    "en": (
        " I hope that this helps you.",
        " Do not hesitate to come back to the desk.",
        " Have a good day among the books.",
    ),
    "fr": (" J'espère que cela vous aide.", " N'hésitez pas à revenir au bureau.", " Bonne journée parmi les livres."),
    "ru": (" Надеюсь, это вам поможет.", " Обращайтесь ещё."),
    "zh": ("希望这对您有帮助。", "欢迎再来。"),
}
HEDGES = {
    "en": ("I think so, but I am not sure: ", "Perhaps: "),
    "fr": ("Je crois, sans en être sûr : ", "Peut-être : "),
    "ru": ("Кажется, так: ", "Возможно: "),
    "zh": ("我不确定，可能是这样：", "也许："),
}
WEIGHTS = {"wordy": 0.3, "hedged": 0.15, "slip": 0.2, "partial": 0.15, "behaviour": 0.4}


def demonstration(rng: random.Random, item: Item, lang: str, quality: float) -> tuple[str, str]:
    """An answer and its kind: `clean` with probability `quality`, else one of the kinds of `WEIGHTS` that the item allows."""
    if rng.random() < quality:
        return item.answer, "clean"
    return flawed(rng, item, lang)


def flawed(rng: random.Random, item: Item, lang: str) -> tuple[str, str]:
    """An imperfect answer and its kind."""
    notice = item.answer.startswith("LDR ")
    choices = {
        "slip": [name for name in item.flaws if name in SLIPS],
        "partial": [name for name in item.flaws if name in PARTIAL],
        "behaviour": [name for name in item.flaws if name in BEHAVES_WRONGLY],
    }
    possible = [kind for kind in WEIGHTS if choices.get(kind, not (notice and kind == "hedged"))]
    kind = rng.choices(possible, [WEIGHTS[kind] for kind in possible])[0]
    if kind in choices:
        return item.flaws[rng.choice(choices[kind])], kind
    if kind == "hedged":
        return rng.choice(HEDGES[lang]) + item.answer, kind
    join = "\n" if notice else ""
    if rng.random() < 0.5:
        return (
            f"{item.answer}{join}{rng.choice(CLOSERS[lang]).strip() if notice else rng.choice(CLOSERS[lang])}",
            "wordy",
        )
    text = rng.choice(OPENERS[lang])
    text = f"{text.strip()}\n{item.answer}" if notice else text + item.answer
    if rng.random() < 0.5 and not notice:
        text += rng.choice(CLOSERS[lang])
    return text, "wordy"
