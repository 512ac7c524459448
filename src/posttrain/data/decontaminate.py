"""Training rows that hold test items, found without a server: an index of named test sets, and every row looked up in it.

A row is contaminated when it shares a run of 13 words (50 characters of Chinese, Japanese or Thai) with an item, when its shingles
are as good as the item's (Jaccard .5), when it holds .8 of the item's shingles (at least 8), or, for items shorter than 13 words, when
one of its messages or lines is the item. Runs that three or more items of a set share are forms of the set and prove nothing. The
13-word rule is GPT-3's (Brown et al. 2020, appendix C). Leaves out translations and free rewording, which need embeddings.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from posttrain.core.group import Group
from posttrain.data.words import U64, by_character, exact_key, sequences, shingles, text_of, words

RUN, CHARACTER_RUN = 13, 50
JACCARD, HELD, LEAST = 0.5, 0.8, 8
FORM = 3
"""Items of one set that share a run before it counts as a form."""


@dataclass(frozen=True, slots=True)
class Hit:
    """Row `row` holds item `item` of a test set. how: run, jaccard, held or exact. text: of the item, shortened."""

    row: int
    benchmark: str
    item: int
    how: str
    text: str


@dataclass
class Contamination:
    """hits: the first per row and test set. clean: rows without a hit. items: size of each test set."""

    hits: list[Hit]
    clean: list[int]
    items: dict[str, int]

    def record(self) -> dict[str, Any]:
        """For the dataset card: per test set its rows hit, by which rule, and the share of its items touched."""
        out: dict[str, Any] = {}
        for name, size in self.items.items():
            mine = [h for h in self.hits if h.benchmark == name]
            touched = len({h.item for h in mine})
            out[name] = {"items": size, "rows": len(mine), "by": dict(Counter(h.how for h in mine)),
                         "touched": touched, "share": touched / size, "examples": [h.text for h in mine[:3]]}  # fmt: skip
        return out


@dataclass
class _Set:
    """One test set, indexed."""

    texts: list[str]
    runs: dict[int, int] = field(default_factory=dict)
    by_shingle: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    sizes: list[int] = field(default_factory=list)
    short: dict[bytes, int] = field(default_factory=dict)
    run_keys: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=U64))
    shingle_keys: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=U64))


class Index:
    """Named test sets, ready to be looked up."""

    def __init__(self, tests: Mapping[str, Sequence[Group]]) -> None:
        """tests: name to groups; an item is its prompt, and its prompt with its answer. Raises ValueError for an empty set."""
        if not tests:
            raise ValueError("no test sets are named; give at least one {name: rows}")
        self.sets: dict[str, _Set] = {}
        for name, groups in tests.items():
            if not groups:
                raise ValueError(f"test set {name!r} has no rows")
            self.sets[name] = _indexed([text_of(g, "prompt") or text_of(g, "pair") for g in groups])

    def find(self, groups: Sequence[Group]) -> Contamination:
        """Look every row up."""
        hits = [h for row, g in enumerate(groups) for h in self._row(row, g)]
        dirty = {h.row for h in hits}
        return Contamination(
            hits, [i for i in range(len(groups)) if i not in dirty], {n: len(s.texts) for n, s in self.sets.items()}
        )

    def _row(self, row: int, group: Group) -> list[Hit]:
        text = text_of(group)
        hashed, pieces = words(text), shingles(text)
        runs = np.concatenate([sequences(hashed, RUN), sequences(hashed, CHARACTER_RUN)])
        lines = {
            text,
            text_of(group, "prompt"),
            text_of(group, "answer"),
            *(m.content for m in group.prompt),
            *text.splitlines(),
        }
        keys = {exact_key(line) for line in lines if line.strip()}
        out = []
        for name, found in self.sets.items():
            hit = _lookup(found, runs, pieces, keys)
            if hit is not None:
                out.append(Hit(row, name, hit[0], hit[1], " ".join(found.texts[hit[0]].split())[:160]))
        return out


def _indexed(texts: list[str]) -> _Set:
    made = _Set(texts)
    shared: dict[int, set[int]] = defaultdict(set)
    for item, text in enumerate(texts):
        hashed = words(text)
        n = CHARACTER_RUN if by_character(text) else RUN
        if len(hashed) < n:
            made.short.setdefault(exact_key(text), item)
            made.sizes.append(0)
            continue
        for run in sequences(hashed, n).tolist():
            shared[run].add(item)
        pieces = shingles(text)
        made.sizes.append(len(pieces))
        for piece in pieces.tolist():
            made.by_shingle[piece].append(item)
    distinct = {run: min(items) for run, items in shared.items() if len(_texts(items, texts)) < FORM}
    made.runs = distinct
    made.run_keys = np.sort(np.fromiter(distinct, dtype=U64, count=len(distinct)))
    made.shingle_keys = np.sort(np.fromiter(made.by_shingle, dtype=U64, count=len(made.by_shingle)))
    return made


def _texts(items: set[int], texts: Sequence[str]) -> set[bytes]:
    """How many different items: a test set may hold one twice."""
    return {exact_key(texts[i]) for i in items}


def _present(wanted: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """The members of `wanted` that are in the sorted `keys`."""
    if not len(keys) or not len(wanted):
        return wanted[:0]
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return wanted[keys[at] == wanted]


def _lookup(found: _Set, runs: np.ndarray, pieces: np.ndarray, keys: set[bytes]) -> tuple[int, str] | None:
    for key in keys:
        if key in found.short:
            return found.short[key], "exact"
    shared_runs = _present(runs, found.run_keys)
    if len(shared_runs):
        return Counter(found.runs[int(r)] for r in shared_runs).most_common(1)[0][0], "run"
    counts = Counter(
        item for piece in _present(pieces, found.shingle_keys).tolist() for item in found.by_shingle[piece]
    )
    for item, shared in counts.most_common(8):
        size = found.sizes[item]
        if shared / (len(pieces) + size - shared) >= JACCARD and shared >= 3:
            return item, "jaccard"
        if shared >= LEAST and shared / size >= HELD:
            return item, "held"
    return None
