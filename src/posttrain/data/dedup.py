"""Duplicates: exact after normalisation, near by MinHash with every candidate confirmed, semantic by vectors. Nothing is dropped uncounted.

256 permutations in 32 bands of 8 rows find 99.7% of the pairs at Jaccard .8; a candidate counts only if its true Jaccard is at least the
threshold, so MinHash decides speed and never precision. Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, ch. 3.
Work and memory are linear in the text: hashes are numpy arrays, and signatures are made and banded piece by piece.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from posttrain.core.group import Group
from posttrain.data.words import U64, concatenated, exact_key, jaccard, shingles, text_of

BANDS, ROWS = 32, 8
PIECE = 1 << 16
"""Shingles hashed at a time."""
RIVALS = 16
"""Representatives of a bucket that a newcomer is compared with."""
Kind = Literal["exact", "near", "semantic"]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Row `row` says what row `kept` says. similarity: Jaccard, cosine, or 1 for exact."""

    row: int
    kept: int
    kind: Kind
    similarity: float


@dataclass
class Deduplicated:
    """kept: rows that stay, in order. duplicates: the others, each with the row that stands for it."""

    kept: list[int]
    duplicates: list[Duplicate] = field(default_factory=list)

    @property
    def counts(self) -> Counter[str]:
        """Dropped rows by kind."""
        return Counter(d.kind for d in self.duplicates)


