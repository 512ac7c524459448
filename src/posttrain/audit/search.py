"""T16 and `attack_reward_model`: search for texts that a reward scores too high (or too low), under a budget of scorings.

Black box: hill climbing over suffixes of at most ten words, found on a few development prompts and judged on others, against random
suffixes of the same length. White box: a reward that offers ``swaps(groups, suffix, k)`` proposes replacements from the gradient of its
score (the first-order step of HotFlip, Ebrahimi et al. 2018, arXiv:1712.06751; used as in GCG, Zou et al. 2023, arXiv:2307.15043), and the
search tries those first. Leaves out beam search and attacks on judges' prompts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from posttrain.audit import words
from posttrain.audit.cases import Case, read_cases
from posttrain.audit.probe import Measured, Probe, settled
from posttrain.audit.scorer import BudgetSpent, Margin, Progress, Scorer, unit_of
from posttrain.audit.suite import suite
from posttrain.core.chat import Chat, as_chat, chat_text
from posttrain.core.group import Group, answer
from posttrain.stats import Interval
from posttrain.stats.interval import Floats

DEVELOPMENT, HELD_OUT, LONGEST = 8, 100, 10


@dataclass(frozen=True, slots=True)
class Found:
    """A suffix and what it gained on the development prompts. asked: scorings spent. history: (scorings, best gain). gradient: proposals
    came from the reward's own gradient."""

    suffix: str
    gain: float
    asked: int
    history: tuple[tuple[int, float], ...]
    gradient: bool


def climb(
    scorer: Scorer, items: Sequence[tuple[Chat, str]], budget: int, seed: int, up: bool = True, lexicon: Sequence[str] = words.SUFFIX_WORDS
) -> Found:  # fmt: skip
    """Improve a suffix by appending, replacing or dropping a word while `budget` scorings last. Gains are means over `items`, in r."""
    rng, sign = random.Random(seed), 1.0 if up else -1.0
    base = scorer.margins([Margin(p, t, t) for p, t in items])  # scores the bare answers once
    del base
    best: list[str] = []
    start, gain = scorer.asked, 0.0
    history, swaps, tried = [(0, 0.0)], getattr(scorer.given, "swaps", None), set[str]()

    def gain_of(suffix: str) -> float:
        return sign * float(np.nanmean(scorer.margins([Margin(p, f"{t} {suffix}", t) for p, t in items])))

    proposals: list[str] = []
    while scorer.asked - start + len(items) <= budget and len(tried) < 20 * budget:
        if swaps is not None and not proposals and best:
            groups = [Group(p, (answer(f"{t} {' '.join(best)}"),)) for p, t in items]
            proposals = [x for x in swaps(groups, " ".join(best), 16, up) if x not in tried]
            start -= len(items)  # the gradient costs a forward and a backward of the items
        suffix = proposals.pop(0) if proposals else " ".join(_neighbour(best, lexicon, rng))
        if suffix in tried or not suffix:
            tried.add(f"{suffix}#{len(tried)}")
            continue
        tried.add(suffix)
        try:
            found = gain_of(suffix)
        except BudgetSpent:
            break
        if found > gain:
            best, gain, proposals = suffix.split(" "), found, []
            history.append((scorer.asked - start, sign * gain))
    return Found(" ".join(best), sign * gain, scorer.asked - start, tuple(history), swaps is not None)


def _neighbour(best: list[str], lexicon: Sequence[str], rng: random.Random) -> list[str]:
    """One word appended, replaced, or dropped."""
    new, move = list(best), rng.random()
    if not new or (move < 0.4 and len(new) < LONGEST):
        new.insert(rng.randrange(len(new) + 1), rng.choice(lexicon))
    elif move < 0.9 or len(new) == 1:
        new[rng.randrange(len(new))] = rng.choice(lexicon)
    else:
        new.pop(rng.randrange(len(new)))
    return new


def search(
    scorer: Scorer, cases: Sequence[Case], lang: str, s: float, limits: Any, budget: int, seed: int, reps: int
) -> list[Measured]:
    """T16: the gain of a found suffix on held-out prompts over a random one of its length; and nonsense against the median answer."""
    dev, rest = list(cases[:DEVELOPMENT]), list(cases[DEVELOPMENT : DEVELOPMENT + 3 * HELD_OUT])
    found = climb(scorer, [(c.prompt, c.rejected) for c in dev], budget, seed)
    rng = random.Random(f"{seed}/random")
    size = max(1, len(found.suffix.split(" ")))
    chance = [" ".join(rng.choice(words.SUFFIX_WORDS) for _ in range(size)) for _ in rest]
    rows = tuple(
        (Margin(c.prompt, f"{c.rejected} {found.suffix}".rstrip(), f"{c.rejected} {x}"),)
        for c, x in zip(rest, chance, strict=True)
    )
    ids, phrase = tuple(c.id for c in rest), "Exploitable by suffix search"
    kind = "gradient" if found.gradient else "black box"
    note = f"suffix {found.suffix!r}; {found.asked:,} scorings on {len(dev)} prompts, {kind}"
    gain = scorer.margins([r[0] for r in rows], "T16")
    probe = Probe(
        "T16",
        f"suffix, {budget:,} scorings",
        lang,
        rows,
        ids,
        lambda m, s: m[:, 0] / s,
        "ceiling",
        limits.search_gain,
        "s",
        phrase,
    )
    out = [settled(probe, gain / s, ids, tuple(r[0] for r in rows), note, reps, seed)]
    texts = [" ".join(rng.choice(words.NONSENSE) for _ in range(12)) for _ in range(4)]
    above, shown = _nonsense(scorer, rest[:HELD_OUT], texts)
    probe = Probe(
        "T16",
        "nonsense above the median answer",
        lang,
        (),
        (),
        lambda m, s: m,
        "ceiling",
        limits.loss,
        "of prompts",
        phrase,
    )
    out.append(settled(probe, above, ids[: len(above)], shown, "", reps, seed))
    return out


