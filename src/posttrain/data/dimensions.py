"""The four qualities of a data set that the lesson on alignment names, measured: clarity, accuracy, consistent style,
diversity.

Each is a figure per language with its interval over prompts and a line that it should pass; `holds` and `below` are
said where the interval lies on one side of the line, else `not decided`. Clarity is what can be read from the text
alone (hidden context, unexplained abbreviations, overlong sentences), and a judge's mean mark where one is given.
Accuracy needs a verifier or a judge; without one it is not measured, and the card says so. Style is the share of rows
that keep the manner of most: form of address (tu or vous, ты or вы, 你 or 您), markup, an ending mark, a length within
four times the median. Diversity is `data.diversity`. Leaves out whether the manner of most is a good one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from posttrain.core.group import Group
from posttrain.core.protocols import Reward
from posttrain.data.diversity import SIZE, diversity
from posttrain.detectors import language_of
from posttrain.detectors.repetition import units
from posttrain.stats import Interval, cluster_bootstrap

LINES: Mapping[str, float] = {
    "clarity: answerable as it stands": 0.98,
    "clarity: no unexplained abbreviation": 0.95,
    "clarity: sentences of at most 40 words": 0.95,
    "accuracy": 0.90,
    "style: form of address": 0.98,
    "style: markup": 0.95,
    "style: ending": 0.95,
    "style: length": 0.95,
}
"""What the lower end of each figure's interval should reach; diversity is compared between generations instead."""
LONGEST, SHORT, TIMES = 40, 240, 4
HIDDEN = re.compile(
    r"\b(?:as|see|mentioned|shown|described|given) (?:\w+ )?(?:above|below)\b|\bthe (?:above|attached|previous) \w+"
    r"|\battached (?:file|image|document)"
    r"|ci-(?:dessus|dessous|joint)|pièce jointe|(?:указанн|приведённ|приведенн|описанн)\w* (?:выше|ниже)|прилагаем|во вложении"
    r"|上述|如上|如下图|附件|见下",
    re.IGNORECASE,
)
ABBREVIATION = re.compile(r"\b[A-ZÀ-Ý]{2,6}\b")
KNOWN = frozenset(
    """EUR USD GBP ISBN ISSN DOI URL PDF HTML XML JSON CSV SQL HTTP API OK USA UK EU UN UE ONU TV PC CPU GPU RAM DNA ADN AI IA GPS SMS II
    III IV VI VII VIII IX XI XII XIII XIV XV XVI XVII XVIII XIX XX XXI""".split()  # noqa: SIM905
)
SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
ADDRESS: Mapping[str, tuple[re.Pattern[str], re.Pattern[str]]] = {
    "fr": (re.compile(r"\b(?:tu|toi|ton|ta|tes)\b|\bt'", re.I), re.compile(r"\b(?:vous|votre|vos)\b", re.I)),
    "ru": (
        re.compile(r"\b(?:ты|тебя|тебе|тобой|твой|твоя|твои)\b", re.I),
        re.compile(r"\b(?:вы|вас|вам|вами|ваш\w*)\b", re.I),
    ),
    "zh": (re.compile("你"), re.compile("您")),
}
MARKUP = re.compile(r"\*\*|^#{1,4} |^[-*] |^\d+\. |`", re.MULTILINE)
ENDS = tuple('.?!。？！»)]:;"”`')


def measured(
    groups: Sequence[Group], accuracy: Reward | None = None, clarity: Reward | None = None, seed: int = 0
) -> list[dict[str, Any]]:
    """One entry per figure and language, what is below its line first: dimension, figure, lang, value with its ends, n, line, verdict.

    accuracy, clarity: what marks answers from 0 to 1; a row that it cannot mark is left out of that figure and n says so.
    """
    rows = [g for g in groups if g.responses and g.prompt]
    values: dict[tuple[str, str], list[tuple[str, float]]] = {}
    langs = [str(g.facts.get("lang") or language_of(f"{g.prompt_text}\n{g.responses[0].text}")) for g in rows]
    for name, told in {**_clear(rows, langs), **_styled(rows, langs), **_marked(rows, accuracy, clarity)}.items():
        for group, lang, value in zip(rows, langs, told, strict=True):
            if value is not None:
                values.setdefault((name, lang), []).append((group.prompt_hash, float(value)))
    out = []
    for (name, lang), found in values.items():
        made = cluster_bootstrap([v for _, v in found], [h for h, _ in found], reps=_reps(len(found)), seed=seed)
        out.append(_entry(name, lang, made, LINES.get(name)))
    for lang, count in Counter(langs).items():
        if count >= 2 * SIZE:
            said = [g.responses[0].text for g, own in zip(rows, langs, strict=True) if own == lang]
            out += [_entry(f"diversity: {n}", lang, made, None) for n, made in diversity(said, seed).items()]
    order = ("below", "not decided", "no line", "holds")
    return sorted(out, key=lambda e: order.index(e["verdict"]))


