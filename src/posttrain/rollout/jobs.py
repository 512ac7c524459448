"""What the sampler works on, in tokens: a `Job` is a prompt to answer n times, a `Sample` one of its answers as it grows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from posttrain.core.protocols import Sampling, Steer
from posttrain.rollout.draw import Chooser
from posttrain.rollout.text import TextStream


@dataclass(slots=True, eq=False)
class Job:
    """A prompt to answer n times, as tokens. `source` is what the caller asked with."""

    ids: list[int]
    sampling: Sampling
    n: int
    seed: int
    id: str
    source: Any = None
    steer: Steer | None = None
    started: int = 0
    handle: Any = None
    logits: Tensor | None = None


@dataclass(slots=True, eq=False)
class Sample:
    """One answer in tokens. stop: None while it runs, then ``stop``, ``length`` or ``cancelled``. text: only where text is followed."""

    job: Job
    index: int
    limit: int
    version: int
    chooser: Chooser
    follow: TextStream | None = None
    tokens: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    sampled_logps: list[float] = field(default_factory=list)
    stop: str | None = None
    news: str = ""


def check(s: Sampling, id: str) -> None:
    """Refuse settings that mean nothing."""
    for name, ok, want in (
        ("temperature", s.temperature >= 0, "0 or more"),
        ("top_p", 0 < s.top_p <= 1, "in (0, 1]"),
        ("top_k", s.top_k >= 0, "0 (off) or more"),
        ("min_p", 0 <= s.min_p <= 1, "in [0, 1]"),
        ("repetition_penalty", s.repetition_penalty > 0, "above 0"),
        ("min_tokens", 0 <= s.min_tokens <= s.max_tokens, "between 0 and max_tokens"),
    ):
        if not ok:
            raise ValueError(f"request {id}: sampling.{name} must be {want}, got {getattr(s, name)}")
