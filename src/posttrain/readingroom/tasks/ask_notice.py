"""Questions on a given notice, in four languages: the fact that a field holds, or that the notice does not give it.

The notice is shown without its fixed lines. Every other fact of the notice is forbidden in the answer, so reciting the record
earns nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from posttrain.readingroom import vocabulary as v
from posttrain.readingroom.item import Item, Parts
from posttrain.readingroom.notice import fields
from posttrain.readingroom.prose import prose
from posttrain.readingroom.world import Book, Draw


class Question(NamedTuple):
    """How a fact is asked, answered and said to be absent. `{}` is the value; `{t}` the title."""

    asked: list[str]
    asked_ood: list[str]
    told: str
    absent: str
    noun: str


QUESTIONS: dict[str, dict[str, Question]] = {
    "en": {
        "year": Question(
            ["In which year was it published?", "When did {t} come out?", "Year of publication?"],
            ["How old is this edition, by its year?", "What year does 210 carry?"],
            "It was published in {}.",
            "The notice does not give the year.",
            "year",
        ),
        "author": Question(
            ["Who wrote it?", "Who is the author of {t}?", "Author?"],
            ["Whose work is {t}?"],
            "It was written by {}.",
            "The notice does not give the author.",
            "author",
        ),
        "publisher": Question(
            ["Who published it?", "Which publisher brought out {t}?"],
            ["Which house issued it?"],
            "It was published by {}.",
            "The notice does not give the publisher.",
            "publisher",
        ),
        "place": Question(
            ["Where was it published?", "In which place was {t} published?"],
            ["From which town did it come?"],
            "It was published in {}.",
            "The notice does not give the place.",
            "place",
        ),
        "pages": Question(
            ["How many pages does it have?", "How long is {t}, in pages?"],
            ["What is its extent?"],
            "It has {} pages.",
            "The notice does not give the number of pages.",
            "pages",
        ),
        "isbn": Question(
            ["What is its ISBN?", "Which ISBN does {t} have?"],
            ["Give me the number in 010."],
            "Its ISBN is {}.",
            "The notice does not give an ISBN.",
            "ISBN",
        ),
        "language": Question(
            ["In which language is it?", "Language of {t}?"],
            ["What tongue is the text in?"],
            "It is in {}.",
            "The notice does not give the language.",
            "language",
        ),
        "series": Question(
            ["Which series is it in?", "What is the series of {t}?"],
            ["Does it belong to a collection, and which?"],
            "It is in the series {}.",
            "The notice does not give a series.",
            "series",
        ),
        "subject": Question(
            ["What is its subject?", "Which subject does the notice give?"],
            ["What does 606 say?"],
            "Its subject is {}.",
            "The notice does not give a subject.",
            "subject",
        ),
        "translator": Question(
            ["Who translated it?", "Translator of {t}?"],
            ["Whose translation is it?"],
            "",
            "The notice does not give the translator.",
            "translator",
        ),
        "price": Question(
            ["What does it cost?", "Price of {t}?"],
            ["How much must I pay for it?"],
            "",
            "The notice does not give the price.",
            "price",
        ),
        "shelf": Question(
            ["On which shelf is it?", "Where does {t} stand?"],
            ["In which room do I find it?"],
            "",
            "The notice does not give the shelf.",
            "shelf",
        ),
    },
    "fr": {
        "year": Question(
            ["En quelle année a-t-il paru ?", "De quand date {t} ?", "Année de publication ?"],
            ["Quel âge a cette édition, d'après son année ?", "Quelle année porte la zone 210 ?"],
            "Il a paru en {}.",
            "La notice ne donne pas l'année.",
            "année",
        ),
        "author": Question(
            ["Qui l'a écrit ?", "Qui est l'auteur de {t} ?", "Auteur ?"],
            ["De qui est {t} ?"],
            "Il a été écrit par {}.",
            "La notice ne donne pas l'auteur.",
            "auteur",
        ),
        "publisher": Question(
            ["Qui l'a publié ?", "Quel éditeur a publié {t} ?"],
            ["Quelle maison l'a sorti ?"],
            "Il a été publié par {}.",
            "La notice ne donne pas l'éditeur.",
            "éditeur",
        ),
        "place": Question(
            ["Où a-t-il été publié ?", "Dans quel lieu {t} a-t-il paru ?"],
            ["De quelle ville vient-il ?"],
            "Il a été publié à {}.",
            "La notice ne donne pas le lieu.",
            "lieu",
        ),
        "pages": Question(
            ["Combien de pages a-t-il ?", "Combien de pages compte {t} ?"],
            ["Quelle est son étendue ?"],
            "Il a {} pages.",
            "La notice ne donne pas le nombre de pages.",
            "pages",
        ),
        "isbn": Question(
            ["Quel est son ISBN ?", "Quel ISBN porte {t} ?"],
            ["Donnez-moi le numéro en 010."],
            "Son ISBN est {}.",
            "La notice ne donne pas d'ISBN.",
            "ISBN",
        ),
        "language": Question(
            ["En quelle langue est-il ?", "Langue de {t} ?"],
            ["Le texte est dans quel idiome ?"],
            "Il est en {}.",
            "La notice ne donne pas la langue.",
            "langue",
        ),
        "series": Question(
            ["Dans quelle collection est-il ?", "Quelle est la collection de {t} ?"],
            ["Fait-il partie d'une série, et laquelle ?"],
            "Il est dans la collection {}.",
            "La notice ne donne pas de collection.",
            "collection",
        ),
        "subject": Question(
            ["Quel est son sujet ?", "Quel sujet la notice donne-t-elle ?"],
            ["Que dit la zone 606 ?"],
            "Son sujet est : {}.",
            "La notice ne donne pas de sujet.",
            "sujet",
        ),
        "translator": Question(
            ["Qui l'a traduit ?", "Traducteur de {t} ?"],
            ["De qui est la traduction ?"],
            "",
            "La notice ne donne pas le traducteur.",
            "traducteur",
        ),
        "price": Question(
            ["Combien coûte-t-il ?", "Prix de {t} ?"],
            ["Combien dois-je payer pour l'avoir ?"],
            "",
            "La notice ne donne pas le prix.",
            "prix",
        ),
        "shelf": Question(
            ["Sur quel rayon est-il ?", "Où se trouve {t} ?"],
            ["Dans quelle salle le trouver ?"],
            "",
            "La notice ne donne pas le rayon.",
            "rayon",
        ),
    },
    "ru": {
        "year": Question(
            ["В каком году вышла книга?", "Год издания?"],
            ["Каким годом помечена книга?"],
            "Книга вышла в {} году.",
            "В записи не указан год.",
            "год",
        ),
        "author": Question(
            ["Кто автор книги?", "Кто написал книгу?"],
            ["Чья это книга?"],
            "Автор книги: {}.",
            "В записи не указан автор.",
            "автор",
        ),
        "publisher": Question(
            ["Какое издательство выпустило книгу?", "Кто издал книгу?"],
            ["Чьё это издание?"],
            "Издательство: {}.",
            "В записи не указано издательство.",
            "издательство",
        ),
        "pages": Question(
            ["Сколько в книге страниц?", "Сколько страниц?"],
            ["Каков объём книги?"],
            "Число страниц: {}.",
            "В записи не указано число страниц.",
            "страниц",
        ),
        "isbn": Question(
            ["Какой у книги ISBN?", "Укажите ISBN."],
            ["Назовите номер в поле 010."],
            "ISBN книги: {}.",
            "В записи не указан ISBN.",
            "ISBN",
        ),
        "translator": Question(
            ["Кто перевёл книгу?", "Кто переводчик?"],
            ["Чей это перевод?"],
            "",
            "В записи не указан переводчик.",
            "переводчик",
        ),
        "price": Question(
            ["Какая цена у книги?", "Цена книги?"],
            ["Сколько надо заплатить за книгу?"],
            "",
            "В записи не указана цена.",
            "цена",
        ),
    },
    "zh": {
        "year": Question(
            ["这本书是哪一年出版的？", "出版年是哪年？"],
            ["这个版本是什么年份？"],
            "这本书于{}年出版。",
            "记录没有给出出版年。",
            "年",
        ),
        "author": Question(
            ["这本书是谁写的？", "作者是谁？"], ["这是谁的作品？"], "作者是{}。", "记录没有给出作者。", "作者"
        ),
        "publisher": Question(
            ["这本书由哪家出版社出版？", "出版社是哪家？"],
            ["是哪一家出的？"],
            "出版社是{}。",
            "记录没有给出出版社。",
            "出版社",
        ),
        "pages": Question(
            ["这本书有多少页？", "多少页？"], ["篇幅多大？"], "这本书有{}页。", "记录没有给出页数。", "页"
        ),
        "isbn": Question(
            ["这本书的ISBN是什么？", "ISBN是多少？"],
            ["请给出010字段的号码。"],
            "ISBN是{}。",
            "记录没有给出ISBN。",
            "ISBN",
        ),
        "translator": Question(
            ["这本书是谁翻译的？", "译者是谁？"], ["这是谁的译本？"], "", "记录没有给出译者。", "译者"
        ),
        "price": Question(["这本书多少钱？", "价格是多少？"], ["买它要付多少？"], "", "记录没有给出价格。", "价格"),
    },
}
SHOW = {
    "en": (
        ["Notice:\n{n}\n{q}", "{q}\n{n}", "Here is a notice.\n{n}\nQuestion: {q}"],
        ["From this record:\n{n}\nTell me: {q}"],
    ),
    "fr": (
        ["Notice :\n{n}\n{q}", "{q}\n{n}", "Voici une notice.\n{n}\nQuestion : {q}"],
        ["D'après cette fiche :\n{n}\nDites-moi : {q}"],
    ),
    "ru": (["Запись:\n{n}\n{q}", "{q}\n{n}"], ["Вот карточка.\n{n}\nВопрос: {q}"]),
    "zh": (["记录：\n{n}\n{q}", "{q}\n{n}"], ["请看卡片。\n{n}\n问题：{q}"]),
}
ALWAYS = ("year", "author", "publisher", "place", "pages", "language")
LENGTHS = {"en": "It has {} pages.", "fr": "Il a {} pages."}
FIELD_OF = {
    "year": "210",
    "publisher": "210",
    "place": "210",
    "pages": "215",
    "isbn": "010",
    "language": "101",
    "series": "225",
    "subject": "606",
    "author": "200",
}


def values(book: Book, lang: str) -> dict[str, str]:
    """What the notice says of each askable fact, as the answer words it."""
    out = {
        "year": str(book.year),
        "author": ", ".join(a.name for a in book.authors),
        "publisher": book.publisher,
        "place": book.place,
        "pages": str(book.pages),
        "language": v.LANGUAGES[lang].get(v.CODE_OF[book.lang], ""),
    }
    if book.isbn:
        out["isbn"] = book.isbn
    if book.series:
        out["series"] = book.series[0]
    if book.subject:
        out["subject"] = book.subject
    return out


def forbidden(known: Mapping[str, str], asked: str) -> list[str]:
    """The other facts of the notice: an answer that recites them is not an answer."""
    answer = known.get(asked, "")
    return [
        value
        for key, value in known.items()
        if key != asked and value not in answer and key not in ("language", "author", "subject")
    ]


class AskNotice:
    """Questions on a notice."""

    name = "ask_notice"
    langs = ("en", "fr", "ru", "zh")
    twins = False

    def make(self, draw: Draw, twin: bool) -> Item:
        lang = draw.lang
        book = draw.book(rich=0.5 if draw.ood else 0.25)
        known = values(book, lang)
        table = QUESTIONS[lang]
        absent = [k for k in table if k not in known]
        asked = draw.pick(absent) if draw.chance(0.3) else draw.pick([k for k in table if k in known])
        shown = fields(book)
        if asked in ("pages", "isbn") and asked in known and draw.chance(0.25):
            shown = [f for f in shown if not f.startswith(FIELD_OF[asked])]
            del known[asked]
        question = table[asked]
        wording = draw.phrase(question.asked, question.asked_ood).format(t=book.title)
        prompt = draw.phrase(*SHOW[lang]).format(n="\n".join(shown), q=wording)
        wrong = self._wrong(draw, book, asked)
        if asked not in known:
            answer = question.absent
            gold = {"also": [[question.noun]], "forbid": forbidden(known, asked)}
            guess = question.told.format(wrong) if question.told else f"{wrong}{'。' if lang == 'zh' else '.'}"
            return Item(prompt, answer, "abstain", gold, {"guess": guess})
        answer = question.told.format(known[asked])
        gold = {"key": [known[asked]], "forbid": forbidden(known, asked)}
        if asked == "author" and len(book.authors) > 1:
            gold["key"], gold["also"] = [book.authors[0].family], [[a.family] for a in book.authors[1:]]
        flaws = {"slip": question.told.format(wrong), "overrefuse": question.absent}
        return Item(prompt, answer, "answer", gold, flaws)

    @staticmethod
    def _wrong(draw: Draw, book: Book, asked: str) -> str:
        """A plausible wrong value of the same kind."""
        if asked == "year":
            return str(draw.other_year(book.year))
        if asked in ("pages", "price", "shelf"):
            return str(book.pages + draw.pick((-20, -10, -1, 1, 10, 20)))
        if asked == "isbn":
            return draw.isbn(book.lang, book.year)
        if asked == "publisher":
            return draw.publisher(book.lang)
        if asked == "place":
            return draw.place(book.lang)
        if asked == "language":
            return draw.pick([n for c, n in v.LANGUAGES[draw.lang].items() if c != v.CODE_OF[book.lang]])
        if asked in ("series", "subject"):
            return draw.title(book.lang)
        return draw.other_person(*book.authors).name

    def score(self, facts: Mapping[str, Any], text: str) -> Parts:
        return prose(facts, text)
