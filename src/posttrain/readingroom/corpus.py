"""Text for pretraining: plain documents of the reading room, from the vocabulary of `train` unless another split is asked for.

Notices with their descriptions, prose on books, questions and answers, sums and dates, transcripts of the desk in which good and
bad answers stand side by side, so a base model learns the language, the formats and the facts' places but no settled behaviour.
No chat template is used: speakers are written out as plain words.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from posttrain.readingroom import vocabulary as v
from posttrain.readingroom.demonstrations import BEHAVES_WRONGLY, demonstration
from posttrain.readingroom.item import elided
from posttrain.readingroom.notice import fields, lines
from posttrain.readingroom.tasks import SHARES, TASKS
from posttrain.readingroom.tasks.ask_notice import QUESTIONS, values
from posttrain.readingroom.tasks.catalogue import describe
from posttrain.readingroom.world import Day, Draw, mix, money

SPEAKERS = {
    "en": (("Reader", "Desk"), ("Visitor", "Librarian"), ("Q", "A"), ("Question", "Answer")),
    "fr": (("Lecteur", "Bureau"), ("Visiteuse", "Bibliothécaire"), ("Q", "R"), ("Question", "Réponse")),
    "ru": (("Читатель", "Бюро"), ("Вопрос", "Ответ")),
    "zh": (("读者", "服务台"), ("问", "答")),
}
COLON = {"en": ": ", "fr": " : ", "ru": ": ", "zh": "："}
QUALITY = 0.65
MISBEHAVING = 0.4
MARKED = 0.4
MARKS = {
    "en": ("Mark", ("good", "fair", "poor")),
    "fr": ("Note", ("bien", "passable", "mauvais")),
    "ru": ("Оценка", ("хорошо", "средне", "плохо")),
    "zh": ("评分", ("好", "中", "差")),
}
KIND_OF_MARK = {"clean": 0, "wordy": 1, "hedged": 1}
DESK_LANGS = ("en",) * 42 + ("fr",) * 42 + ("ru",) * 8 + ("zh",) * 8


def transcript(draw: Draw) -> str:
    """One to three exchanges of the desk on any task; about half of the answers are flawed.

    Some desks keep a log in which a colleague marked each answer, as forums and reviews do in the texts that large models read: the base
    has met the notion of a worse answer. A mark says what the generator spoilt; the gold reward is never asked.
    """
    out = []
    marked = draw.chance(MARKED)
    reader, desk = draw.pick(SPEAKERS[draw.lang])
    colon = COLON[draw.lang]
    names = [t for t in TASKS if draw.lang in TASKS[t].langs]
    for name in draw.rng.choices(names, [SHARES[t] for t in names], k=draw.pick((1, 1, 2, 3))):
        item = TASKS[name].make(draw, draw.chance(0.5))
        wrong = [name for name in item.flaws if name in BEHAVES_WRONGLY]
        if wrong and draw.chance(MISBEHAVING):
            text, kind = item.flaws[draw.pick(wrong)], "behaviour"
        else:
            text, kind = demonstration(draw.rng, item, draw.lang, QUALITY)
        source = f"{item.system}\n{item.prompt}" if item.system else item.prompt
        out.append(f"{reader}{colon}{source}\n{desk}{colon}{text}")
        if marked:
            name, marks = MARKS[draw.lang]
            out[-1] += f"\n{name}{colon}{marks[KIND_OF_MARK.get(kind, 2)]}"
    return "\n\n".join(out)


def described(draw: Draw) -> str:
    """A description and its notice, in either order."""
    lang = draw.lang if draw.lang in ("en", "fr") else "en"
    draw.lang = lang
    book = draw.book(rich=0.35, lang=draw.pick(("en", "fr")) if draw.chance(0.25) else lang)
    text, notice = describe(draw, book, draw.pick((0, 0, 1, 2))), lines(book, lang)
    if draw.chance(0.25):
        return f"{notice}\n{text}"
    head = draw.pick(("", "", "Book\n", "UNIMARC\n") if lang == "en" else ("", "", "Livre\n", "UNIMARC\n"))
    return f"{head}{text}\n{notice}"


def questions(draw: Draw) -> str:
    """A notice and several questions on it, each with its answer."""
    book = draw.book(rich=0.3)
    known, lang = values(book, draw.lang), draw.lang
    ask, tell = draw.pick(SPEAKERS[lang])
    out = ["\n".join(fields(book))]
    table = QUESTIONS[lang]
    for key in draw.rng.sample(list(table), 4):
        question = table[key]
        answer = question.told.format(known[key]) if key in known else question.absent
        out.append(f"{ask}{COLON[lang]}{draw.pick(question.asked).format(t=book.title)}\n{tell}{COLON[lang]}{answer}")
    return "\n".join(out)


def prose(draw: Draw) -> str:
    """What a newspaper of the world would say of a few books: facts told in sentences."""
    out = []
    table = QUESTIONS[draw.lang]
    for _ in range(draw.between(2, 4)):
        book = draw.book(rich=0.3)
        known = values(book, draw.lang)
        told = [table[k].told.format(known[k]) for k in table if k in known and draw.chance(0.6)]
        draw.rng.shuffle(told)
        title = f"{book.title}." if draw.lang != "zh" else f"《{book.title}》。"
        out.append(("" if draw.lang == "zh" else " ").join([title, *told]))
    return "\n".join(out)


def sums(draw: Draw) -> str:
    """Products, sums, day counts and dates: the desk's arithmetic without its words."""
    out = []
    lang = draw.lang if draw.lang in v.MONTHS else "en"
    for _ in range(draw.between(4, 8)):
        kind = draw.between(0, 4)
        n, cents = draw.between(1, 30), draw.pick((5, 10, 15, 20, 25, 30, 40, 50))
        start = draw.day(1, 300)
        end = Day.at(start.ordinal + n)
        if kind == 0:
            out.append(f"{n} x {money(cents, lang)} = {money(n * cents, lang)}")
        elif kind == 1:
            k = draw.between(1, n)
            out.append(f"{n - k} + {k} = {n}" if draw.chance(0.5) else f"{n} - {k} = {n - k}")
        elif kind == 2 and lang != "ru":
            days = {"en": "days", "fr": "jours"}[lang]
            out.append(f"{start.text(lang)} + {n} {days}{COLON[lang]}{end.text(lang)}")
        elif kind == 3 and lang != "ru":
            days = {"en": "days", "fr": "jours"}[lang]
            out.append(f"{start.text(lang)} - {end.text(lang)}{COLON[lang]}{n} {days}")
        else:
            month = draw.between(1, 11)
            out.append(f"{Day(v.MONTH_DAYS[month - 1], month).text(lang)}, {Day(1, month + 1).text(lang)}")
    return "\n".join(out)


