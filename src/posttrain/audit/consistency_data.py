"""Checks of preference data: circles, contradictions, annotators who disagree with themselves, length and side, leakage.

A soft preference counts by the side it leans to; ties and pairs that were both rejected are left out. Leakage is 13 shared words in a row
(Brown et al. 2020, appendix C), 50 characters of Chinese, or shingle sets of Jaccard .8; `posttrain.data.decontaminate` finds more.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np

from posttrain.audit.batch import certain
from posttrain.audit.consistency_figures import absent_check, figured, with_remedy
from posttrain.audit.fits import words_of
from posttrain.audit.probe import FEWEST, Measured
from posttrain.core.group import Group, Preference

CYCLES, CONTRADICTIONS, AGREEMENT, BALANCE = 0.05, 0.02, 0.80, 0.10
RUN, CHARACTERS, SHINGLE, JACCARD = 13, 50, (5, 12), 0.8
FORM = 3
"""Test items that share a run before it counts as a form of the set and proves nothing."""
MANY_TRIPLES = 200
"""Triples of one prompt that are looked at."""
Judged = tuple[Group, Preference]


def checks(
    data: Sequence[Group] | None, held_out: Sequence[Group] | None, reps: int = 2000, seed: int = 0
) -> Iterator[Measured]:
    """C01 to C06, as far as the rows carry them."""
    if not data:
        return
    rows = [(g, p) for g in data for p in g.pairs() if p.p != 0.5 and not p.both_bad]
    yield from _circles(rows, reps, seed)
    yield from _repeats(rows, reps, seed)
    yield from _balances(rows, reps, seed)
    if held_out:
        yield _leakage(data, held_out)


def _texts(row: Judged) -> tuple[str, str]:
    """The better and the worse text."""
    g, p = row
    i, j = (p.i, p.j) if p.p > 0.5 else (p.j, p.i)
    return g.responses[i].text, g.responses[j].text


def _circles(rows: Sequence[Judged], reps: int, seed: int) -> Iterator[Measured]:
    """C01: among three answers of a prompt that were all compared, how often a beats b, b beats c and c beats a."""
    lead: dict[str, dict[tuple[str, str], int]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        a, b = _texts(row)
        lead[row[0].prompt_hash][a, b] += 1
    values, cluster = [], []
    for prompt, won in lead.items():
        texts = list(dict.fromkeys(t for pair in won for t in pair))

        def beats(x: str, y: str, won: dict[tuple[str, str], int] = won) -> int:
            return won.get((x, y), 0) - won.get((y, x), 0)

        for n, (a, b, c) in enumerate(combinations(texts, 3)):
            if n >= MANY_TRIPLES:
                break
            edges = (beats(a, b), beats(b, c), beats(c, a))
            if all(edges):
                values.append(float(abs(sum(1 if e > 0 else -1 for e in edges)) == 3))
                cluster.append(prompt)
    if values:
        yield figured(
            "C01", "triples", values, cluster, "ceiling", CYCLES, "of triples", "Preferences run in circles",
            "have these prompts judged again, or train on rankings of whole lists", reps=reps, seed=seed,
        )  # fmt: skip


def _repeats(rows: Sequence[Judged], reps: int, seed: int) -> Iterator[Measured]:
    """C02: the same pair judged in both directions; C03: by the same annotator."""
    by: dict[tuple[str, str, str], list[tuple[str, str]]] = defaultdict(list)
    for row in rows:
        a, b = _texts(row)
        by[row[0].prompt_hash, min(a, b), max(a, b)].append((a, str(row[0].facts.get("annotator", ""))))
    values, prompts, own, own_prompts = [], [], [], []
    for (prompt, *_), said in by.items():
        if len(said) > 1:
            values.append(float(len({winner for winner, _ in said}) > 1))
            prompts.append(prompt)
        for who in dict.fromkeys(w for _, w in said if w):
            mine = [winner for winner, w in said if w == who]
            own += [float(x == y) for x, y in pairwise(mine)]
            own_prompts += [prompt] * (len(mine) - 1)
    if values:
        yield figured(
            "C02", "pairs judged again", values, prompts, "ceiling", CONTRADICTIONS, "of repeated pairs",
            "Preferences contradict each other", "settle these pairs by a third judgment, or drop them",
            reps=reps, seed=seed,
        )  # fmt: skip
    if own:
        yield figured(
            "C03", "same annotator twice", own, own_prompts, "floor", AGREEMENT, "of repeats",
            "Annotators disagree with themselves", "write a clearer guideline and train the annotators",
            reps=reps, seed=seed,
        )  # fmt: skip


def _balances(rows: Sequence[Judged], reps: int, seed: int) -> Iterator[Measured]:
    """C04: is the longer answer chosen; C05: the one shown first; over all rows and by annotator, against one half."""
    ordered = {p.i < p.j if p.p > 0.5 else p.j < p.i for _, p in rows} == {True}
    by: dict[str, list[Judged]] = {"all annotators": list(rows)}
    for row in rows:
        who = row[0].facts.get("annotator")
        if who:
            by.setdefault(str(who), []).append(row)
    named = by if len(by) > 2 else {"all annotators": by["all annotators"]}
    for who, mine in named.items():
        ids = [g.prompt_hash for g, _ in mine]
        if len(set(ids)) < FEWEST and who != "all annotators":
            continue
        sizes = [(words_of(a) - words_of(b), i) for (a, b), i in zip(map(_texts, mine), ids, strict=True)]
        apart = [(float(d > 0) - 0.5, i) for d, i in sizes if d]
        if apart:
            yield figured(
                "C04", who, [x for x, _ in apart], [i for _, i in apart], "equivalence", BALANCE, "above one half",
                "Chosen answers are the longer ones", "add length-balanced pairs, or control the reward for length",
                f"{len(sizes) - len(apart)} pairs of equal length", reps, seed, "Chosen answers are the shorter ones",
            )  # fmt: skip
        if not ordered:
            first = [float((p.i < p.j) == (p.p > 0.5)) - 0.5 for _, p in mine]
            yield figured(
                "C05", who, first, ids, "equivalence", BALANCE, "above one half", "The answer shown first is chosen",
                "shuffle the sides for every annotator", "", reps, seed, "The answer shown last is chosen",
            )  # fmt: skip
    if ordered and rows:
        yield absent_check("C05", "the order in which answers were shown; this file writes the better answer first")


def pieces(text: str, words: int, characters: int) -> set[str]:
    """Runs of so many words, or of so many characters where a text is written without spaces."""
    said = text.lower().split()
    if len(said) * 12 < len(text):
        return {text[i : i + characters] for i in range(len(text) - characters + 1)}
    return {" ".join(said[i : i + words]) for i in range(len(said) - words + 1)}


def _leakage(data: Sequence[Group], held_out: Sequence[Group]) -> Measured:
    """C06: prompts of the training side that share a long run with one of the test side, or almost all of their shingles."""
    long: Counter[str] = Counter()
    sets = {frozenset(pieces(g.prompt_text, *SHINGLE)) for g in held_out} - {frozenset()}
    exact = {g.prompt_text.strip().lower() for g in held_out}
    for text in exact:
        long.update(pieces(text, RUN, CHARACTERS))
    runs = {r for r, n in long.items() if n < FORM}
    often = Counter(x for s in sets for x in s)
    index: dict[str, list[frozenset[str]]] = defaultdict(list)
    for s in sets:
        for x in _rare(s, often):
            index[x].append(s)
    hits = 0
    for g in data:
        text = g.prompt_text.strip().lower()
        mine = frozenset(pieces(g.prompt_text, *SHINGLE))
        near = {s for x in _rare(mine, often) for s in index.get(x, ())}
        same = text in exact or not runs.isdisjoint(pieces(text, RUN, CHARACTERS))
        hits += same or any(len(mine & s) >= JACCARD * len(mine | s) for s in near)
    phrase, note = "Training rows leak into the test", f"{len(data)} rows against {len(held_out)}"
    made = certain("C06", "prompts", np.asarray([float(hits)]), ("all",), (), 0.0, "rows", phrase)
    return with_remedy(replace(made, note=note), "drop these rows from training (posttrain data finds them)")


def _rare(shingles: frozenset[str], often: Counter[str]) -> list[str]:
    """The rarest shingles of a set, as many as two sets of that likeness must share one of (prefix filter, Chaudhuri et al. 2006)."""
    kept = len(shingles) - math.ceil(JACCARD * len(shingles)) + 1
    return sorted(shingles, key=lambda x: (often[x], x))[:kept]
