"""Critique and revise: k rounds, the best so far is kept, and the end is never worse than the start by the acceptor's own measure.

    refiner = Refiner(critic=model, acceptor=Pairwise(judge))
    for made in refiner.refine(groups): made.best, made.rounds, made.reason

A revision replaces the best only if the acceptor prefers it by a margin, it stays in the language, does not newly refuse a benign
prompt, and is not much longer. Stops at two passes or two rejections in a row. The acceptor is a pairwise judge or any Reward. Bai et al.
2022 (arXiv:2212.08073); Madaan et al. 2023 (arXiv:2303.17651), which keeps the last round, and so may end below its start.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from posttrain.core.chat import as_chat
from posttrain.core.group import Group, Preference, answer
from posttrain.core.protocols import Model, Request, Reward, Sampling
from posttrain.detectors import language_of, refusal
from posttrain.rewards.judge import Pairwise, name_of
from posttrain.rewards.judge_prompts import language
from posttrain.synth.constitution import Constitution

ACCEPT, PAIR, LONGER = 0.55, 0.65, 1.5
Ask = Callable[[Group, str, str, str], str]

CRITIQUE = {
    "en": "{q}\n\nAnswer: {x}\n\nRules:\n{rules}\n\nName the faults of the answer in one or two sentences. "
    "If it has none, say: The answer is right.",
    "fr": "{q}\n\nRéponse : {x}\n\nRègles :\n{rules}\n\nNommez les fautes de la réponse en une ou deux phrases. S'il n'y en a pas, dites : "
    "La réponse est juste.",
    "ru": "{q}\n\nОтвет: {x}\n\nПравила:\n{rules}\n\nНазовите ошибки ответа в одном-двух предложениях. Если их нет, скажите: Ответ верен.",
    "zh": "{q}\n\n回答：{x}\n\n规则：\n{rules}\n\n请用一两句话指出回答的错误。如果没有错误，请说：回答正确。",
}
REVISE = {
    "en": "{q}\n\nAnswer: {x}\nCriticism: {c}\nRevise the answer. Write only the new answer.",
    "fr": "{q}\n\nRéponse : {x}\nCritique : {c}\nCorrigez la réponse. Écrivez seulement la nouvelle réponse.",
    "ru": "{q}\n\nОтвет: {x}\nКритика: {c}\nИсправьте ответ. Напишите только новый ответ.",
    "zh": "{q}\n\n回答：{x}\n批评：{c}\n请修改回答，只写新的回答。",
}
PASS = re.compile(
    r"^\W*(the answer is (right|correct|fine)|nothing to fix|no faults?|la réponse est (juste|exacte)|ответ верен|回答正确)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one answer. verdict: passed, accepted, or why the revision was rejected. p: that the acceptor prefers it."""

    principles: tuple[str, ...]
    critique: str
    revision: str
    verdict: str
    p: float | None = None


@dataclass
class Refined:
    """The best answer found, the rounds, and why they ended (passed, rejected, rounds)."""

    group: Group
    start: str
    best: str
    by: str
    rounds: list[Round] = field(default_factory=list)
    reason: str = "rounds"
    p: float = 0.5

    @property
    def sft(self) -> Group:
        """The final answer as a demonstration."""
        return self.group.with_responses([answer(self.best, by=self.by)])

    @property
    def pair(self) -> Group | None:
        """The final answer over the start, where the acceptor is sure enough."""
        if self.best == self.start or self.p < PAIR:
            return None
        both = [answer(self.best, by=self.by), answer(self.start)]
        return self.group.with_responses(both, preferences=(Preference(0, 1, p=self.p),))

    @property
    def critiques(self) -> list[Group]:
        """What the critic said, for training a critic: accepted revisions and passes only."""
        kept = [r for r in self.rounds if r.verdict in ("accepted", "passed")]
        return [
            Group(as_chat(f"{self.group.prompt_text}\n\n{self.start}"), (answer(r.critique, by=self.by),)) for r in kept
        ]


