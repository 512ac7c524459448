"""How likely raw texts are to a model, part by part: a domain, what lies outside it, the parts of a mixture.

A part's figure is the mean number of nats per token over all its texts, and its exponential, the perplexity (one
number per token of the model's own tokenizer: comparable between models that share it). Intervals resample whole
texts. The change between two models is paired by text. Gained and lost are read from that interval; kept is shown
where a loss of `margin` nats or more is ruled out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from posttrain.stats import Interval, cluster_bootstrap

Rows = Sequence[Mapping[str, Any]]
"""One mapping per text: part, id, nats (the sum over its tokens) and tokens."""
REPS = 2000


def sources(rows: Rows) -> list[str]:
    """The parts, in their order."""
    return list(dict.fromkeys(str(r["part"]) for r in rows))


def nats(rows: Rows, part: str, seed: int = 0) -> Interval:
    """Mean nats per token of a part."""
    made = [(float(r["nats"]), float(r["tokens"])) for r in rows if r["part"] == part and r["tokens"]]
    return cluster_bootstrap(made, stat=_per_token, reps=REPS, seed=seed)


def perplexity(made: Interval) -> Interval:
    """exp of nats per token; the ends go with it, as exp keeps their order."""
    return Interval(math.exp(made.estimate), math.exp(made.low), math.exp(made.high), made.n, made.method, made.level)


def _per_token(pairs: np.ndarray) -> float:
    return float(pairs[:, 0].sum() / pairs[:, 1].sum())


@dataclass(frozen=True, slots=True)
class Change:
    """after - before in nats per token (negative: likelier now). verdict: gained, lost, kept, or not decided."""

    part: str
    nats: Interval
    verdict: str


def change(after: Rows, before: Rows, part: str, margin: float, seed: int = 0) -> Change | None:
    """A part's change between two models on the texts that both read with as many tokens; None where there are fewer than two."""
    old = {str(r["id"]): r for r in before if r["part"] == part}
    pairs = [
        (float(r["nats"]) - float(old[str(r["id"])]["nats"]), float(r["tokens"]))
        for r in after
        if r["part"] == part and r["tokens"] and old.get(str(r["id"]), {}).get("tokens") == r["tokens"]
    ]
    if len(pairs) < 2:
        return None
    made = cluster_bootstrap(pairs, stat=_per_token, reps=REPS, seed=seed)
    return Change(part, made, verdict(made, margin))


def verdict(made: Interval, margin: float) -> str:
    """What an interval of a change in nats says, more nats being worse.

    >>> verdict(Interval(-0.2, -0.3, -0.1, 40, ""), 0.02), verdict(Interval(0.001, -0.01, 0.012, 40, ""), 0.02)
    ('gained', 'kept')
    """
    if not made.known:
        return "not decided"
    if made.high < 0:
        return "gained"
    if made.high < margin:
        return "kept"
    return "lost" if made.low > 0 else "not decided"
