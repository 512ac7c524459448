"""What is wrong with data whatever method trains on them: identical sides, empty answers, duplicates, labels that contradict.

The checks behind preflight's D5. Everything is counted by content hash over all groups given; nothing is removed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from posttrain.core.chat import Chat
from posttrain.core.group import Group, Response


@dataclass(slots=True)
class Sanity:
    """Places of the groups found (file:line where known, else the group's id).

    identical: pairs whose sides say the same. empty: a response without any text or tool call. empty_prompts: prompts without text.
    duplicates: (first, again), same prompt, answers and judgement. contradictory: (first, again), one answer called better in one
    place and worse in another, or labelled good and bad.
    """

    groups: int = 0
    identical: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    empty_prompts: list[str] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    contradictory: list[tuple[str, str]] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.identical or self.empty or self.empty_prompts or self.duplicates or self.contradictory)

    def describe(self) -> str:
        """One line per finding, with its count and first place."""
        lines = [
            f"{len(found)} {what}, first at {' and '.join(found[0]) if isinstance(found[0], tuple) else found[0]}"
            for what, found in (
                ("pairs with identical chosen and rejected", self.identical),
                ("groups with an empty answer", self.empty),
                ("groups with an empty prompt", self.empty_prompts),
                ("duplicate groups", self.duplicates),
                ("groups whose judgement contradicts an earlier one", self.contradictory),
            )
            if found
        ]
        return "\n".join(lines) or f"{self.groups} groups, nothing found"


def place(made: Group) -> str:
    """Where a group came from, for people."""
    where = made.facts.get("where")
    return str(where) if where is not None else made.id


def sanity(groups: Sequence[Group]) -> Sanity:
    """Check groups; see `Sanity`."""
    found = Sanity(groups=len(groups))
    seen: dict[str, str] = {}
    verdicts: dict[tuple[str, str, str], tuple[float, str]] = {}
    for made in groups:
        here = place(made)
        keys = [said(r.turns) if made.prompt else window(r) for r in made.responses]
        if any(_empty(r) for r in made.responses):
            found.empty.append(here)
        if made.prompt and not any(m.content.strip() for m in made.prompt if m.role != "system"):
            found.empty_prompts.append(here)
        pairs = [p for p in made.pairs() if not p.both_bad]
        if any(keys[p.i] == keys[p.j] for p in pairs if p.p != 0.5):
            found.identical.append(here)
        whole = _digest([made.prompt_hash, sorted((k, str(r.label), str(r.score)) for k, r in zip(keys, made.responses, strict=True)),
                         sorted((keys[p.i], keys[p.j], p.p) for p in pairs), sorted(map(str, made.tools)),
                         str(made.facts.get("answer", ""))])  # fmt: skip
        if whole in seen:
            found.duplicates.append((seen[whole], here))
        seen.setdefault(whole, here)
        for key, value in _verdicts(made, keys):
            earlier = verdicts.setdefault(key, (value, here))
            if earlier[0] * value < 0:
                found.contradictory.append((earlier[1], here))
                break
    return found


def _verdicts(made: Group, keys: Sequence[str]) -> list[tuple[tuple[str, str, str], float]]:
    """((prompt, answer, other answer or label), sign) of every judgement in a group; opposite signs contradict each other."""
    prompt = made.prompt_hash
    out = []
    for pair in made.pairs():
        a, b = keys[pair.i], keys[pair.j]
        if a != b and not pair.both_bad and pair.p != 0.5:
            sign = 1.0 if pair.p > 0.5 else -1.0
            out.append(((prompt, a, b), sign) if a < b else ((prompt, b, a), -sign))
    for key, response in zip(keys, made.responses, strict=True):
        if response.label is not None:
            out.append(((prompt, key, "label"), 1.0 if response.label else -1.0))
    return out


def said(turns: Chat) -> str:
    """Hash of what turns say, weights aside."""
    return _digest([[m.role, m.content, m.thinking, m.name, [dict(c) for c in m.tool_calls]] for m in turns])


def window(response: Response) -> str:
    """Hash of a document as it is trained: windows of one text say the same and are different rows."""
    tokens = None if response.tokens is None else response.tokens.tolist()
    return _digest([said(response.turns), tokens])


def _empty(response: Response) -> bool:
    return not any(
        m.content.strip() or m.tool_calls
        for m in response.turns
        if m.role in ("assistant", "document") and m.weight > 0
    )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, sort_keys=True, default=str).encode()).hexdigest()[:16]