@dataclass
class Refiner:
    """critic: writes critiques and revisions. acceptor: decides. k: rounds at most. critique, revise: how to ask (group, answer, extra,
    language), for models with habits of their own."""

    critic: Model
    acceptor: Pairwise | Reward
    k: int = 3
    constitution: Constitution = field(default_factory=Constitution.read)
    critique: Ask | None = None
    revise: Ask | None = None
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.0, max_tokens=256))
    margin: float = 0.0
    """A Reward as acceptor must give the revision more than this above the best."""
    seed: int = 0

    @property
    def warning(self) -> str | None:
        """Said where critic and acceptor are the same model: it grades its own work."""
        same = isinstance(self.acceptor, Pairwise) and self.acceptor.model is self.critic
        return (
            "critic and acceptor are the same model; have another judge or people look at a share of the results"
            if same
            else None
        )

    def refine(self, groups: Sequence[Group]) -> list[Refined]:
        """One result per group, from its first response. Raises ValueError where there is none."""
        for g in groups:
            if not g.responses:
                raise ValueError(f"group {g.id}: nothing to revise; give each group an answer")
        made = [Refined(g, g.responses[0].text, g.responses[0].text, name_of(self.critic)) for g in groups]
        open_ = list(range(len(made)))
        for number in range(self.k):
            open_ = self._round([made[i] for i in open_], open_, number)
        return made

    def _round(self, rows: Sequence[Refined], places: Sequence[int], number: int) -> list[int]:
        """One round of all open answers; the places that stay open."""
        rules = [
            self.constitution.draw(random.Random(f"{self.seed}:{r.group.id}:{number}"), language(r.group.prompt_text))
            for r in rows
        ]
        asked = [self._critique(r, "\n".join(f"- {p.text}" for p in ps)) for r, ps in zip(rows, rules, strict=True)]
        said = self._answers(asked, number)
        flawed = [i for i, text in enumerate(said) if not PASS.match(text)]
        new = dict(zip(flawed, self._answers([self._revision(rows[i], said[i]) for i in flawed], number), strict=True))
        barred = {i: self._bar(rows[i], new[i]) for i in flawed}
        free = [i for i in flawed if barred[i] is None]
        odds = dict(zip(free, self._odds([(rows[i].group, new[i], rows[i].best) for i in free]), strict=True))
        for i, row in enumerate(rows):
            names = tuple(p.id for p in rules[i])
            verdict, p = ("passed", None) if i not in new else (barred[i] or "not preferred", odds.get(i))
            if p is not None and p >= ACCEPT:
                row.best, verdict = new[i], "accepted"
            row.rounds.append(Round(names, said[i], new.get(i, ""), verdict, p))
            self._close(row)
        changed = [row for row in rows if row.rounds[-1].verdict == "accepted"]
        for row, p in zip(changed, self._odds([(r.group, r.best, r.start) for r in changed]), strict=True):
            row.p = 0.5 if p is None else p
            if row.p < 0.5:  # preferences need not be transitive: the start is the yardstick
                row.best, row.p = row.start, 0.5
        return [place for place, row in zip(places, rows, strict=True) if row.reason == "rounds"]

    def _critique(self, row: Refined, rules: str) -> str:
        lang = language(row.group.prompt_text)
        if self.critique is not None:
            return self.critique(row.group, row.best, rules, lang)
        return CRITIQUE[lang].format(q=row.group.prompt_text, x=row.best, rules=rules)

    def _revision(self, row: Refined, said: str) -> str:
        lang = language(row.group.prompt_text)
        if self.revise is not None:
            return self.revise(row.group, row.best, said, lang)
        return REVISE[lang].format(q=row.group.prompt_text, x=row.best, c=said)

    def _answers(self, asked: Sequence[str], number: int) -> list[str]:
        requests = [Request(as_chat(text), self.sampling, seed=self.seed + number) for text in asked]
        return [g.responses[0].text.strip() for g in self.critic.generate(requests)] if requests else []

    def _bar(self, row: Refined, new: str) -> str | None:
        """Why a revision may not even be compared."""
        if not new or new == row.best:
            return "unchanged"
        before, after = language_of(row.best), language_of(new)
        if "und" not in (before, after) and before != after:
            return "another language"
        prompt = row.group.prompt_text
        benign = row.group.facts.get("benign_twin") or row.group.facts.get("benign")
        if benign and refusal(prompt, new).flagged and not refusal(prompt, row.best).flagged:
            return "a new refusal"
        return "too long" if len(new) > LONGER * max(len(row.best), 40) else None

    def _odds(self, rows: Sequence[tuple[Group, str, str]]) -> list[float | None]:
        """Probability that the first text is the better answer."""
        groups = [g.with_responses([answer(a), answer(b)]) for g, a, b in rows]
        if not groups:
            return []
        if isinstance(self.acceptor, Pairwise):
            return [c.p for c in self.acceptor.compare(groups)]
        out: list[float | None] = []
        for new, old in self.acceptor(groups):
            known = new.value is not None and old.value is not None
            out.append(float(new.value > old.value + self.margin) if known else None)  # type: ignore[operator]
        return out

    def _close(self, row: Refined) -> None:
        last = [
            "passed" if r.verdict == "passed" else "accepted" if r.verdict == "accepted" else "rejected"
            for r in row.rounds[-2:]
        ]
        if last in (["passed", "passed"], ["rejected", "rejected"]):
            row.reason = last[0]


def critique_and_refine(
    instruction: str, initial_response: str, num_iterations: int = 3, *, model: Any, judge: Any = None
) -> str:
    """The lesson's call: the best answer after some rounds. judge: another Model that decides (None: the same one, which is weaker)."""
    refiner = Refiner(model, Pairwise(judge or model), num_iterations)
    return refiner.refine([Group(as_chat(instruction), (answer(initial_response),))])[0].best
