"""Due dates and fines, with the reasoning written out.

Fines: days late times a daily rate, with days of grace or a ceiling at times, nothing when on time. Due dates: a loan of n days, moved
past closed days. The calendar is a common year. The scorer reads the result at the end and checks every written step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from posttrain.readingroom import vocabulary as v
from posttrain.readingroom.item import Item, Parts
from posttrain.readingroom.prose import HEDGE, concise, fold, form, has, holds
from posttrain.readingroom.world import Day, Draw, money

STEP = re.compile(r"(\d+(?:[.,]\d\d)?) ([x+-]) (\d+(?:[.,]\d\d)?) = (\d+(?:[.,]\d\d)?)")
FINE = {"en": re.compile(r"fine: (\d+\.\d\d) eur"), "fr": re.compile(r"amende : (\d+,\d\d) eur")}
COUNT = {"en": re.compile(r"(?:returned [^:]*: |\+ )(\d+) days"), "fr": re.compile(r"(?:rendu [^:]*: |\+ )(\d+) jours")}
"""Where an answer states how many days it counts."""
T: dict[str, dict[str, tuple[list[str], list[str]]]] = {
    "en": {
        "fine": (
            [
                "Due {d}, returned {r}. {c} EUR a day.{x} What is the fine?",
                "A book due {d} came back on {r}. The rate is {c} EUR a day.{x} How much is owed?",
                "I returned on {r} what was due {d}; {c} EUR per day.{x} My fine?",
            ],
            [
                "The date stamped was {d}, yet it came home on {r}. Each late day costs {c} EUR.{x} Please work out the sum."
            ],
        ),
        "grace": ([" The first {} days are free.", " {} days of grace."], [" Nobody pays for the first {} days."]),
        "cap": ([" At most {} EUR.", " The ceiling is {} EUR."], [" No one pays more than {} EUR."]),
        "due": (
            ["Borrowed {d} for {n} days.{x} When is it due?", "A loan of {n} days starts on {d}.{x} Due date?"],
            ["I took it home on {d} and may keep it {n} days.{x} By when must I bring it back?"],
        ),
        "closed": ([" Closed on {}.", " The library is closed on {}."], [" The doors stay shut on {}."]),
    },
    "fr": {
        "fine": (
            [
                "À rendre le {d}, rendu le {r}. {c} EUR par jour.{x} Quelle est l'amende ?",
                "Un livre dû le {d} est revenu le {r}. Le tarif est de {c} EUR par jour.{x} Combien doit-on ?",
                "J'ai rendu le {r} ce qui était dû le {d} ; {c} EUR par jour.{x} Mon amende ?",
            ],
            [
                "La date tamponnée était le {d}, mais il est rentré le {r}. "
                "Chaque jour de retard coûte {c} EUR.{x} Faites le calcul, s'il vous plaît."
            ],
        ),
        "grace": (
            [" Les {} premiers jours sont gratuits.", " {} jours de grâce."],
            [" Personne ne paie les {} premiers jours."],
        ),
        "cap": ([" Au plus {} EUR.", " Le plafond est de {} EUR."], [" Nul ne paie plus de {} EUR."]),
        "due": (
            [
                "Emprunté le {d} pour {n} jours.{x} Quand faut-il le rendre ?",
                "Un prêt de {n} jours commence le {d}.{x} Date de retour ?",
            ],
            ["Je l'ai emporté le {d} et peux le garder {n} jours.{x} Jusqu'à quand ?"],
        ),
        "closed": ([" Fermé le {}.", " La bibliothèque est fermée le {}."], [" Les portes restent closes le {}."]),
    },
}
W = {
    "en": {
        "late": "Due {d}, returned {r}: {n} days.",
        "month": "{m} has {k} days: {a} + {b} = {n}.",
        "grace": "{n} - {g} = {k} days to pay.",
        "cap": "At most {}.",
        "ontime": "Due {d}, returned {r}: not late.",
        "fine": "Fine: {} EUR.",
        "free": "{n} days, {g} are free: nothing to pay.",
        "count": "{d} + {n} days: {e}.",
        "closed": "{} is closed.",
        "due": "Due: {}.",
        "and": " and ",
    },
    "fr": {
        "late": "Dû le {d}, rendu le {r} : {n} jours.",
        "month": "{m} a {k} jours : {a} + {b} = {n}.",
        "grace": "{n} - {g} = {k} jours à payer.",
        "cap": "Au plus {}.",
        "ontime": "Dû le {d}, rendu le {r} : pas de retard.",
        "fine": "Amende : {} EUR.",
        "free": "{n} jours, {g} sont gratuits : rien à payer.",
        "count": "{d} + {n} jours : {e}.",
        "closed": "Le {} est fermé.",
        "due": "Retour : {}.",
        "and": " et le ",
    },
}


def month_step(lang: str, start: Day, end: Day, n: int) -> str:
    """`April has 30 days: 2 + 5 = 7.` when the days cross into the next month, else nothing."""
    if start.month == end.month or n <= 0:
        return ""
    month, size = v.MONTHS[lang][start.month - 1], v.MONTH_DAYS[start.month - 1]
    name = month.capitalize()
    return " " + W[lang]["month"].format(m=name, k=size, a=size - start.day, b=end.day, n=n)


def fine(draw: Draw) -> tuple[str, str, dict[str, Any], dict[str, str]]:
    """Prompt, gold answer, gold facts, flaws of one fine."""
    lang, words = draw.lang, W[draw.lang]
    start = draw.day()
    late = draw.between(-4, 0) if draw.chance(0.1) else draw.between(1, 26 if draw.ood else 18)
    end = Day.at(max(1, start.ordinal + late))
    late = end.ordinal - start.ordinal
    cents = draw.pick((5, 10, 15, 20, 25, 30, 40, 50))
    kind = draw.pick(("plain", "plain", "grace", "cap"))
    grace = draw.between(2, 5) if kind == "grace" else 0
    cap = draw.pick((50, 100, 150, 200, 300)) if kind == "cap" else None
    extra = draw.phrase(*T[lang]["grace"]).format(grace) if grace else ""
    extra = draw.phrase(*T[lang]["cap"]).format(money(cap, lang)) if cap else extra
    d, r = start.text(lang), end.text(lang)
    prompt = draw.phrase(*T[lang]["fine"]).format(d=d, r=r, c=money(cents, lang), x=extra)

    def work(late: int) -> tuple[str, int]:
        if late <= 0:
            return words["ontime"].format(d=d, r=r), 0
        text = words["late"].format(d=d, r=r, n=late) + month_step(lang, start, end, late)
        if late <= grace:
            return f"{text} {words['free'].format(n=late, g=grace)}", 0
        if grace:
            text += " " + words["grace"].format(n=late, g=grace, k=late - grace)
        total = (late - grace) * cents
        text += f" {late - grace} x {money(cents, lang)} = {money(total, lang)}."
        if cap is not None and total > cap:
            return f"{text} {words['cap'].format(money(cap, lang))}", cap
        return text, total

    steps, total = work(late)
    result = words["fine"].format(money(total, lang))
    wrong_days, wrong = work(max(1, late + draw.pick((-1, 1))))
    flaws = {
        "bare": result,
        "slip": f"{wrong_days} {words['fine'].format(money(wrong if wrong != total else total + cents, lang))}",
        "guess": words["fine"].format(money(total + cents * draw.pick((1, 2, 3)), lang)),
    }
    return prompt, f"{steps} {result}", {"fine": money(total, lang), "days": max(late, 0)}, flaws


def due(draw: Draw) -> tuple[str, str, dict[str, Any], dict[str, str]]:
    """Prompt, gold answer, gold facts, flaws of one due date."""
    lang, words = draw.lang, W[draw.lang]
    start, n = draw.day(1, 300), draw.pick((7, 10, 14, 15, 20, 21, 28, 30)) if not draw.ood else draw.between(5, 34)
    end = start.ordinal + n
    closed = draw.pick((0, 0, 1, 2))
    shut = [Day.at(end + i).text(lang) for i in range(closed)]
    if not closed and draw.chance(0.3):
        shut = [Day.at(end + draw.pick((-3, -2, 2, 3))).text(lang)]
    extra = draw.phrase(*T[lang]["closed"]).format(words["and"].join(shut)) if shut else ""
    d = start.text(lang)
    prompt = draw.phrase(*T[lang]["due"]).format(d=d, n=n, x=extra)

    def work(n: int, closed: int) -> tuple[str, str]:
        at = start.ordinal + n
        text = words["count"].format(d=d, n=n, e=Day.at(at).text(lang))
        for i in range(closed):
            text += " " + words["closed"].format(Day.at(at + i).text(lang))
        final = Day.at(at + closed).text(lang)
        return f"{text} {words['due'].format(final)}", final

    answer, final = work(n, closed)
    slip = work(n + draw.pick((-1, 1)), 0)[0]
    flaws = {"bare": words["due"].format(final), "slip": slip}
    if closed:
        flaws["guess"] = work(n, 0)[0]
    return prompt, answer, {"due": final, "n": n}, flaws


class Fines:
    """Arithmetic of the loan desk."""

    name = "fines"
    langs = ("en", "fr")
    twins = False

    def make(self, draw: Draw, twin: bool) -> Item:
        prompt, answer, gold, flaws = fine(draw) if draw.chance(0.6) else due(draw)
        return Item(prompt, answer, "answer", gold, flaws)

    def score(self, facts: Mapping[str, Any], text: str) -> Parts:
        return score(facts, text)


def score(facts: Mapping[str, Any], text: str) -> Parts:
    """The result at the end decides; reasoning counts as completeness, false steps as dishonesty. A right day count earns a little."""
    gold, lang = facts["gold"], facts["lang"]
    folded = fold(text)
    well_formed, why = form(text, lang, gold["answer"])
    if "fine" in gold:
        results = FINE[lang].findall(folded)
        correct = 1.0 if results and results[-1] == gold["fine"] and len(set(results)) == 1 else 0.0
        days = "days" if lang == "en" else "jours"
        if not correct and gold["days"] and has(folded, f": {gold['days']} {days}") and results:
            correct = 0.2
        reasoned = any(c.isdigit() for c in folded.split("fine:" if lang == "en" else "amende :")[0])
        expected = gold["fine"]
    else:
        mark = "due:" if lang == "en" else "retour :"
        _, found, tail = folded.rpartition(mark)
        said, due_on = tail.strip(), fold(gold["due"])
        rest = said.removeprefix(due_on)
        correct = 1.0 if found and rest != said and not re.match(r"\w", rest) and not re.search(r"\d", rest) else 0.0
        reasoned = "+" in folded
        expected = gold["due"]
    if correct < 1:
        why = [f"the result is not {expected}", *why]
    if not reasoned:
        why.append("no reasoning")
    false = [m[0] for m in STEP.finditer(text) if not _true(*m.groups())]
    count = gold["days"] if "fine" in gold else gold["n"]
    false += [m[0] for m in COUNT[lang].finditer(folded) if int(m[1]) != count]
    if false:
        why.append(f"false step {false[0]!r}")
    honest = 0.5 if false else 1.0
    if holds(folded, HEDGE[lang]):
        honest, why = honest * 0.75, [*why, "hedges a fact it has"]
    return Parts(correct, 1.0 if reasoned else 0.0, honest, 1.0, concise(text, gold["answer"]), well_formed, tuple(why))


def _true(a: str, sign: str, b: str, c: str) -> bool:
    """Does the step hold, in hundredths?"""
    x, y, z = (round(float(t.replace(",", ".")) * 100) for t in (a, b, c))
    return z * 100 == x * y if sign == "x" else z == (x + y if sign == "+" else x - y)
