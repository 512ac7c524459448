"""Simulated annotators: they read the gold, add their known biases, and choose with Bradley-Terry noise.

P(i over j) = sigmoid(sharpness x (u_i - u_j)) with u = gold + biases (Bradley and Terry 1952); a ranking of k answers is drawn as
Plackett-Luce (Luce 1959), which agrees with it on pairs. A simulation of people, labelled so on every row: `by` starts with `simulated:`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from posttrain.core.group import Group, Preference, Response
from posttrain.readingroom.gold import GoldReward
from posttrain.readingroom.prose import AGREE, HEDGE, MARKUP, fold, holds
from posttrain.readingroom.world import SIMULATION_NOTE, VERSION, mix


@dataclass(frozen=True, slots=True)
class Annotator:
    """One simulated annotator. All biases are in units of gold (0.3 = worth three tenths of the gold's whole range); 0 is unbiased.

    sharpness: beta of Bradley-Terry; 0 chooses blindly, `math.inf` follows the utility without noise. length: for an answer 100 characters
    longer. agreement: for agreeing with the user. hedging: for hedged wording (negative punishes it). keyword, favourite: for each answer
    that holds the favourite word. markup: for markup. position: for the answer shown first. ties: utilities closer than this are called
    equal (0 = never). both_bad: pairs whose gold values are both below this are marked so (0 = never). line: utility from which a
    single answer is called good.
    """

    name: str = "careful"
    sharpness: float = 8.0
    length: float = 0.0
    agreement: float = 0.0
    hedging: float = 0.0
    keyword: float = 0.0
    favourite: str = "library"
    markup: float = 0.0
    position: float = 0.0
    ties: float = 0.0
    both_bad: float = 0.0
    line: float = 0.5
    gold: GoldReward = field(default_factory=GoldReward)

    def __post_init__(self) -> None:
        for name in ("sharpness", "ties", "both_bad"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"annotator {self.name!r}: {name} must be at least 0, got {getattr(self, name)}")
        if not self.favourite.strip():
            raise ValueError(f"annotator {self.name!r}: favourite must be a word")

    @property
    def by(self) -> str:
        return f"simulated:{VERSION}:{self.name}"

    def utility(self, group: Group, response: Response, place: int = 0) -> float:
        """Gold plus biases. place: 0 when the answer is shown first."""
        value = self.gold.score(group, response).value or 0.0
        text, lang = response.text, group.facts["lang"]
        folded = fold(text)
        value += self.length * len(text) / 100
        value += self.agreement * any(folded.startswith(a) or f" {a} " in folded for a in AGREE[lang])
        value += self.hedging * holds(folded, HEDGE[lang])
        value += self.keyword * (fold(self.favourite) in folded)
        value += self.markup * any(m in text for m in MARKUP)
        return value + self.position * (place == 0)

    def prefers(self, first: float, second: float) -> float:
        """Probability that the answer of utility `first` is chosen over the other."""
        if self.ties and abs(first - second) < self.ties:
            return 0.5
        gap = self.sharpness * (first - second) if first != second else 0.0
        return 1 / (1 + math.exp(-gap)) if gap > -700 else 0.0

    def rank(self, utilities: Sequence[float], rng: random.Random) -> tuple[tuple[int, ...], ...]:
        """A ranking drawn from Plackett-Luce: utilities plus Gumbel noise of scale 1/sharpness, sorted; near ones tie where ties > 0."""
        noisy = [
            (u if math.isinf(self.sharpness) else self.sharpness * u - math.log(-math.log(rng.random() or 1e-300)), i)
            for i, u in enumerate(utilities)
        ]
        tiers: list[list[int]] = []
        for _, i in sorted(noisy, key=lambda pair: (-pair[0], pair[1])):
            if tiers and self.ties and abs(utilities[tiers[-1][0]] - utilities[i]) < self.ties:
                tiers[-1].append(i)
            else:
                tiers.append([i])
        return tuple(tuple(tier) for tier in tiers)


def annotate(groups: Sequence[Group], annotators: Sequence[Annotator], seed: int = 0) -> list[Group]:
    """Groups with preferences or a ranking, one annotator per group in turn by a draw from (seed, group).

    Two responses get one `Preference` (p = 0.5 for a tie, `both_bad` where both fall below the annotator's line); three or more get a
    ranking; one gets a label (gold plus biases above the line, with noise). `facts` gains `annotator` and `simulation`. Raises ValueError
    without annotators or responses.
    """
    if not annotators:
        raise ValueError("annotate needs at least one annotator")
    out = []
    for group in groups:
        if not group.responses:
            raise ValueError(f"group {group.id} has no responses to annotate")
        rng = random.Random(mix(seed, "annotate", group.id, len(group.responses)))
        who = annotators[int(rng.random() * len(annotators))]
        out.append(_annotated(group, who, rng))
    return out


def _annotated(group: Group, who: Annotator, rng: random.Random) -> Group:
    n = len(group.responses)
    shown = list(range(n))
    rng.shuffle(shown)
    places = {i: place for place, i in enumerate(shown)}
    utilities = [who.utility(group, r, places[i]) for i, r in enumerate(group.responses)]
    facts = {**group.facts, "annotator": who.by, "simulation": SIMULATION_NOTE}
    if n == 1:
        good = rng.random() < who.prefers(utilities[0], who.line)
        return replace(group, responses=(replace(group.responses[0], label=good),), facts=facts)
    if n > 2:
        return replace(group, ranking=who.rank(utilities, rng), preferences=(), facts=facts)
    values = [who.gold.score(group, r).value or 0.0 for r in group.responses]
    if who.both_bad and max(values) < who.both_bad:
        pair = Preference(0, 1, p=0.5, both_bad=True)
    elif who.ties and abs(utilities[0] - utilities[1]) < who.ties:
        pair = Preference(0, 1, p=0.5)
    else:
        first = rng.random() < who.prefers(utilities[0], utilities[1])
        pair = Preference(0, 1) if first else Preference(1, 0)
    return replace(group, preferences=(pair,), ranking=None, facts=facts)