def _nonsense(scorer: Scorer, cases: Sequence[Case], texts: Sequence[str]) -> tuple[Floats, tuple[Margin, ...]]:
    """1 where the best nonsense text beats the median reference answer (of two: their mean)."""
    rows = [m for c in cases for t in texts for m in (Margin(c.prompt, t, c.chosen), Margin(c.prompt, t, c.rejected))]
    lead = scorer.margins(rows, "T16 nonsense").reshape(len(cases), len(texts), 2).mean(axis=2)
    best = lead.argmax(axis=1)
    shown = tuple(Margin(c.prompt, texts[b], c.chosen) for c, b in zip(cases, best, strict=True))
    return (lead.max(axis=1) > 0).astype(float), shown


# The call of the lesson


@dataclass(frozen=True, slots=True)
class Attack:
    """What `attack_reward_model` found.

    gain: on the prompts searched; held_out: on others, over a random suffix; both in s. examples: prompt, answer with the suffix, score
    before and after. history: (scorings, best gain in s) as the search went.
    """

    suffix: str
    gain: float
    held_out: Interval | None
    asked: int
    gradient: bool
    target_high_reward: bool
    history: tuple[tuple[int, float], ...]
    examples: list[dict[str, Any]] = field(default_factory=list)


def attack_reward_model(
    rm: Any,
    target_high_reward: bool = True,
    prompts: Any = None,
    budget: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Attack:
    """Search a suffix that lifts bad answers (or, with target_high_reward=False, sinks good ones).

    rm: any reward. prompts: test cases, or plain prompts (then the bad answer is a non-answer and the good one is unknown); None takes the
    built-in suite. budget: scorings of the search. Raises ValueError for good answers wanted of plain prompts.
    """
    items, rest = _items(prompts, target_high_reward, seed)
    scorer = Scorer(rm, progress=progress)
    both = [(p, t) for p, t in items] + rest
    pairs = [Margin(p, t, words.NON_ANSWER["en"]) for p, t in both[:64] if t != words.NON_ANSWER["en"]]
    pairs += [Margin(p, t, f"{t} {words.NONSENSE[0]}") for p, t in both[:64]]
    s = unit_of(scorer.margins(pairs)).s
    found = climb(scorer, items, budget, seed, target_high_reward)
    held = None
    if found.suffix and len(rest) >= 10:
        rng = random.Random(f"{seed}/held-out")
        size = len(found.suffix.split(" "))
        rows = [
            Margin(p, f"{t} {found.suffix}", f"{t} {' '.join(rng.choice(words.SUFFIX_WORDS) for _ in range(size))}")
            for p, t in rest
        ]
        probe = Probe("T16", "", "", (), (), lambda m, s: m, "information", 0.0, "s", "")
        gains = scorer.margins(rows) / s
        held = settled(probe, gains, tuple(f"{i}" for i in range(len(rows))), tuple(rows), "", 2000, seed).ci
    examples = [_example(scorer, p, t, found.suffix) for p, t in items] if not scorer.pairwise else []
    history = tuple((n, g / s) for n, g in found.history)
    return Attack(
        found.suffix, found.gain / s, held, found.asked, found.gradient, target_high_reward, history, examples
    )


def _example(scorer: Scorer, prompt: Chat, text: str, suffix: str) -> dict[str, Any]:
    after = f"{text} {suffix}".rstrip()
    before_score, after_score = scorer.scores([(prompt, text), (prompt, after)])
    return {"prompt": chat_text(prompt), "answer": after, "before": float(before_score), "after": float(after_score)}


def _items(prompts: Any, high: bool, seed: int) -> tuple[list[tuple[Chat, str]], list[tuple[Chat, str]]]:
    """Development and held-out (prompt, answer) rows."""
    plain = isinstance(prompts, list | tuple) and bool(prompts) and isinstance(prompts[0], str)
    if plain and not high:
        raise ValueError("prompts: to sink good answers, give test cases with `chosen`, or None for the built-in suite")
    if plain:
        rows = [(as_chat(p), words.NON_ANSWER["en"]) for p in prompts]
    else:
        cases = suite(n=DEVELOPMENT + HELD_OUT, seed=seed) if prompts is None else read_cases(prompts)
        rows = [(c.prompt, c.rejected if high else c.chosen) for c in cases if c.kind == "pair"]
    if not rows:
        raise ValueError("prompts: there is nothing to attack")
    return rows[:DEVELOPMENT], rows[DEVELOPMENT : DEVELOPMENT + HELD_OUT]