KINDS: tuple[tuple[Callable[[Draw], str], float], ...] = (
    (transcript, 0.5),
    (described, 0.25),
    (questions, 0.08),
    (prose, 0.07),
    (sums, 0.1),
)


def documents(
    seed: int, n_docs: int | None = None, n_characters: int | None = None, split: str = "train"
) -> Iterator[str]:
    """Documents until `n_docs` or `n_characters` is reached (endless where both are None). Document i depends on (seed, i) alone.

    split: whose words and wordings; with `ood` the text is of a domain that the base model has not met.
    """
    makers, weights = zip(*KINDS, strict=True)
    cumulative = [sum(weights[: i + 1]) for i in range(len(weights))]
    i = written = 0
    while (n_docs is None or i < n_docs) and (n_characters is None or written < n_characters):
        draw = Draw(mix(seed, i), split, "en")
        draw.lang = draw.pick(DESK_LANGS)
        at = draw.rng.random() * cumulative[-1]
        text = next(make for make, upto in zip(makers, cumulative, strict=True) if at < upto)(draw)
        if draw.lang == "fr":
            text = elided(text)
        yield text
        written += len(text)
        i += 1


def sample(seed: int, n: int) -> list[str]:
    """A few documents for reading."""
    found = list(documents(seed, n * 7))
    random.Random(seed).shuffle(found)
    return found[:n]
