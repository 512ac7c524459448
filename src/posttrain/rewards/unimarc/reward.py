"""The reward: fidelity first, structure only as far as the record is true.

``S = sum w_l L_l / sum w_l`` over L1 to L4 (weights .15 .10 .10 .10) and
``R = .05 + .95 (w_F F + (1 - w_F) S min(1, F/.5)^2)`` with ``w_F = .55``; R = 0 where L0 fails, and .95 R where text surrounds the
record. Structure earns nothing when fidelity is nil, so an empty or boilerplate record gets .05.

Where the gold is a record, levels are taken against it (see `grading`), so leaving a fact out never pays; a gold that is a list of
facts gives no such guarantee. Deterministic and independent of the batch. Source: this project's UNIMARC specification, section 5.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain.core.group import Group, Score
from posttrain.rewards.unimarc.extract import Extracted, extract
from posttrain.rewards.unimarc.fidelity import Fact, Fidelity, facts_of, judge, links_of
from posttrain.rewards.unimarc.fields import Record
from posttrain.rewards.unimarc.grading import LEVELS, Tally, levels_of, outside_issue, structural_issue, tally
from posttrain.rewards.unimarc.profile import load_profile
from posttrain.rewards.unimarc.support import Source

WEIGHTS: Mapping[str, float] = {"F": 0.55, "L1": 0.15, "L2": 0.10, "L3": 0.10, "L4": 0.10}
FLOOR, FULL_AT, OUTSIDE = 0.05, 0.5, 0.95


def _checked_weights(weights: Mapping[str, float] | None) -> dict[str, float]:
    """Weights that sum to 1, fidelity at least half, none negative; ValueError otherwise."""
    own = dict(WEIGHTS if weights is None else weights)
    if set(own) != set(WEIGHTS):
        raise ValueError(f"weights name {sorted(own)}; exactly {sorted(WEIGHTS)} are expected")
    if any(not w >= 0 for w in own.values()) or abs(sum(own.values()) - 1) > 1e-9:
        raise ValueError(
            f"weights must be at least 0 and sum to 1, so that the reward is monotone in every level; got {own}"
        )
    if own["F"] < 0.5:
        raise ValueError(f"weights.F must be at least .5, so that form never outranks truth; got {own['F']}")
    return own


class _Gold:
    """What one group's gold and source come to, once for all its responses."""

    def __init__(self, reward: UnimarcReward, gold: Any, source: str | None, where: str) -> None:
        try:
            self.facts: tuple[Fact, ...] = facts_of(gold)
        except ValueError as error:
            raise ValueError(f"group {where}: facts['unimarc_gold']: {error}") from None
        found = extract(gold) if isinstance(gold, (Record, str, bytes)) else None
        self.record = found.record if found else None
        self.links = links_of(gold)
        self.source = None if source is None else Source(source, reward.profile)
        # A list of facts says nothing of fields, so structure is then graded on the answer alone.
        self.tallies = tally(self.record, reward.profile) if self.record else None


