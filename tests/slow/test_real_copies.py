"""Planted copies and leaks among real public rows: recall and precision of at least .95 for the kinds that are promised, recall
of paraphrase printed; and 100,000 rows within three minutes of processor time and two gigabytes."""

from __future__ import annotations

import random
import re
import resource
import textwrap
import time
from collections import Counter
from collections.abc import Callable

import pytest

from posttrain.core.group import Group, group
from posttrain.data.decontaminate import Index
from posttrain.data.dedup import deduplicate
from posttrain.data.read import read
from posttrain.data.words import by_character
from posttrain.stats import wilson
from tests.slow.real import DATA

pytestmark = pytest.mark.slow
real = pytest.mark.skipif(not DATA.is_dir(), reason="POSTTRAIN_DATA names no directory of real rows")
FILES = ("gsm8k/train.jsonl.gz", "llamafactory-demo/alpaca_en_demo.jsonl", "llamafactory-demo/alpaca_zh_demo.jsonl")
END = re.compile(r"(?<=[.!?。！？])\s*")
Change = Callable[[str, random.Random], str | None]


def wrapped(text: str, rng: random.Random) -> str:
    if by_character(text):
        return "\n".join(text[i : i + 24] for i in range(0, len(text), 24))
    return "\n".join(textwrap.wrap(text, 40))


def reordered(text: str, rng: random.Random) -> str | None:
    parts = [p for p in END.split(text.strip()) if p]
    if len(parts) < 4 or any(p[-1] not in ".!?。！？" for p in parts):
        return None
    made = rng.sample(parts, len(parts))
    return ("" if by_character(text) else " ").join(made)


def digits(text: str, rng: random.Random) -> str | None:
    made = re.sub(r"(?<![\d.,])(\d{1,3})(\d{3})(?![\d.,])", r"\1,\2", text)
    return None if made == text else made


def one_in_thirty(text: str, rng: random.Random) -> str | None:
    words = text.split(" ")
    if len(words) < 30:
        return None
    for at in rng.sample(range(len(words)), len(words) // 30):
        words[at] = "otherwise"
    return " ".join(words)


def freer(text: str, rng: random.Random) -> str | None:
    """Every sixth word another, and neighbours changed about: what a rewording does to runs of words."""
    words = text.split(" ")
    if len(words) < 30:
        return None
    for at in range(0, len(words) - 1, 6):
        words[at], words[at + 1] = words[at + 1], "indeed"
    return " ".join(words)


PROMISED: dict[str, Change] = {
    "verbatim": lambda t, r: t,
    "case": lambda t, r: t.upper() if t.upper().lower() == t.lower() else None,
    "spaces": lambda t, r: re.sub(" ", "  ", t) + " \n",
    "wrapped": wrapped,
    "reordered": reordered,
    "digits": digits,
}
PARAPHRASED: dict[str, Change] = {"one word in thirty": one_in_thirty, "freer rewording": freer}


def texts(least: int = 120) -> list[str]:
    """Real rows as texts, no two of which are copies already."""
    rng = random.Random(0)
    found = []
    for name in FILES:
        groups = read(DATA / name).groups
        for g in rng.sample(groups, min(700, len(groups))):
            text = g.prompt_text.strip() + "\n" + g.responses[0].text.strip()
            if len(text) >= (60 if by_character(text) else least):
                found.append(text)
    return [found[i] for i in deduplicate([group("", t) for t in found]).kept]


def planted(rows: list[str], changes: dict[str, Change], each: int) -> list[tuple[int, str, str]]:
    """(row, kind, changed text), `each` of every kind, from different rows."""
    rng = random.Random(1)
    free = list(range(len(rows)))
    rng.shuffle(free)
    out = []
    for kind, change in changes.items():
        made = 0
        for row in list(free):
            new = change(rows[row], rng)
            if new is not None and made < each:
                out.append((row, kind, new))
                free.remove(row)
                made += 1
        assert made >= 20, f"{kind}: {made} rows only"
    return out


def told(
    what: str, copies: list[tuple[int, str, str]], right: list[bool], show: pytest.CaptureFixture[str]
) -> dict[str, float]:
    counts, found = (
        Counter(k for _, k, _ in copies),
        Counter(k for (_, k, _), ok in zip(copies, right, strict=True) if ok),
    )
    with show.disabled():
        for kind, n in counts.items():
            print(f"\n{what}, {kind}: recall {wilson(found[kind], n):.3f} of {n}", end="")
    return {kind: found[kind] / n for kind, n in counts.items()}


@real
def test_copies_among_real_rows(capsys: pytest.CaptureFixture[str]) -> None:
    rows = texts()
    for changes, promised in ((PROMISED, True), (PARAPHRASED, False)):
        copies = planted(rows, changes, 100)
        made = deduplicate([group("", t) for t in rows] + [group("", t) for _, _, t in copies])
        found = {d.row: d.kept for d in made.duplicates}
        right = [found.get(len(rows) + i) == row for i, (row, _, _) in enumerate(copies)]
        recall = told("copies", copies, right, capsys)
        precision = sum(right) / max(len(found), 1)
        if promised:
            assert min(recall.values()) >= 0.95 and precision >= 0.95, (recall, precision)
        else:
            assert not found or precision >= 0.95


@real
def test_leaks_among_real_rows(capsys: pytest.CaptureFixture[str]) -> None:
    rows = texts()
    rng = random.Random(2)
    rng.shuffle(rows)
    items, clean = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    index = Index({"exam": [group(t, "a") for t in items]})
    for changes, promised in ((PROMISED, True), (PARAPHRASED, False)):
        leaks = planted(items, changes, 60)
        framed = [group("Look at this:\n" + t + "\nWhat do you think?", rng.choice(clean)[:80]) for _, _, t in leaks]
        hits = index.find([group("", t) for t in clean] + framed).hits
        found = {h.row: h.item for h in hits}
        right = [found.get(len(clean) + i) == row for i, (row, _, _) in enumerate(leaks)]
        recall = told("leaks", leaks, right, capsys)
        precision = sum(right) / max(len(found), 1)
        if promised:
            assert min(recall.values()) >= 0.95 and precision >= 0.95, (recall, precision)


def test_a_hundred_thousand_rows_in_three_minutes_and_two_gigabytes(capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(3)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(20_000)]
    rows: list[Group] = []
    for i in range(100_000):
        if i % 10 == 9:
            rows.append(group("", rows[-rng.randint(1, 9)].responses[0].text + " again"))
        else:
            rows.append(group("", ". ".join(" ".join(rng.choices(words, k=14)) for _ in range(6)) + "."))
    began = time.process_time()
    made = deduplicate(rows)
    seconds, memory = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    with capsys.disabled():
        print(
            f"\n100,000 rows of 84 words: {seconds:.0f} s of processor time, {memory:.2f} GiB at most, {len(made.duplicates)} copies"
        )
    assert 9_500 <= len(made.duplicates) <= 10_000 and seconds < 180 and memory < 2
