"""Agreement of a queue: coefficients with intervals over items, per axis, per rater, per group; biases; who disagrees with whom.

A ranking is read as a verdict on each pair of answers (first, tie, second), so that queues of any size compare; alpha on whole rankings
takes Kemeny's distance. Below 30 items or 2 raters no number is given, as the specification of the project asks: "too few".
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any
from zlib import crc32

import numpy as np

from posttrain.feedback.agreement import coefficients as c
from posttrain.feedback.records import Record, by_item
from posttrain.feedback.steadiness import places, same
from posttrain.stats import Interval, cluster_bootstrap, wilson

LEAST_ITEMS, LEAST_RATERS = 30, 2
REPS = 1000
FIRST, TIE, SECOND = 0, 1, 2


@dataclass(frozen=True)
class Apart:
    """Two people on one subject. on: category, else language, else nothing. share: of equal verdicts. item: where they differ most."""

    first: str
    second: str
    on: str
    share: float
    verdicts: int
    item: str


@dataclass
class Agreement:
    """What is known. whole: coefficients of all verdicts. The maps go from a name to coefficients; `matrix` holds shares of agreement
    of two people on verdicts they both gave, with how many; `apart` says who disagrees with whom on what, the farthest first."""

    items: int
    raters: int
    judgments: int
    question: str
    whole: dict[str, Interval] = field(default_factory=dict)
    axes: dict[str, dict[str, Interval]] = field(default_factory=dict)
    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    splits: dict[str, dict[str, Interval]] = field(default_factory=dict)
    teams: dict[str, Interval] = field(default_factory=dict)
    biases: dict[str, Interval] = field(default_factory=dict)
    matrix: dict[tuple[str, str], tuple[float, int]] = field(default_factory=dict)
    disputed: list[tuple[str, float, int]] = field(default_factory=list)
    apart: list[Apart] = field(default_factory=list)


def too_few(items: int, raters: int) -> bool:
    return items < LEAST_ITEMS or raters < LEAST_RATERS


def few(value: float, n: int) -> Interval:
    """No number: too few."""
    return Interval(math.nan, math.nan, math.nan, n, f"too few: {n} items, {LEAST_ITEMS} needed")


def over_items(
    counts: np.ndarray, clusters: Sequence[str], stat: Callable[[Any], float], raters: int, seed: int = 0
) -> Interval:
    """A coefficient of counts [units, values] with its interval over items (a ranking gives several units)."""
    n = len(set(clusters))
    if too_few(n, raters):
        return few(math.nan, n)
    value = stat(counts)
    if math.isnan(value):
        return Interval(value, math.nan, math.nan, n, "no interval: everybody says the same thing everywhere")
    return cluster_bootstrap(counts, list(clusters), lambda x: _finite(stat(x), value), reps=REPS, seed=seed)


def _finite(value: float, other: float) -> float:
    """A resample in which nothing varies has no coefficient; it counts as the estimate (rare, and only with few items)."""
    return other if math.isnan(value) else value


Verdicts = list[tuple[str, int, int, list[tuple[str, int]]]]


def verdicts(found: Sequence[Record]) -> Verdicts:
    """(item, i, j, [(who, verdict)]) for every pair i < j of answers of every item."""
    out: Verdicts = []
    for id, here in by_item(found).items():
        ranked = [(r.who, places(r.tiers)) for r in here if r.tiers is not None]
        if not ranked:
            continue
        for i, j in combinations(range(here[0].n), 2):
            said = [(w, FIRST if at[i] < at[j] else SECOND if at[i] > at[j] else TIE) for w, at in ranked]
            out.append((id, i, j, said))
    return out


def _table(units: Sequence[tuple[str, Sequence[tuple[str, int]]]], k: int) -> tuple[np.ndarray, list[str]]:
    """Counts of units with two raters at least, and their items."""
    kept = [(id, said) for id, said in units if len(said) >= 2]
    counts = np.zeros((len(kept), k))
    for u, (_, said) in enumerate(kept):
        for _, v in said:
            counts[u, v] += 1
    return counts, [id for id, _ in kept]


def _coefficients(units: Sequence[tuple[str, Sequence[tuple[str, int]]]], k: int, ordered: bool) -> dict[str, Interval]:
    counts, items = _table(units, k)
    raters = len({w for _, said in units for w, _ in said})
    stats: dict[str, Callable[[Any], float]] = {
        "raw agreement": c.observed,
        "alpha (nominal)": c.alpha,
        "Fleiss kappa": c.fleiss,
        "Gwet AC1": c.gwet,
    }
    if ordered:
        stats["alpha (ordinal)"] = lambda x: c.alpha(x, "ordinal")
        stats["alpha (interval)"] = lambda x: c.alpha(x, "interval")
    return {name: over_items(counts, items, stat, raters) for name, stat in stats.items()}


def agreement(
    found: Sequence[Record], question: str, repeats: Sequence[Record] = (), lengths: dict[str, list[int]] | None = None
) -> Agreement:
    """Everything about a queue's judgments. repeats: second judgments of the same person. lengths: characters of each answer by item."""
    made = Agreement(len({r.item for r in found}), len({r.who for r in found}), len(found), question)
    units, k, ordered = units_of(found, question)
    made.whole = _coefficients(units, k, ordered)
    if question == "ranking":
        made.whole |= _on_rankings(found)
        made.biases = biases(found, lengths or {})
    made.matrix = matrix(units)
    if raters := {w for _, said in units for w, _ in said}:
        made.whole["Cohen kappa (mean of pairs)"] = cohen_mean(units, raters, k)
    for axis in sorted({a for r in found for v in r.ratings.values() for a in v}):
        made.axes[axis] = _coefficients(_rated(found, axis), 5, True)
    made.people = people(found, units, repeats)
    for name in ("lang", "category", "guideline"):
        made.splits |= splits(found, question, name)
    made.teams = teams(units, {r.who: r.team for r in found})
    made.disputed = disputed(units)
    made.apart = apart(units, {r.item: r.category or r.lang or "" for r in found})
    return made


