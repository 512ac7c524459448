"""Judgments to groups that training reads: soft preferences with weights, labels, scores, written answers.

    ranking   p = P(better) + P(tie) / 2 under the posterior of the strengths; weight = effective judgments / overlap, at most 1
    label     good or bad by Dawid-Skene, the weight from how sure that is
    rating    mean rating of each answer, each person's own level taken out
    write     the text as a demonstration; edit: the same, and the pair edited over original

A pair is soft on purpose: `-p log sigmoid(h) - (1 - p) log sigmoid(-h)` pulls less where people are divided. Answers that most people
called bad are never chosen, whatever they are compared with.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
from sqlalchemy import Connection

from posttrain.core.group import Group, Preference, Response, Score, answer
from posttrain.feedback import items as ledger_items
from posttrain.feedback.aggregate import dawid_skene, luce, reliability
from posttrain.feedback.queues import Queue
from posttrain.feedback.records import Record, adjudicated, by_item, records, reviews
from posttrain.stats import Interval

Aggregation = Literal["reliable", "luce", "majority"]
NEAR = 0.05
"""Pairs whose p is closer than this to a half are left out unless ties are kept."""
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass
class Labels:
    """groups: one per item that got a label. reliability: by annotator, where it was estimated. dropped: by reason, with how often.

    tie: Davidson's v. settings: what they were made with.
    """

    groups: list[Group]
    reliability: dict[str, Interval] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    tie: float = 0.0
    judgments: int = 0
    settings: dict[str, Any] = field(default_factory=dict)


def soft(mean: np.ndarray | float, variance: np.ndarray | float, tie: float = 0.0) -> np.ndarray:
    """P(better) + P(tie) / 2 where the difference of log-strengths is normal: 32-point Gauss-Hermite.

    Without ties it is close to ``sigmoid(m / sqrt(1 + pi u / 8))``.
    """
    m, u = np.asarray(mean, dtype=np.float64), np.asarray(variance, dtype=np.float64)
    d = m[..., None] + np.sqrt(np.maximum(u, 0))[..., None] * _NODES
    e, r = np.exp(np.clip(d, -60, 60) / 2), np.exp(-np.clip(d, -60, 60) / 2)
    return ((e + tie / 2) / (e + r + tie)) @ _WEIGHTS


def labels(
    connection: Connection, queue: Queue, by: Aggregation = "reliable", keep_ties: bool = False, team: str | None = None,
    gold: bool = False, reviewed: bool = False, judges: bool = False,
) -> Labels:  # fmt: skip
    """The labels of a queue. team: only judgments of this group of people. gold: keep the items with known answers.

    reviewed: only written answers that a reviewer accepted (rejected ones never count). judges: verdicts of models count as well.
    """
    found = [r for r in records(connection, queue.id, judges=judges) if team is None or r.team == team]
    order = list(by_item(found))
    content = {i.id: i for i in ledger_items.read(connection, order)}
    if not gold:
        found = [r for r in found if content[r.item].kind == "ordinary"]
        order = [i for i in order if content[i].kind == "ordinary"]
    question = queue.settings.question
    settings = {"queue": queue.name, "question": question, "aggregation": by, "team": team, "keep_ties": keep_ties}
    made = Labels([], judgments=len(found), settings=settings)
    groups = {id: content[id].group for id in order}
    if question == "ranking":
        _rankings(made, found, groups, queue, by, keep_ties, adjudicated(connection, queue.id))
    elif question == "label":
        _good_or_bad(made, found, groups, queue, by)
    elif question == "rating":
        _ratings(made, found, groups)
    else:
        _texts(made, found, groups, reviews(connection, queue.id), reviewed)
    return made


def by_team(
    connection: Connection, queue: Queue, by: Aggregation = "reliable", keep_ties: bool = False, reviewed: bool = False,
    judges: bool = False,
) -> Labels:  # fmt: skip
    """Labels of each group of people for itself: an item has one row per group that judged it, with `team` among its facts.

    Pooled labels call it a draw where groups want different things; these say what each wants.
    """
    whole = Labels([], settings={"team": "each"})
    for team in sorted({r.team for r in records(connection, queue.id, judges=judges)}):
        made = labels(connection, queue, by, keep_ties, team, reviewed=reviewed, judges=judges)
        whole.groups += [replace(g, facts={**g.facts, "team": team}) for g in made.groups]
        whole.reliability |= made.reliability
        whole.dropped += made.dropped
        whole.judgments += made.judgments
        whole.tie = max(whole.tie, made.tie)
        whole.settings = {**made.settings, **whole.settings}
    return whole


def _facts(group: Group, here: Sequence[Record], **more: Any) -> Mapping[str, Any]:
    return {**group.facts, "item": here[0].item, "n_judgments": len(here), "by": _who(here), **more}


def _who(here: Sequence[Record]) -> str:
    models = sum(r.model for r in here)
    return "people" if not models else "judges" if models == len(here) else "people and judges"


def _rankings(
    made: Labels,
    found: Sequence[Record],
    groups: Mapping[str, Group],
    queue: Queue,
    by: Aggregation,
    keep_ties: bool,
    settled: Mapping[str, Any],
) -> None:
    sizes: dict[int, list[str]] = defaultdict(list)
    said = {id: [r for r in here if r.tiers is not None] for id, here in by_item(found).items()}
    for id, group in groups.items():
        if said.get(id):
            sizes[len(group.responses)].append(id)
    posterior: dict[str, tuple[np.ndarray, np.ndarray, float]] = {}
    care: dict[str, float] = {}
    for n, ids in sorted(sizes.items()):
        at = {id: k for k, id in enumerate(ids)}
        rows = [r for id in ids for r in said[id]]
        ranked, where = [r.tiers or () for r in rows], [at[r.item] for r in rows]
        if by == "reliable":
            joint = reliability.fit(ranked, where, [r.who for r in rows], n, len(ids))
            fitted = joint.fit
            care.update((r.id, float(c)) for r, c in zip(rows, joint.care, strict=True))
            made.reliability |= {
                w: i for w, i in joint.q.items() if w not in made.reliability or i.n > made.reliability[w].n
            }
        else:
            fitted = luce.fit(ranked, where, n, len(ids))
        posterior.update((id, (fitted.b[k], fitted.covariance[k], fitted.tie)) for id, k in at.items())
        made.tie = fitted.tie
    for id, group in groups.items():
        if id not in posterior:
            made.dropped["no ranking"] += 1
            continue
        here = said[id]
        row = settled.get(id)
        weight = min(1.0, sum(care.get(r.id, 1.0) for r in here) / queue.settings.overlap)
        if by == "majority":
            pairs = _votes(here, len(group.responses), weight)
        else:
            pairs = _soft_pairs(*posterior[id], weight)
        if row is not None and row.verdict == "ranking":
            pairs, weight = _settled(row, len(group.responses)), 1.0
        bad = sum(r.kind == "both_bad" for r in here) * 2 > len(here)
        kept = [replace_bad(p) for p in pairs] if bad else [p for p in pairs if keep_ties or abs(p.p - 0.5) >= NEAR]
        if not bad:
            made.dropped["pair too close to a tie"] += len(pairs) - len(kept)
        if not kept:
            made.dropped["item without a decided pair"] += 1
            continue
        b = posterior[id][0]
        responses = [
            replace(r, score=Score(float(s), {}, "log-strength from people"))
            for r, s in zip(group.responses, b, strict=True)
        ]
        facts = _facts(group, here, agreement=_agreeing(here), both_bad=bad)
        made.groups.append(
            replace(group, responses=tuple(responses), preferences=tuple(kept), ranking=None, facts=facts)
        )


def replace_bad(p: Preference) -> Preference:
    return p._replace(p=0.5, both_bad=True)


def _soft_pairs(b: np.ndarray, covariance: np.ndarray, tie: float, weight: float) -> list[Preference]:
    """Every pair of an item, the likelier winner first."""
    out = []
    for i, j in combinations(range(len(b)), 2):
        u = covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]
        p = float(soft(b[i] - b[j], u, tie))
        out.append(Preference(i, j, p, weight) if p >= 0.5 else Preference(j, i, 1 - p, weight))
    return out


def _votes(here: Sequence[Record], n: int, weight: float) -> list[Preference]:
    """Plain majority: 1, or a half for a draw. The yardstick that the models must beat."""
    out = []
    for i, j in combinations(range(n), 2):
        votes = 0
        for r in here:
            at = {k: t for t, tier in enumerate(r.tiers or ()) for k in tier}
            votes += (at[i] < at[j]) - (at[i] > at[j])
        out.append(Preference(i, j, 0.5 if votes == 0 else 1.0, 1.0) if votes >= 0 else Preference(j, i, 1.0, 1.0))
    return out


def _settled(row: Any, n: int) -> list[Preference]:
    """An adjudicated ranking counts as it is."""
    at = {k: t for t, tier in enumerate(json.loads(row.ranking)) for k in tier}
    pairs = [(i, j) if at[i] <= at[j] else (j, i) for i, j in combinations(range(n), 2)]
    return [Preference(i, j, 0.5 if at[i] == at[j] else 1.0) for i, j in pairs]


def _agreeing(here: Sequence[Record]) -> float | None:
    """Share of pairs of people who give the same verdict on a pair of answers."""
    hits: list[bool] = []
    for a, b in combinations(here, 2):
        x, y = ({k: t for t, tier in enumerate(r.tiers or ()) for k in tier} for r in (a, b))
        hits += [np.sign(x[i] - x[j]) == np.sign(y[i] - y[j]) for i, j in combinations(sorted(x), 2)]
    return round(float(np.mean(hits)), 4) if hits else None


def _good_or_bad(
    made: Labels, found: Sequence[Record], groups: Mapping[str, Group], queue: Queue, by: Aggregation
) -> None:
    rows = [(r.item, k, r.who, int(v)) for r in found for k, v in r.labels.items()]
    units = {u: n for n, u in enumerate(dict.fromkeys((i, k) for i, k, _, _ in rows))}
    who = {w: n for n, w in enumerate(sorted({w for _, _, w, _ in rows}))}
    if not rows:
        made.dropped["no label"] += len(groups)
        return
    said = [v for *_, v in rows]
    at = [units[i, k] for i, k, _, _ in rows]
    good = (
        np.bincount(at, said, len(units)) / np.bincount(at, minlength=len(units)) if by == "majority"
        else dawid_skene.fit(at, [who[w] for _, _, w, _ in rows], said, 2).posterior[:, 1]
    )  # fmt: skip
    count = np.bincount(at, minlength=len(units))
    for id, group in groups.items():
        responses = []
        for k, response in enumerate(group.responses):
            unit = units.get((id, k))
            if unit is None:
                responses.append(response)
                continue
            p = float(good[unit])
            share = min(1.0, count[unit] / queue.settings.overlap)
            responses.append(
                replace(
                    response,
                    label=p >= 0.5,
                    weight=round(abs(2 * p - 1) * share, 4),
                    score=Score(p, {}, "P(good), from people"),
                )
            )
        n = int(max((count[units[id, k]] for k in range(len(group.responses)) if (id, k) in units), default=0))
        made.groups.append(
            replace(
                group, responses=tuple(responses), facts={**group.facts, "item": id, "n_judgments": n, "by": "people"}
            )
        )


def _ratings(made: Labels, found: Sequence[Record], groups: Mapping[str, Group]) -> None:
    """Mean over people of a rating less that person's own mean, plus the mean of all."""
    flat = [(r.item, k, r.who, axis, v) for r in found for k, axes in r.ratings.items() for axis, v in axes.items()]
    if not flat:
        made.dropped["no rating"] += len(groups)
        return
    level: dict[tuple[str, str], list[int]] = defaultdict(list)
    for _, _, w, axis, v in flat:
        level[w, axis].append(v)
    mean = {key: float(np.mean(v)) for key, v in level.items()}
    whole = {axis: float(np.mean([v for *_, a, v in flat if a == axis])) for axis in {a for *_, a, _ in flat}}
    cells: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    for i, k, w, axis, v in flat:
        cells[i, k, axis].append(v - mean[w, axis] + whole[axis])
    here = by_item(found)
    for id, group in groups.items():
        responses: list[Response] = []
        for k, response in enumerate(group.responses):
            parts = {a: round(float(np.mean(cells[id, k, a])), 4) for a in sorted(whole) if (id, k, a) in cells}
            score = Score(
                round(float(np.mean(list(parts.values()))), 4) if parts else None,
                parts,
                "mean rating of people, 1 to 5",
            )
            responses.append(replace(response, score=score))
        made.groups.append(replace(group, responses=tuple(responses), facts=_facts(group, here[id])))


