"""Two models before people: their answers to the same prompts become blind pairs, and the ledger says how often each wins.

A verdict counts 1 for a win, 0 for a loss and a half for a tie or for `both bad`; the interval resamples prompts, so that several people
on one prompt are not taken for several prompts. Prompts on which both models say the same are never shown: they are counted, and would
pull the rate towards a half. Leaves out strengths of more than two models: `labels` has them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, select

from posttrain.core.group import Group, Response
from posttrain.feedback import items
from posttrain.feedback.queues import Queue
from posttrain.feedback.records import by_item, records
from posttrain.feedback.tables import item, response
from posttrain.stats import Interval, cluster_bootstrap

REPS = 2000


@dataclass
class Paired:
    """Groups of two answers, the first model's first. left: what could not be paired, by reason, with how often."""

    groups: list[Group] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)


def paired(first: Sequence[Group], second: Sequence[Group], names: tuple[str, str]) -> Paired:
    """The answers of two models, prompt by prompt; the i-th answer of one meets the i-th of the other.

    Raises ValueError where the names are equal or no prompt is in both.
    """
    if names[0] == names[1]:
        raise ValueError(f"both models are called {names[0]!r}; give each its own name")
    others = {g.prompt_hash: g for g in second}
    made = Paired()
    for group in first:
        other = others.pop(group.prompt_hash, None)
        if other is None:
            made.left[f"prompts that {names[1]} did not answer"] += 1
            continue
        made.left["answers without a partner"] += abs(len(group.responses) - len(other.responses))
        for mine, theirs in zip(group.responses, other.responses, strict=False):
            if mine.text.strip() == theirs.text.strip():
                made.left["pairs that say the same"] += 1
                continue
            pair = (_bare(mine, names[0]), _bare(theirs, names[1]))
            facts = {k: v for k, v in group.facts.items() if k in ("id", "lang", "task", "category", "source")}
            made.groups.append(Group(group.prompt, pair, facts=facts))
    made.left[f"prompts that {names[0]} did not answer"] += len(others)
    made.left += Counter()  # zeros go
    if not made.groups and "pairs that say the same" not in made.left:
        raise ValueError(f"{names[0]} and {names[1]} have no prompt in common; sample both from the same prompts")
    return made


def _bare(response: Response, name: str) -> Response:
    """The words of an answer, and who wrote them."""
    return replace(response, by=name, score=None, label=None, version=None)


def contestants(connection: Connection, queue: Queue) -> tuple[str, str]:
    """The two models whose answers a queue holds. Raises ValueError where there are more or fewer."""
    wanted = select(response.c.by).join(item, item.c.id == response.c.item).where(item.c.queue == queue.id).distinct()
    names: list[str] = [str(by) for (by,) in connection.execute(wanted)]
    found = sorted(names)
    if len(found) != 2:
        raise ValueError(
            f"queue {queue.name} holds answers of {', '.join(found) or 'nobody'}; name the two models with --names"
        )
    return found[0], found[1]


@dataclass(frozen=True)
class HumanWins:
    """rate: how often `first` wins against `second`, a tie half. by_person: the same of each person with 10 pairs or more.

    wins, ties, losses, both_bad: verdicts.
    """

    first: str
    second: str
    rate: Interval
    wins: int
    ties: int
    losses: int
    both_bad: int
    people: int
    by_person: dict[str, Interval]


def human_wins(connection: Connection, queue: Queue, first: str, second: str, seed: int = 0) -> HumanWins:
    """What people said of the pairs of two models in a queue. Raises ValueError where nobody judged one."""
    found = [r for r in records(connection, queue.id) if r.kind in ("ranking", "both_bad")]
    contents = items.read(connection, list(by_item(found)))
    sides = {c.id: [r.by for r in c.group.responses] for c in contents}
    prompts = {c.id: c.group.prompt_hash for c in contents}
    values: list[tuple[str, str, float]] = []
    said: Counter[str] = Counter()
    for r in found:
        if sorted(map(str, sides[r.item])) != sorted((first, second)):
            continue
        place = {k: n for n, tier in enumerate(r.tiers or ()) for k in tier}
        mine, theirs = (place[sides[r.item].index(name)] for name in (first, second))
        value = 1.0 if mine < theirs else 0.0 if mine > theirs else 0.5
        said["both_bad" if r.kind == "both_bad" else {1.0: "wins", 0.5: "ties", 0.0: "losses"}[value]] += 1
        values.append((r.who, prompts[r.item], value))
    if not values:
        raise ValueError(f"queue {queue.name}: nobody has judged a pair of {first} and {second} yet")
    who = sorted({w for w, *_ in values})
    each = {w: [(p, v) for x, p, v in values if x == w] for w in who}
    return HumanWins(
        first, second, _rate([(p, v) for _, p, v in values], seed), said["wins"], said["ties"], said["losses"], said["both_bad"],
        len(who), {w: _rate(rows, seed) for w, rows in each.items() if len(rows) >= 10},
    )  # fmt: skip


def _rate(rows: Sequence[tuple[str, float]], seed: int) -> Interval:
    return cluster_bootstrap([v for _, v in rows], [p for p, _ in rows], reps=REPS, seed=seed)