class Clusters:
    """Union-find over rows."""

    def __init__(self, n: int) -> None:
        self.parent = list(range(n))

    def root(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def join(self, i: int, j: int) -> None:
        a, b = self.root(i), self.root(j)
        self.parent[max(a, b)] = min(a, b)


def band_keys(sets: Sequence[np.ndarray], seed: int = 0) -> np.ndarray:
    """Band keys [rows, 32] of sets of shingles; a row with an empty set has keys of its own that match nothing."""
    rng = np.random.default_rng([seed, 0x6D696E])
    factor = rng.integers(0, 1 << 32, BANDS * ROWS, dtype=np.uint32) | np.uint32(1)
    shift = rng.integers(0, 1 << 32, BANDS * ROWS, dtype=np.uint32)
    mixer = (rng.integers(0, 1 << 63, ROWS, dtype=U64) << U64(1)) | U64(1)
    keys = np.zeros((len(sets), BANDS), dtype=U64)
    for first, last in _pieces(sets):
        flat, starts = concatenated(sets[first:last])
        full = np.flatnonzero(np.diff(starts))
        at, short = starts[full], (flat >> U64(32)).astype(np.uint32)
        hashed = np.empty_like(short)  # one permutation at a time stays in the cache
        for k in range(BANDS * ROWS):
            np.multiply(short, factor[k], out=hashed)
            np.add(hashed, shift[k], out=hashed)
            low = np.minimum.reduceat(hashed, at).astype(U64)
            made = (keys[first + full, k // ROWS] ^ low) * mixer[k % ROWS]
            keys[first + full, k // ROWS] = made ^ (made >> U64(31))
    empty = np.asarray([len(s) == 0 for s in sets], dtype=bool)
    keys[empty] = (np.arange(len(sets), dtype=U64)[empty] + U64(1))[:, None]
    return keys


def _pieces(sets: Sequence[np.ndarray]) -> Iterator[tuple[int, int]]:
    """Ranges of rows with about PIECE shingles and at least one."""
    first = total = 0
    for at, s in enumerate(sets):
        total += len(s)
        if total >= PIECE:
            yield first, at + 1
            first, total = at + 1, 0
    if total:
        yield first, len(sets)


def buckets(keys: np.ndarray) -> Iterator[np.ndarray]:
    """Rows that share a band key, two or more, ascending."""
    for band in range(keys.shape[1]):
        column = keys[:, band]
        order = np.argsort(column, kind="stable")
        edges = np.flatnonzero(np.diff(column[order])) + 1
        for rows in np.split(order, edges) if len(edges) < len(order) - 1 else ():
            if len(rows) > 1:
                yield rows


def near_pairs(sets: Sequence[np.ndarray], threshold: float = 0.8, seed: int = 0) -> Iterator[tuple[int, int, float]]:
    """Pairs (i < j, Jaccard) of rows at or above the threshold that clusters need: rows already joined are not compared again."""
    joined = Clusters(len(sets))
    tried: set[tuple[int, int]] = set()
    for rows in buckets(band_keys(sets, seed)):
        rivals: list[int] = []
        for j in rows.tolist():
            for i in rivals[:RIVALS]:
                if joined.root(i) == joined.root(j):
                    break
                if (i, j) in tried:
                    continue
                tried.add((i, j))
                found = jaccard(sets[i], sets[j])
                if found >= threshold:
                    joined.join(i, j)
                    yield i, j, found
                    break
            else:
                rivals.append(j)


def deduplicate(
    groups: Sequence[Group],
    on: str = "pair",
    near: float | None = 0.8,
    semantic: float | None = None,
    vectors: Callable[[Sequence[str]], np.ndarray] | None = None,
    better: Callable[[Group], float] | None = None,
) -> Deduplicated:
    """Which rows stay. on: ``prompt``, ``answer`` or ``pair``. near: least Jaccard, None for exact alone. semantic: least cosine of
    `vectors(texts)` [n, d]. better: the row of a cluster with the highest value stays, then a real one, then the first."""
    texts = [text_of(g, on) for g in groups]
    clusters = Clusters(len(groups))
    links: dict[int, tuple[Kind, float]] = {}

    def link(i: int, j: int, kind: Kind, value: float) -> None:
        if clusters.root(i) != clusters.root(j):
            clusters.join(i, j)
            for row in (i, j):
                links.setdefault(row, (kind, value))

    first: dict[bytes, int] = {}
    for i, text in enumerate(texts):
        at = first.setdefault(exact_key(text) if text.strip() else str(i).encode(), i)
        if at != i:
            link(at, i, "exact", 1.0)
    alone = sorted(first.values())
    if near is not None:
        for i, j, value in near_pairs([shingles(texts[k]) for k in alone], near):
            link(alone[i], alone[j], "near", value)
    if semantic is not None:
        if vectors is None:
            raise ValueError("semantic duplicates need `vectors`: a function from texts to their embeddings")
        for i, j, value in close_pairs(vectors([texts[k] for k in alone]), semantic):
            link(alone[i], alone[j], "semantic", value)
    return _chosen(groups, clusters, links, better)


def _chosen(
    groups: Sequence[Group],
    clusters: Clusters,
    links: dict[int, tuple[Kind, float]],
    better: Callable[[Group], float] | None,
) -> Deduplicated:
    members: dict[int, list[int]] = {}
    for i in range(len(groups)):
        members.setdefault(clusters.root(i), []).append(i)
    out = Deduplicated([])
    for rows in members.values():
        order = sorted(
            rows, key=lambda i: (-(better(groups[i]) if better else 0.0), "provenance" in groups[i].facts, i)
        )
        out.kept.append(order[0])
        out.duplicates += [Duplicate(i, order[0], *links[i]) for i in order[1:]]
    out.kept.sort()
    out.duplicates.sort(key=lambda d: d.row)
    return out


def close_pairs(vectors: np.ndarray, cosine: float, block: int = 1024) -> Iterator[tuple[int, int, float]]:
    """Pairs (i < j) of rows of [n, d] at or above a cosine, by blocks; a zero row is close to none."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros_like(vectors, dtype=np.float64), where=length > 0)
    for at in range(0, len(unit), block):
        found = unit[at : at + block] @ unit[at:].T
        for i, j in np.argwhere(np.triu(found, 1) >= cosine):
            yield at + int(i), at + int(j), float(found[i, j])


def bag_of_words(texts: Sequence[str], width: int = 4096) -> np.ndarray:
    """Vectors [n, width] without a model: hashed word counts, rare words heavier. They see reordered and slightly changed texts, not
    translations or free rewording; give the vectors of an embedding model for those."""
    from posttrain.data.words import words

    made = np.zeros((len(texts), width))
    for row, text in zip(made, texts, strict=True):
        np.add.at(row, (words(text) % U64(width)).astype(np.int64), 1.0)
    seen = (made > 0).sum(0)
    return np.log1p(made) * (1 + np.log((1 + len(texts)) / (1 + seen)))