def _texts(
    made: Labels, found: Sequence[Record], groups: Mapping[str, Group], verdicts: Mapping[str, str], reviewed: bool
) -> None:
    """A written answer is a demonstration; an edit is also preferred over what it edits. One group per text."""
    for r in found:
        if r.text is None:
            continue
        verdict = verdicts.get(r.id)
        if verdict == "reject" or (reviewed and verdict != "accept"):
            made.dropped["rejected in review" if verdict == "reject" else "not reviewed"] += 1
            continue
        group = groups[r.item]
        mine = answer(r.text, by=f"person:{r.who}")
        facts = _facts(group, [r])
        if r.kind == "edit" and r.edits is not None and group.responses[r.edits].text != r.text:
            pair = (mine, group.responses[r.edits])
            made.groups.append(
                Group(group.prompt, pair, preferences=(Preference(0, 1),), facts=facts, tools=group.tools)
            )
        else:
            made.groups.append(Group(group.prompt, (mine,), facts=facts, tools=group.tools))


def winners(groups: Sequence[Group]) -> list[Group]:
    """The answer that people like best, alone, as a demonstration: rejection sampling by people. Items where all are bad give none.

    An edited or written answer stands first and has no rival that beats it.
    """
    out = []
    for group in groups:
        if any(p.both_bad for p in group.preferences):
            continue
        if len(group.responses) == 1:
            out.append(replace(group, preferences=(), ranking=None))
            continue
        points = np.zeros(len(group.responses))
        for p in group.preferences:
            points[p.i] += p.p - 0.5
            points[p.j] -= p.p - 0.5
        best = int(points.argmax())
        if points[best] > 0:
            out.append(group.with_responses([replace(group.responses[best], score=None)]))
    return out