class UnimarcReward:
    """A Reward over answers that hold one UNIMARC record in any of its three forms.

    profile: name or path of a profile. weights: of F and L1 to L4; they sum to 1 and F has at least half. structure_only: score
    form alone, for filters and never for training on; no gold is then needed. Each group has ``facts["unimarc_gold"]`` (a record
    in any form, or a list of facts) and may have ``facts["source"]`` (the raw text given to the model). Scores carry `value` in
    [0, 1], parts per level, F, precision, recall and the number of invented subfields, and `why`: up to three issues, what is
    invented, and the profile's hash.
    """

    def __init__(
        self, profile: str = "ifla", weights: Mapping[str, float] | None = None, structure_only: bool = False
    ) -> None:
        self.profile = load_profile(profile)
        self.weights = _checked_weights(weights)
        self.structure_only = structure_only
        self._golds: OrderedDict[tuple[Any, str | None], _Gold] = OrderedDict()

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        """One Score per response. Raises ValueError for a group without readable gold facts (unless structure_only)."""
        out = []
        for group in groups:
            gold = self._gold(group)
            out.append([self.score(response.text, gold) for response in group.responses])
        return out

    def of(self, text: str | Record, gold: Any = None, source: str | None = None) -> Score:
        """Score one answer outside a group."""
        return self.score(text, None if self.structure_only else self._prepared(gold, source, "(none)"))

    def _gold(self, group: Group) -> _Gold | None:
        if self.structure_only:
            return None
        gold, source = group.facts.get("unimarc_gold"), group.facts.get("source")
        if gold is None:
            raise ValueError(
                f"group {group.id}: facts['unimarc_gold'] is missing; give gold facts, or structure_only=True for a filter"
            )
        return self._prepared(gold, None if source is None else str(source), group.id)

    def _prepared(self, gold: Any, source: str | None, where: str) -> _Gold:
        if not isinstance(gold, (Record, str, bytes)):
            return _Gold(self, gold, source, where)
        key = (gold, source)
        if key not in self._golds:
            self._golds[key] = _Gold(self, gold, source, where)
            if len(self._golds) > 256:
                self._golds.popitem(last=False)
        self._golds.move_to_end(key)
        return self._golds[key]

    def structure(self, levels: Mapping[str, float]) -> float:
        """S: the weighted mean of L1 to L4."""
        total = sum(w for name, w in self.weights.items() if name != "F")
        return sum(w * levels[name] for name, w in self.weights.items() if name != "F") / total if total else 1.0

    def combine(self, levels: Mapping[str, float], f1: float) -> float:
        """R of a record without text around it, from its levels and its F."""
        share = self.weights["F"]
        gate = min(1.0, f1 / FULL_AT) ** 2
        return FLOOR + (1 - FLOOR) * (share * f1 + (1 - share) * self.structure(levels) * gate)

    def score(self, text: str | Record, gold: _Gold | None) -> Score:
        """Score one answer against prepared gold facts."""
        found = extract(text)
        stamp = f"[{self.profile.name} {self.profile.hash}]"
        if found.record is None:
            assert found.fault is not None
            issue = structural_issue(found.fault, self.profile)
            parts: dict[str, float] = dict.fromkeys(LEVELS, 0.0)
            if gold is not None:
                parts |= {"F": 0.0, "precision": 0.0, "recall": 0.0, "invented": 0.0}
            return Score(0.0, parts, f"{issue} {stamp}")
        if gold is None:
            tallies = tally(found.record, self.profile)
            levels = levels_of(tallies, self.profile)
            value = self.structure(levels)
            return self._made(value, {"L0": 1.0, **levels}, found, tallies, None, stamp)
        truth = judge(found.record, gold.facts, gold.source, gold.links)
        tallies = tally(found.record, self.profile, truth.anchored if gold.tallies is not None else None)
        levels = levels_of(tallies, self.profile, gold.tallies)
        f1, precision, recall = truth.f1 or 0.0, truth.precision or 0.0, truth.recall or 0.0
        invented = float(truth.counts.get("invented", 0))
        parts = {"L0": 1.0, **levels, "F": f1, "precision": precision, "recall": recall, "invented": invented}
        return self._made(self.combine(levels, f1), parts, found, tallies, truth, stamp)

    def _made(
        self,
        value: float,
        parts: dict[str, float],
        found: Extracted,
        tallies: Mapping[str, Tally],
        truth: Fidelity | None,
        stamp: str,
    ) -> Score:
        issues = [outside_issue(found)] if found.outside else []
        issues += [issue for t in tallies.values() for issue in t.issues]
        # Errors first: three lines are all a reader gets, and warnings are common in real records.
        said = [str(i) for i in sorted(issues, key=lambda i: (i.severity != "error", i.rule))[:3]] or ["no issue"]
        if truth is not None and truth.invented:
            said.append("invented: " + ", ".join(v[:60] for v in truth.invented[:3]))
        if truth is not None and truth.missing:
            said.append("missing: " + ", ".join(v[:60] for v in truth.missing[:3]))
        if found.outside:
            value *= OUTSIDE
        return Score(min(1.0, max(0.0, value)), parts, "; ".join(said) + f" {stamp}")
