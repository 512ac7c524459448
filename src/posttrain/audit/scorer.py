"""One view of every reward: margins between two answers of a prompt, counted, cached, and in units of the reward's own spread.

A scalar reward gives r(a) - r(b); a judge with ``prefer`` gives logit(p), p averaged over both orders and clipped. So every test reads the
same quantity of either. Scores of one prompt are asked together, which lets a reward model compute the prompt once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from posttrain.core.chat import Chat, chat_text
from posttrain.core.group import Group, answer
from posttrain.rewards.criterion import as_reward
from posttrain.stats.interval import Floats

CLIP = 1e-4
CHUNK = 16
"""Prompts given to a reward at once."""
Progress = Callable[[str, int, int], None]


class Margin(NamedTuple):
    """Answer `a` against answer `b` of one prompt."""

    prompt: Chat
    a: str
    b: str


class DegenerateReward(ValueError):
    """All answers of every prompt score the same: there is nothing to audit."""


class BudgetSpent(ValueError):
    """The reward was asked as often as the budget allows."""


class Scorer:
    """A reward asked through margins.

    reward: anything `rewards.as_reward` takes. budget: scorings (for a judge: comparisons) that may be asked; None sets no limit.
    """

    def __init__(self, reward: Any, budget: int | None = None, progress: Progress | None = None) -> None:
        self.given = reward
        self.pairwise = hasattr(reward, "prefer") and not callable(reward)
        self.reward: Any = None if self.pairwise else as_reward(reward)
        self.budget, self.progress = budget, progress
        self.asked = 0
        self.not_finite = 0
        self._known: dict[tuple[Chat, str], float] = {}
        self._preferred: dict[Margin, float] = {}

    # Scores

    def raw(self, groups: Sequence[Group]) -> list[list[float]]:
        """Scores as the reward gives them, uncached; nan where it gives none. Scalar rewards only."""
        self._spend(sum(len(g.responses) for g in groups))
        said = self.reward(groups)
        return [[math.nan if s.value is None else float(s.value) for s in scores] for scores in said]

    def scores(self, rows: Sequence[tuple[Chat, str]], label: str = "scoring") -> Floats:
        """Score of each (prompt, answer); answers of one prompt are asked together and remembered."""
        missing: dict[Chat, list[str]] = {}
        for prompt, text in dict.fromkeys(rows):
            if (prompt, text) not in self._known:
                missing.setdefault(prompt, []).append(text)
        groups = [Group(prompt=p, responses=tuple(answer(t) for t in texts)) for p, texts in missing.items()]
        total, done = sum(len(g.responses) for g in groups), 0
        for at in range(0, len(groups), CHUNK):
            piece = groups[at : at + CHUNK]
            for g, values in zip(piece, self.raw(piece), strict=True):
                for r, value in zip(g.responses, values, strict=True):
                    self._known[g.prompt, r.text] = value
                    self.not_finite += not math.isfinite(value)
                done += len(values)
            if self.progress:
                self.progress(label, done, total)
        return np.asarray([self._known[row] for row in rows], dtype=np.float64)

    # Comparisons

    def prefer(self, margin: Margin) -> float:
        """P(a over b) in the order given, remembered."""
        if margin not in self._preferred:
            self._spend(1)
            said = self.given.prefer(chat_text(margin.prompt), margin.a, margin.b)
            chance = 0.5 if said is None else float(said)
            if not 0 <= chance <= 1:
                raise ValueError(f"prefer gave {said!r}; it must give a probability, a bool or None")
            self._preferred[margin] = chance
        return self._preferred[margin]

    def margins(self, rows: Sequence[Margin], label: str = "scoring") -> Floats:
        """a's lead over b for each row, in the reward's own unit."""
        if not self.pairwise:
            both = self.scores([x for m in rows for x in ((m.prompt, m.a), (m.prompt, m.b))], label).reshape(-1, 2)
            return both[:, 0] - both[:, 1]
        out = []
        for i, m in enumerate(rows):
            p = (self.prefer(m) + 1 - self.prefer(Margin(m.prompt, m.b, m.a))) / 2
            p = min(max(p, CLIP), 1 - CLIP)
            out.append(math.log(p / (1 - p)))
            if self.progress and i % 64 == 63:
                self.progress(label, i + 1, len(rows))
        return np.asarray(out, dtype=np.float64)

    def cost(self, rows: Sequence[Margin]) -> int:
        """Scorings that `rows` would ask for now."""
        if self.pairwise:
            both = {x for m in rows for x in (m, Margin(m.prompt, m.b, m.a))}
            return len(both - self._preferred.keys())
        return len({x for m in rows for x in ((m.prompt, m.a), (m.prompt, m.b))} - self._known.keys())

    def _spend(self, n: int) -> None:
        if self.budget is not None and self.asked + n > self.budget:
            raise BudgetSpent(f"the next step asks for {n:,} scorings, {self.asked:,} of {self.budget:,} are spent")
        self.asked += n


@dataclass(frozen=True, slots=True)
class Unit:
    """What one s is: the typical spread of scores within a prompt. robust: the same from medians. pairs: margins behind it."""

    s: float
    robust: float
    pairs: int

    @property
    def warning(self) -> str:
        ratio = max(self.s, self.robust) / max(min(self.s, self.robust), 1e-12)
        return f"mean and median spread differ by a factor {ratio:.1f}: margins have heavy tails" if ratio > 2 else ""


def unit_of(margins: Floats) -> Unit:
    """s = rms margin / sqrt 2, from margins of pairs within prompts [n]. Raises DegenerateReward where all are 0."""
    known = margins[np.isfinite(margins)]
    if not known.size or not known.any():
        raise DegenerateReward("all answers of every prompt score the same: the reward tells nothing apart")
    s = float(np.sqrt(np.square(known).mean() / 2))
    return Unit(s, float(1.4826 * np.median(np.abs(known)) / math.sqrt(2)), int(known.size))
