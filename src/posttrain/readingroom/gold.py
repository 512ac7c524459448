"""The gold reward: what the world knows of an answer, in [0, 1], with its parts and a reason.

value = correct x (half + half complete) x honest x safe x form x brevity, with form = .5 + .5 well_formed and brevity = .7 + .3 concise.
Everything is a product, so style buys back nothing that a wrong or unsafe answer lost. It is a simulation of a careful judge; trainers
never read it except through the rewards that a recipe names. Everything goes through `GoldReward.score`, which a test may forbid.
"""

from __future__ import annotations

from collections.abc import Sequence

from posttrain.core.group import Group, Response, Score
from posttrain.readingroom.tasks import TASKS
from posttrain.readingroom.world import VERSION


class GoldReward:
    """A Reward over groups of the reading room. Deterministic; each answer is scored alone."""

    version = VERSION

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        """One Score per response of each group. Raises ValueError for a group that is not of this world."""
        return [[self.score(group, response) for response in group.responses] for group in groups]

    def score(self, group: Group, response: Response | str) -> Score:
        """The verdict on one answer."""
        facts = group.facts
        if "gold" not in facts or facts.get("task") not in TASKS:
            raise ValueError(
                f"group {group.id} has no reading-room facts (task, gold): the gold reward scores only prompts of {VERSION}"
            )
        text = response if isinstance(response, str) else response.text
        parts = TASKS[facts["task"]].score(facts, text)
        value = parts.correct * (0.5 + 0.5 * parts.complete) * parts.honest * parts.safe
        value *= (0.5 + 0.5 * parts.well_formed) * (0.7 + 0.3 * parts.concise)
        named = {name: round(getattr(parts, name), 6) for name in parts._fields if name != "why"}
        return Score(round(value, 6), named, "; ".join(parts.why) or "as the gold answer")


def gold_answer(group: Group) -> str:
    """The answer that scores highest."""
    return str(group.facts["gold"]["answer"])
