"""KL of a model from another, in nats per answer, estimated on answers that the model draws at temperature 1.

The mean over answers of sum_t log p(model) - log p(reference) is an unbiased estimate on the model's own draws alone; on greedy answers, or
those of another model, the same mean is no estimate of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from posttrain.core.group import Group
from posttrain.core.protocols import Request, Sampling
from posttrain.jobs import assembly
from posttrain.rollout.policy import Policy


def log_ratios(model: str, reference: str, groups: Sequence[Group], max_tokens: int, seed: int) -> np.ndarray:
    """One log-ratio per prompt [groups], of one answer each."""
    policy, other = Policy.open(assembly.resolve(model)), Policy.open(assembly.resolve(reference))
    drawn = policy.generate(
        [Request(g.prompt, Sampling(max_tokens=max_tokens), seed=seed, id=g.id, tools=g.tools) for g in groups]
    )
    ours, theirs = policy.logp(drawn), other.logp(drawn)
    return np.asarray([float(a[0].double().sum() - b[0].double().sum()) for a, b in zip(ours, theirs, strict=True)])
