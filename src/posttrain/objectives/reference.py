"""What methods with a frozen reference share: what they need, and its log-probs beside the batch's tokens."""

from __future__ import annotations

from posttrain.core.batch import Batch
from posttrain.core.needs import Needs
from posttrain.core.protocols import Engine

AGAINST_REFERENCE = Needs(logp=True, roles=frozenset({"reference"}))
"""Log-probs of the policy, and a reference to hold them against."""


def with_reference(batch: Batch, engine: Engine) -> Batch:
    """The batch with `ref` [N]: the reference's log-prob of each trained token."""
    reference = engine.score(batch, Needs(logp=True), role="reference").logp
    assert reference is not None
    return batch.plus("token", ref=reference)
