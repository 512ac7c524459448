"""Selections over scored groups: the best k of n (`Best`), and best against worst (`PairUp`).

Rejection sampling is supervised training on `Best(Rollouts(...), k)`; online DPO is DPO on `PairUp(Rollouts(...))`. Both are Sources over a
Source. A response whose score has no value can be neither best nor worst. Groups that give nothing are counted in `dropped`, never silently
lost. Source: best-of-n as in Nakano et al. 2021 (arXiv:2112.09332); best-worst pairs as in Guo et al. 2024 (arXiv:2402.04792).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from posttrain.core.group import Group, Preference, Response
from posttrain.core.protocols import Reward, Source
from posttrain.rollout.rollouts import scored


def ranked(group: Group) -> list[Response]:
    """Scored main responses, best first; equal scores: the shorter first (tokens where there are any, else text), then the earlier."""
    usable = [r for r in group.responses if r.kind == "main" and r.score is not None and r.score.value is not None]
    return sorted(usable, key=lambda r: (-_value(r), len(r.text) if r.tokens is None else len(r.tokens)))


def _value(response: Response) -> float:
    assert response.score is not None and response.score.value is not None
    return response.score.value


def best(group: Group, k: int = 1) -> Group | None:
    """The group with its best k scored responses, best first (fewer when fewer have a score); None when none has."""
    kept = ranked(group)[:k]
    return group.with_responses(kept) if kept else None


def best_of(groups: Sequence[Group], reward: Reward, k: int = 1) -> list[Group]:
    """Score every response and keep the best k of each group. Raises ValueError naming a group of which none can be scored."""
    out = []
    for group in scored(groups, reward):
        kept = best(group, k)
        if kept is None:
            raise ValueError(f"group {group.id}: none of its {len(group.responses)} responses can be scored")
        out.append(kept)
    return out


def pair(group: Group) -> Group | None:
    """Best and worst of a group as a preference pair; None when fewer than two scores differ."""
    order = ranked(group)
    if len(order) < 2 or _value(order[0]) == _value(order[-1]):
        return None
    return group.with_responses((order[0], order[-1]), preferences=(Preference(0, 1),))


class Selected:
    """A Source that passes each group of another through `select`; steps of which nothing is left are skipped. dropped: groups lost."""

    def __init__(self, source: Source) -> None:
        self.source, self.dropped = source, 0

    def select(self, group: Group) -> Group | None:
        """The group as it goes on, or None. The identity here; the classes below choose."""
        return group

    def stream(self, policy: Any = None) -> Iterator[list[Group]]:
        """Steps of selected groups."""
        for groups in self.source.stream(policy):
            kept = [made for made in map(self.select, groups) if made is not None]
            self.dropped += len(groups) - len(kept)
            if kept:
                yield kept

    def publish(self, engine: Any, version: int) -> None:
        """New weights, for the source below."""
        self.source.publish(engine, version)

    def state(self) -> dict[str, Any]:
        """The source's state and how many groups were dropped."""
        return {"source": self.source.state(), "dropped": self.dropped}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.source.load(state["source"])
        self.dropped = int(state["dropped"])


class Best(Selected):
    """The best k responses of each group, best first."""

    def __init__(self, source: Source, k: int = 1) -> None:
        if k < 1:
            raise ValueError(f"k is {k}; keep at least 1 response")
        super().__init__(source)
        self.k = k

    def select(self, group: Group) -> Group | None:
        """See `best`."""
        return best(group, self.k)


class PairUp(Selected):
    """Best against worst of each group; a group whose scores are all equal gives no pair."""

    def select(self, group: Group) -> Group | None:
        """See `pair`."""
        return pair(group)
