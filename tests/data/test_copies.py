"""Duplicates and leaked test items: planted ones are found, others are left alone."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from posttrain.core.group import Group, group
from posttrain.data.decontaminate import Index
from posttrain.data.dedup import bag_of_words, band_keys, deduplicate
from posttrain.data.words import exact_key, jaccard, shingles

FIRST, LAST = "ba ce di fo gu ha je ki lo mu na pe ri so tu", "lan mor tes vik zon dra"
WORDS = [a + b for a in FIRST.split() for b in LAST.split()]


def text(rng: random.Random, sentences: int = 6) -> str:
    body = [" ".join(rng.choices(WORDS, k=rng.randint(7, 14))).capitalize() for _ in range(sentences)]
    return ". ".join(body) + f". It cost {rng.randint(1000, 999999):,} francs in all."


def reordered(t: str, rng: random.Random) -> str:
    parts = t.removesuffix(".").split(". ")
    return ". ".join(rng.sample(parts, len(parts))) + "."


CHANGES: dict[str, Callable[[str, random.Random], str]] = {
    "verbatim": lambda t, r: t,
    "case": lambda t, r: t.upper(),
    "spaces": lambda t, r: t.replace(" ", "  ") + " ",
    "wrapped": lambda t, r: t.replace(" ", "\n"),
    "reordered": reordered,
    "digits": lambda t, r: t.replace(",", ""),
}  # fmt: skip


def test_planted_duplicates_are_found_and_nothing_else() -> None:
    rng = random.Random(0)
    base = [text(rng) for _ in range(240)]
    planted = [(CHANGES[name](t, rng), name) for t, name in zip(base, list(CHANGES) * 40, strict=True)]
    made = deduplicate([group("q", t) for t in base] + [group("q", t) for t, _ in planted], on="answer")
    found = {d.row: d.kept for d in made.duplicates}
    right = sum(found.get(240 + i) == i for i in range(240))
    assert right / 240 >= 0.95 and right / len(found) >= 0.95, made.counts
    assert sorted(made.kept + list(found)) == list(range(480))


def test_leaks_are_found_also_inside_other_text() -> None:
    rng = random.Random(1)
    items = [text(rng, 3) for _ in range(60)] + ["Name the capital of France."]
    index = Index({"exam": [group(t, "a") for t in items]})
    clean = [group(text(rng), text(rng)) for _ in range(200)]
    leaks = [
        group("Do this:\n" + CHANGES[list(CHANGES)[i % 6]](t, rng) + "\nThank you!", text(rng))
        for i, t in enumerate(items[:60])
    ]
    leaks.append(group("name the capital  of FRANCE", "Paris"))
    found = index.find(clean + leaks)
    rows = {h.row: h.item for h in found.hits}
    right = sum(rows.get(200 + i) == i for i in range(61))
    assert right / 61 >= 0.95 and right / len(rows) >= 0.95
    record = found.record()["exam"]
    assert record["items"] == 61 and record["rows"] == len(rows) and set(found.clean).isdisjoint(rows)
    assert index.find([group("Tell me of the capital of France and its river.", "Paris")]).hits == []
    with pytest.raises(ValueError, match="no rows"):
        Index({"empty": []})


def test_chinese_has_characters_for_words() -> None:
    long = (
        "图书馆在周一关闭。读者可以在周二到周六借书，每人最多五本，期限为三个星期，逾期每天罚款一角，遗失需按原价赔偿，"
    )
    long += "并登记在册以备查询。"
    assert deduplicate([group("问", long), group("问", long.replace("，", " ，"))]).counts["exact"] == 1
    assert Index({"t": [group(long, "a")]}).find(
        [group("请看：" + long + "谢谢", "b"), group("今天天气很好", "b")]
    ).clean == [1]


def test_the_real_row_stays_and_options_matter() -> None:
    rows = [
        group("q", "the same text as always", facts={"provenance": {"generator": "x"}}),
        group("q", "The same text, as always!"),
    ]
    assert deduplicate(rows).kept == [1]
    assert deduplicate(rows, better=lambda g: float("provenance" in g.facts)).kept == [0]
    a, b = (text(random.Random(3)) for _ in range(2))
    near: list[Group] = [group("q", a), group("q", b + " One more.")]
    assert deduplicate(near, near=None).duplicates == [] and deduplicate(near).counts["near"] == 1
    other = group("Something else is asked here.", a)
    assert (
        len(deduplicate([near[0], other], on="answer").kept) == 1
        and len(deduplicate([near[0], other], on="prompt").kept) == 2
    )
    mixed = [
        group("q", "red books stand on the long shelf today"),
        group("q", "today on the long shelf stand red books"),
    ]
    assert deduplicate(mixed).duplicates == []
    assert deduplicate(mixed, semantic=0.95, vectors=bag_of_words).counts["semantic"] == 1
    with pytest.raises(ValueError, match="vectors"):
        deduplicate(mixed, semantic=0.9)
    with pytest.raises(ValueError, match="accepted"):
        deduplicate(mixed, on="all")


def test_minhash_meets_its_curve() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        shared = rng.integers(1 << 60, size=80, dtype=np.uint64)
        one, two = (
            np.unique(np.concatenate([shared, rng.integers(1 << 60, size=10, dtype=np.uint64)])) << np.uint64(3)
            for _ in range(2)
        )
        assert 0.79 < jaccard(one, two) < 0.81
        keys = band_keys([one, two])
        hits += bool((keys[0] == keys[1]).any())
    assert hits >= 58  # 99.7% expected
    assert exact_key("1 000 Books!") == exact_key("1,000  books") != exact_key("1001 books")
    assert (
        len(shingles("")) == 0
        and (band_keys([shingles(""), shingles("")])[0] != band_keys([shingles(""), shingles("")])[1]).all()
    )