def _reps(n: int) -> int:
    """Fewer replicates for many rows: their intervals are narrow, and 100,000 rows should take seconds."""
    return max(300, min(10_000, 20_000_000 // n))


def _entry(name: str, lang: str, made: Interval, line: float | None) -> dict[str, Any]:
    ends: list[float | None] = [made.low, made.high] if made.known else [None, None]
    said = "no line" if line is None else "not decided"
    if line is not None and made.known:
        said = "holds" if made.low >= line else "below" if made.high < line else "not decided"
    return {
        "dimension": name.partition(":")[0],
        "figure": name,
        "lang": lang,
        "value": [made.estimate, *ends],
        "n": made.n,
        "line": line,
        "verdict": said,
    }


Told = dict[str, list[float | None]]


def _clear(rows: Sequence[Group], langs: Sequence[str]) -> Told:
    both = [f"{g.prompt_text}\n{g.responses[0].text}" for g in rows]
    return {
        "clarity: answerable as it stands": [float(answerable(g.prompt_text)) for g in rows],
        "clarity: no unexplained abbreviation": [
            float(not unexplained(t)) if lang in ("en", "fr") else None for t, lang in zip(both, langs, strict=True)
        ],
        "clarity: sentences of at most 40 words": [
            float(longest_sentence(g.responses[0].text) <= LONGEST) for g in rows
        ],
    }


def answerable(prompt: str) -> bool:
    """Does a request bring what it points at? A short one of a single paragraph that says "as above" does not."""
    return not (HIDDEN.search(prompt) and len(prompt) <= SHORT and "\n" not in prompt.strip())


def unexplained(text: str) -> list[str]:
    """Abbreviations that stand nowhere beside brackets; those that everybody knows do not count, nor does text in capitals."""
    words = re.findall(r"[^\W\d_]{2,}", text)
    if sum(w.isupper() for w in words) > 0.3 * max(1, len(words)):
        return []
    found = dict.fromkeys(m.group() for m in ABBREVIATION.finditer(text))
    return [a for a in found if a not in KNOWN and f"({a})" not in text and f"{a} (" not in text]


def longest_sentence(text: str) -> int:
    """Words (signs of Chinese) of the longest sentence."""
    return max((len(units(s)) for s in SENTENCE.split(text)), default=0)


def _styled(rows: Sequence[Group], langs: Sequence[str]) -> Told:
    said = [g.responses[0].text for g in rows]
    sizes = [max(1, len(units(t))) for t in said]
    middle = {
        lang: float(np.median([n for n, own in zip(sizes, langs, strict=True) if own == lang])) for lang in set(langs)
    }
    near = [float(middle[lang] / TIMES <= n <= middle[lang] * TIMES) for n, lang in zip(sizes, langs, strict=True)]
    return {
        "style: form of address": _kept([address(t, lang) for t, lang in zip(said, langs, strict=True)], langs),
        "style: markup": _kept(["some" if MARKUP.search(t) else "none" for t in said], langs),
        "style: ending": _kept(["mark" if t.rstrip().endswith(ENDS) else "none" for t in said], langs),
        "style: length": list(near),
    }


def address(text: str, lang: str) -> str | None:
    """How the reader is spoken to: near, far, both; None where the text does not say or the language has one form."""
    if lang not in ADDRESS:
        return None
    near, far = (bool(p.search(text)) for p in ADDRESS[lang])
    return "both" if near and far else "near" if near else "far" if far else None


def _kept(kinds: Sequence[str | None], langs: Sequence[str]) -> list[float | None]:
    """1 where a row does as most rows of its language do, `both` never does; None where there is nothing to keep."""
    most = {}
    for lang in set(langs):
        count = Counter(k for k, own in zip(kinds, langs, strict=True) if own == lang and k not in (None, "both"))
        most[lang] = count.most_common(1)[0][0] if count else None
    return [None if k is None else float(k == most[lang]) for k, lang in zip(kinds, langs, strict=True)]


def _marked(rows: Sequence[Group], accuracy: Reward | None, clarity: Reward | None) -> Told:
    given = {"accuracy": accuracy, "clarity: as judged": clarity}
    return {name: _marks(rows, reward) for name, reward in given.items() if reward is not None}


def _marks(rows: Sequence[Group], reward: Callable[[Sequence[Group]], Any]) -> list[float | None]:
    """The mark of each row's first answer; None where it could not be marked."""
    return [scores[0].value for scores in reward(rows)]


def lines_of(told: Sequence[Mapping[str, Any]]) -> list[str]:
    """The card's section: a table, what is below its line first, and what nobody measured."""
    out = ["| figure | language | value | prompts | line | verdict |", "|---|---|---|---|---|---|"]
    for e in told:
        value, low, high = e["value"]
        ends = "no interval" if low is None else f"[{low:.3f}, {high:.3f}]"
        line = "" if e["line"] is None else f"{e['line']:g}"
        out.append(f"| {e['figure']} | {e['lang']} | {value:.3f} {ends} | {e['n']} | {line} | {e['verdict']} |")
    missing = [d for d in ("clarity", "accuracy", "style", "diversity") if all(e["dimension"] != d for e in told)]
    return out + (["", f"Not measured: {', '.join(missing)}."] if missing else [])
