"""The UNIMARC reward by name: ``reward: unimarc``. What it measures is in `rewards.unimarc`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from posttrain.core.group import Group, Score, group
from posttrain.rewards.criterion import Criterion, RewardExample
from posttrain.rewards.unimarc import UnimarcReward

GOLD = """LDR #####nam0#22#####1##450#
001 R1
100 ##$a20240101d1862####k##y0frey50######ba
101 0#$afre
200 1#$aLes Misérables$fVictor Hugo
210 ##$aBruxelles$cLacroix$d1862
700 #1$aHugo$bVictor
801 #0$aFR$bTEST"""


class Unimarc(Criterion):
    """How true and how well formed a UNIMARC record is: fidelity to the source first, structure only as far as the record is true."""

    name: ClassVar[str] = "unimarc"
    facts: ClassVar[tuple[str, ...]] = ("unimarc_gold",)
    profile: str = "ifla"
    """Rules: a shipped profile, or the path of one."""
    weights: dict[str, float] | None = None
    """Weights of F and of the levels L1 to L4; they sum to 1, F has at least half."""

    @cached_property
    def reward(self) -> UnimarcReward:
        return UnimarcReward(self.profile, self.weights)

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        """One Score per response. Raises ValueError for a group without readable gold facts."""
        return self.reward(groups)

    @classmethod
    def example(cls) -> RewardExample:
        wrong = GOLD.replace("Les Misérables", "Notre-Dame de Paris").replace("1862", "1831")
        return RewardExample([group("Catalogue it.", GOLD, wrong, "200 1#$aNana", facts={"unimarc_gold": GOLD})])