def units_of(found: Sequence[Record], question: str) -> tuple[list[tuple[str, list[tuple[str, int]]]], int, bool]:
    """(units, number of values, are they ordered) of a question: verdicts on pairs, good or bad, or all ratings together."""
    if question == "label":
        out = []
        for id, here in by_item(found).items():
            out += [(id, [(r.who, int(r.labels[k])) for r in here if k in r.labels]) for k in range(here[0].n)]
        return out, 2, False
    if question == "rating":
        return (
            [
                u
                for axis in sorted({a for r in found for v in r.ratings.values() for a in v})
                for u in _rated(found, axis)
            ],
            5,
            True,
        )
    return [(id, _turned(f"{id}/{i}/{j}", said)) for id, i, j, said in verdicts(found)], 3, True


def _turned(pair: str, said: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Every other pair, by its hash, is read from the other side. Which answer of an item comes first in the ledger is an accident:
    where rows were written with the better one first, all verdicts would fall into one value, and chance would seem to explain them."""
    return [(who, SECOND - v + FIRST) for who, v in said] if crc32(pair.encode()) & 1 else said


def _rated(found: Sequence[Record], axis: str) -> list[tuple[str, list[tuple[str, int]]]]:
    out = []
    for id, here in by_item(found).items():
        out += [
            (id, [(r.who, r.ratings[k][axis] - 1) for r in here if axis in r.ratings.get(k, {})])
            for k in range(here[0].n)
        ]
    return out


def _on_rankings(found: Sequence[Record]) -> dict[str, Interval]:
    """Mean W over items, and alpha with Kemeny's distance among items of equally many answers (the commonest number)."""
    groups = [[r for r in here if r.tiers is not None] for here in by_item(found).values()]
    groups = [g for g in groups if len(g) >= 2]
    raters = len({r.who for g in groups for r in g})
    made: dict[str, Interval] = {}
    ws = [c.kendall_w([r.tiers or () for r in g], g[0].n) for g in groups if g[0].n > 2]
    ws = [w for w in ws if not math.isnan(w)]
    if ws:
        made["Kendall W (mean of items)"] = (
            few(0, len(ws)) if too_few(len(ws), raters) else cluster_bootstrap(ws, reps=REPS)
        )
    sizes = [g[0].n for g in groups]
    if not sizes:
        return made
    n = max(set(sizes), key=sizes.count)
    same_size = [g for g in groups if g[0].n == n]
    kinds = sorted({_key(r) for g in same_size for r in g})
    if len(kinds) <= 200:
        metric = np.array([[c.kemeny(a, b) for b in kinds] for a in kinds])
        at = {kind: v for v, kind in enumerate(kinds)}
        counts, items = _table([(g[0].item, [(r.who, at[_key(r)]) for r in g]) for g in same_size], len(kinds))
        made["alpha (rankings, Kemeny)"] = over_items(counts, items, lambda x: c.alpha(x, metric=metric), raters)
    return made


def _key(r: Record) -> tuple[tuple[int, ...], ...]:
    """The ranking with the item's answers renumbered by a hash, for the same reason as in `_turned`."""
    order = sorted(range(r.n), key=lambda k: crc32(f"{r.item}/{k}".encode()))
    return tuple(tuple(sorted(order.index(k) for k in t)) for t in r.tiers or ())


def matrix(units: Sequence[tuple[str, Sequence[tuple[str, int]]]]) -> dict[tuple[str, str], tuple[float, int]]:
    """Share of verdicts that two people both gave and agree on, and how many both gave."""
    hits: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for _, said in units:
        for (a, x), (b, y) in combinations(sorted(said), 2):
            hits[a, b][0] += x == y
            hits[a, b][1] += 1
    return {pair: (k / n, n) for pair, (k, n) in hits.items()}


def apart(
    units: Sequence[tuple[str, Sequence[tuple[str, int]]]], on: dict[str, str], least: int = 10, most: int = 12
) -> list[Apart]:
    """Who disagrees with whom on what: pairs of people by subject of the item, of `least` verdicts that both gave and one that differs."""
    equal: dict[tuple[str, str, str], dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for id, said in units:
        for (a, x), (b, y) in combinations(sorted(said), 2):
            equal[a, b, on[id]][id].append(x == y)
    found = []
    for (a, b, subject), by in equal.items():
        verdicts = [v for here in by.values() for v in here]
        worst = min(by, key=lambda id: (float(np.mean(by[id])), -len(by[id]), id))
        if len(verdicts) >= least and not all(verdicts):
            found.append(Apart(a, b, subject, float(np.mean(verdicts)), len(verdicts), worst))
    return sorted(found, key=lambda row: (row.share, -row.verdicts, row.first, row.second))[:most]


def cohen_mean(units: Sequence[tuple[str, Sequence[tuple[str, int]]]], raters: set[str], k: int) -> Interval:
    """Mean of Cohen's kappa over pairs of people with 30 units in common; its spread over pairs as a t interval where there are several."""
    columns = {w: np.full(len(units), -1) for w in raters}
    for u, (_, said) in enumerate(units):
        for w, v in said:
            columns[w][u] = v
    values = []
    for a, b in combinations(sorted(raters), 2):
        if int(((columns[a] >= 0) & (columns[b] >= 0)).sum()) >= LEAST_ITEMS:
            values.append(c.cohen(columns[a], columns[b], k))
    values = [v for v in values if not math.isnan(v)]
    if not values:
        return Interval(math.nan, math.nan, math.nan, 0, "too few: no two people share 30 verdicts")
    if len(values) < 10:
        return Interval(
            float(np.mean(values)), math.nan, math.nan, len(values), f"mean of {len(values)} pairs of people"
        )
    return cluster_bootstrap(values, reps=REPS)


def people(
    found: Sequence[Record], units: Sequence[tuple[str, Sequence[tuple[str, int]]]], repeats: Sequence[Record]
) -> dict[str, dict[str, Any]]:
    """By person: judgments, agreement with the others, steadiness on repeats, speed, hasty share."""
    hit: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for id, said in units:
        for w, v in said:
            others = [x for o, x in said if o != w]
            if others:
                hit[w].append((id, sum(x == v for x in others) / len(others)))
    first = {(r.who, r.item): r for r in found}
    made: dict[str, dict[str, Any]] = {}
    for w in sorted({r.who for r in found}):
        mine = [r for r in found if r.who == w]
        seconds = [r.seconds for r in mine if r.seconds is not None]
        shares, items = [v for _, v in hit[w]], [i for i, _ in hit[w]]
        n = len(set(items))
        again = [r for r in repeats if r.who == w and r.tiers is not None and (w, r.item) in first]
        steady = sum(same(r.tiers or (), first[w, r.item].tiers or ()) for r in again)
        made[w] = {
            "judgments": len(mine),
            "agreement": few(0, n) if n < LEAST_ITEMS else cluster_bootstrap(shares, items, reps=REPS),
            "repeats": wilson(steady, len(again)) if again else None,
            "seconds": float(np.median(seconds)) if seconds else None,
            "hasty": sum(r.hasty for r in mine) / len(mine),
            "team": mine[0].team,
        }
    return made


def splits(found: Sequence[Record], question: str, name: str) -> dict[str, dict[str, Interval]]:
    """Coefficients of parts of the data, where there is more than one part; what is of no part is left to the whole."""
    parts: dict[str, list[Record]] = defaultdict(list)
    for r in found:
        if getattr(r, name) is not None:
            parts[str(getattr(r, name))].append(r)
    if len(parts) < 2:
        return {}
    made = {}
    for value, here in sorted(parts.items()):
        units, k, _ = units_of(here, question)
        counts, items = _table(units, k)
        raters = len({r.who for r in here})
        made[f"{name} {value}"] = {
            "raw agreement": over_items(counts, items, c.observed, raters),
            "alpha (nominal)": over_items(counts, items, c.alpha, raters),
        }
    return made


def teams(units: Sequence[tuple[str, Sequence[tuple[str, int]]]], team: dict[str, str]) -> dict[str, Interval]:
    """Raw agreement of two people of the same group, by group, and of people of different groups."""
    if len(set(team.values())) < 2:
        return {}
    shares: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for id, said in units:
        for (a, x), (b, y) in combinations(said, 2):
            between = team[a] != team[b]
            name = " and ".join(sorted({team[a] or "no group", team[b] or "no group"}))
            shares[f"between {name}" if between else f"within {name}"].append((id, float(x == y)))
    return {
        name: few(0, len({i for i, _ in s}))
        if len({i for i, _ in s}) < LEAST_ITEMS
        else cluster_bootstrap([v for _, v in s], [i for i, _ in s], reps=REPS)
        for name, s in sorted(shares.items())
    }


def biases(found: Sequence[Record], lengths: dict[str, list[int]]) -> dict[str, Interval]:
    """How often the answer shown first, and the longer one, wins a strict verdict; 0.5 is no bias of place (length may be merit)."""
    first: list[tuple[str, float]] = []
    longer: list[tuple[str, float]] = []
    for r in found:
        if r.kind != "ranking" or r.tiers is None:
            continue
        at, shown = places(r.tiers), {k: p for p, k in enumerate(r.display)}
        size = lengths.get(r.item)
        for i, j in combinations(range(r.n), 2):
            if at[i] == at[j]:
                continue
            if shown:
                first.append((r.item, float((at[i] < at[j]) == (shown[i] < shown[j]))))
            if size is not None and size[i] != size[j]:
                longer.append((r.item, float((at[i] < at[j]) == (size[i] > size[j]))))
    made = {}
    for name, rows in (("the answer shown first wins", first), ("the longer answer wins", longer)):
        n = len({i for i, _ in rows})
        made[name] = (
            few(0, n) if n < LEAST_ITEMS else cluster_bootstrap([v for _, v in rows], [i for i, _ in rows], reps=REPS)
        )
    return made


def disputed(units: Sequence[tuple[str, Sequence[tuple[str, int]]]], most: int = 20) -> list[tuple[str, float, int]]:
    """Items on which people differ most: (item, share of agreeing pairs, raters)."""
    shares: dict[str, list[float]] = defaultdict(list)
    raters: dict[str, int] = {}
    for id, said in units:
        if len(said) >= 2:
            pairs = list(combinations([v for _, v in said], 2))
            shares[id].append(sum(x == y for x, y in pairs) / len(pairs))
            raters[id] = len(said)
    found = [(id, float(np.mean(s)), raters[id]) for id, s in shares.items() if np.mean(s) < 1]
    return sorted(found, key=lambda row: (row[1], -row[2]))[:most]
