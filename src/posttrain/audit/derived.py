"""Probes derived from any labelled pairs: accuracy, verbosity, markup, keywords, evasion, flattery, authority, noise, and what must react.

The variants are in `audit.variants`. Limits are those of `Thresholds`. Leaves out paraphrases by a model.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from posttrain.audit import variants as v
from posttrain.audit import words
from posttrain.audit.cases import Case
from posttrain.audit.probe import Probe, Rule, Value, flips, shift, wins
from posttrain.audit.scorer import Margin
from posttrain.audit.thresholds import Thresholds

SHIFT, RATE = "s", "of pairs"
LENGTHS = (("filler", v.filler), ("repeated", v.repeated), ("1.5x", v.padded(1.5)), ("2x", v.padded(2.0)))
LOOKS = (("bullets", v.bullets), ("bold", v.bold), ("heading", v.heading), ("table", v.tabled), ("emoji", v.emoji))
NOISE = (("typos", v.typos), ("spaces", v.spaces), ("lower case", v.lower), ("punctuation", v.unpunctuated))
CORRUPTIONS = (
    ("a negated fact", v.negated),
    ("a changed number", v.renumbered),
    ("truncation", v.truncated),
    ("shuffled sentences", v.shuffled),
    ("the wrong language", v.foreign),
)


def derived(cases: Sequence[Case], lang: str, limits: Thresholds, fast: bool, seed: int) -> Iterator[Probe]:
    """All derived probes of one language over `cases` of kind pair."""
    make = Derive([c for c in cases if c.kind == "pair" and c.lang == lang], lang, seed)
    if not make.cases:
        return
    eps, flip = limits.shift, limits.flip
    yield from make.accuracy(limits)
    for name, f in LENGTHS:
        yield make.shifted("T02", name, f, eps, "Prefers verbose responses")
    looks = [x for x in LOOKS if x[0] in ("bullets", "bold", "emoji")] if fast else LOOKS
    for name, f in looks:
        yield make.shifted(
            "T04", name, f, eps, "Prefers marked-up responses", "Penalises marked-up responses", "equivalence"
        )
    for name, f in looks[:1] if fast else looks:
        yield make.flipped("T04", f"{name}, order", f, flip, "Prefers marked-up responses")
    for word in words.KEYWORDS[lang]:
        yield make.shifted("T05", word, v.keyword(word), eps, f"Sensitive to '{word}' keyword")
    yield make.shifted("T06", "hedge", v.hedged, eps, "Rewards evasive answers")
    yield make.beaten("T06", "non-answer wins", v.evaded, limits.loss, "Rewards evasive answers")
    yield make.shifted("T07", "praise of the asker", v.praised, eps, "Rewards flattery of the user")
    yield make.shifted("T10", "right answers", v.authority, eps, "Swayed by invented authority")
    yield make.shifted("T10", "wrong answers", v.authority, eps, "Swayed by invented authority", of="rejected")
    yield make.flipped("T10", "wrong over right", v.authority, limits.loss, "Swayed by invented authority")
    for name, f in NOISE[:2] if fast else NOISE:
        yield make.flipped("T12", f"{name}, order", f, flip, "Sensitive to noise")
        yield make.shifted("T12", name, f, eps, "Sensitive to noise", rule="information")
    for name, f in CORRUPTIONS:
        yield make.noticed("T13", name, f, limits.react)
    yield make.noticed("T13", "the answer of another prompt", make.others(), limits.react)


class Derive:
    """Probes over the pairs of one language. Chance depends on (seed, case, arm) alone."""

    def __init__(self, cases: Sequence[Case], lang: str, seed: int) -> None:
        self.cases, self.lang, self.seed = list(cases), lang if lang in words.LANGS else "en", seed
        self.shown = lang

    def _varied(self, arm: str, f: v.Variant, of: str) -> tuple[list[tuple[Case, str]], int]:
        found, skipped = [], 0
        for case in self.cases:
            text = case.chosen if of == "chosen" else case.rejected
            made = f(text, self.lang, random.Random(f"{self.seed}/{arm}/{case.id}"))
            if made is None or made == text or not made.strip():
                skipped += 1
            else:
                found.append((case, made))
        return found, skipped

    def _probe(
        self,
        test: str,
        arm: str,
        rows: Sequence[tuple[Case, tuple[Margin, ...]]],
        value: Value,
        rule: Rule,
        limit: float,
        unit: str,
        phrase: str,
        low: str = "",
        skipped: int = 0,
    ) -> Probe:
        needs, cluster = tuple(r for _, r in rows), tuple(c.id for c, _ in rows)
        return Probe(test, arm, self.shown, needs, cluster, value, rule, limit, unit, phrase, low, skipped)

    def accuracy(self, limits: Thresholds) -> Iterator[Probe]:
        """T01, overall and in each category with enough rows."""
        by: dict[str, list[Case]] = {}
        for c in self.cases:
            by.setdefault(c.category, []).append(c)
        labels = ", ".join(sorted({c.checked for c in self.cases}))
        named: list[tuple[str, list[Case], float]] = [("all pairs", self.cases, limits.accuracy)]
        named += [
            (k, g, limits.category) for k, g in sorted(by.items()) if k and len(g) >= limits.category_n and len(by) > 1
        ]
        for arm, group, limit in named:
            rows = [(c, (Margin(c.prompt, c.chosen, c.rejected),)) for c in group]
            made = self._probe("T01", arm, rows, wins, "floor", limit, RATE, "Orders pairs wrongly")
            yield replace(made, note=f"labels: {labels}")

    def shifted(
        self, test: str, arm: str, f: v.Variant, eps: float, phrase: str, low: str = "", rule: Rule = "ceiling", of: str = "chosen"
    ) -> Probe:  # fmt: skip
        """The score of the variant minus that of the answer, in s."""
        found, skipped = self._varied(f"{test}/{arm}", f, of)
        rows = [(c, (Margin(c.prompt, t, c.chosen if of == "chosen" else c.rejected),)) for c, t in found]
        return self._probe(test, arm, rows, shift, rule, eps, SHIFT, phrase, low, skipped)

    def flipped(self, test: str, arm: str, f: v.Variant, limit: float, phrase: str) -> Probe:
        """Among pairs ordered rightly, how often the rejected answer's variant passes the chosen one."""
        found, skipped = self._varied(f"{test}/{arm.removesuffix(', order')}", f, "rejected")
        rows = [(c, (Margin(c.prompt, c.chosen, c.rejected), Margin(c.prompt, c.chosen, t))) for c, t in found]
        return self._probe(test, arm, rows, flips, "ceiling", limit, "of right pairs", phrase, skipped=skipped)

    def beaten(self, test: str, arm: str, f: v.Variant, limit: float, phrase: str) -> Probe:
        """How often the variant scores above the right answer."""
        found, skipped = self._varied(f"{test}/{arm}", f, "chosen")
        rows = [(c, (Margin(c.prompt, t, c.chosen),)) for c, t in found]
        return self._probe(test, arm, rows, wins, "ceiling", limit, RATE, phrase, skipped=skipped)

    def noticed(self, test: str, name: str, f: v.Variant, limit: float) -> Probe:
        """How often the score drops when the answer is corrupted."""
        found, skipped = self._varied(f"{test}/{name}", f, "chosen")
        rows = [(c, (Margin(c.prompt, c.chosen, t),)) for c, t in found]
        return self._probe(
            test, name, rows, wins, "floor", limit, "of answers", f"Does not notice {name}", skipped=skipped
        )

    def others(self) -> v.Variant:
        """The answer to the next prompt in place of this one."""
        after: dict[str, str] = {}
        for a, b in zip(self.cases, [*self.cases[1:], *self.cases[:1]], strict=True):
            after.setdefault(a.chosen, b.chosen)
        return lambda text, lang, rng: after.get(text)
