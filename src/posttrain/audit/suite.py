"""The built-in suite: small problems with a known answer, written by templates in English, French, Russian and Chinese.

Every item is `checked: template`: no person has read it. Item i is the same problem in every language, so accuracy can be paired over
languages. Kinds: pairs (right against wrong number), the same in three styles, with and without the user's wrong view, harmful requests
and their benign twins, and harm in safe-sounding dress. Leaves out open questions: their better answer is a matter of taste.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from posttrain.audit.cases import Case
from posttrain.audit.suite_text import HARM, PROBLEMS, VIEW, WRAPPED
from posttrain.audit.variants import markdown
from posttrain.core.chat import as_chat

CHECKED = "template"
NAMES = {
    "en": ("Mara", "Jonas", "Lena", "Piet", "Nora", "Ivo", "Tess", "Rolf"),
    "fr": ("Maud", "Denis", "Léa", "Paul", "Nora", "Yves", "Zoé", "Rémi"),
    "ru": ("Мара", "Игорь", "Лена", "Пётр", "Нора", "Иван", "Зоя", "Олег"),
    "zh": ("小明", "小红", "小李", "小王", "小张", "小刘", "小陈", "小杨"),
}


def suite(langs: tuple[str, ...] = ("en",), n: int = 300, seed: int = 0) -> list[Case]:
    """n items per kind and language; the same (seed, i) is the same problem in every language and for every n."""
    return [case for lang in langs for i in range(n) for case in _item(lang, i, seed)]


def _item(lang: str, i: int, seed: int) -> Iterator[Case]:
    rng = random.Random(f"{seed}/{i}")
    problem = PROBLEMS[i % len(PROBLEMS)]
    numbers = problem.draw(rng)
    right = problem.answer(numbers)
    wrong = right + rng.choice((-3, -2, -1, 1, 2, 3, 10))
    wrong = wrong if wrong > 0 else right + 4
    name = NAMES[lang][rng.randrange(8)]
    told = problem.texts[lang]

    def fill(text: str, result: int) -> str:
        return text.format(name=name, r=result, **numbers)

    ask = fill(told[0], right)
    gap = "" if lang == "zh" else " "
    chance = rng.random()
    shorter = (
        chance < 1 / 3,
        chance > 2 / 3,
    )  # one of the two lacks its last sentence, equally often: length says nothing
    answers = [
        gap.join(fill(s, value) for s in (told[1:-1] if cut else told[1:]))
        for value, cut in zip((right, wrong), shorter, strict=True)
    ]
    short = [fill(told[-2], value) for value in (right, wrong)]
    common = {"lang": lang, "checked": CHECKED}
    yield Case(f"item-{i}", as_chat(ask), answers[0], answers[1], category=problem.name, quality=(1.0, 0.0), **common)  # type: ignore[arg-type]
    styles = tuple((s, a, markdown(a, lang, rng) or a) for s, a in zip(short, answers, strict=True))
    yield Case(
        f"item-{i}", as_chat(ask), answers[0], answers[1], kind="styles", styles=(styles[0], styles[1]), **common  # type: ignore[arg-type]
    )  # fmt: skip
    view = VIEW[lang].format(wrong=wrong)
    plain = as_chat(ask)
    yield Case(f"item-{i}", as_chat(ask + gap + view), answers[0], answers[1], kind="view", plain=plain, **common)  # type: ignore[arg-type]
    yield from _safety(lang, i, seed)


def _safety(lang: str, i: int, seed: int) -> Iterator[Case]:
    """A harmful request, its benign twin, and the harmful one answered in safe-sounding words."""
    harm = HARM[lang]
    a, rest = divmod(i, len(harm.places))
    b, c = a % len(harm.acts), (a // len(harm.acts)) % len(harm.times)
    place, act, time = harm.places[rest], harm.acts[b], harm.times[c]
    bad = as_chat(harm.ask.format(act=act[0], place=place, time=time))
    good = as_chat(harm.twin.format(act=act[1], place=place, time=time))
    comply, helped = harm.comply.format(place=place), harm.helped.format(place=place)
    common = {"lang": lang, "checked": CHECKED}
    yield Case(f"twin-{i}", bad, harm.refusal, comply, kind="twin", behaviour="refuse", **common)  # type: ignore[arg-type]
    yield Case(f"twin-{i}", good, helped, harm.refusal, kind="twin", behaviour="comply", **common)  # type: ignore[arg-type]
    yield Case(f"twin-{i}", bad, harm.refusal, WRAPPED[lang].format(answer=comply), kind="wrapped", **common)  # type: ignore[arg-type]
