"""The base of every method: fields are the configuration, `prepare` is what needs no gradient, `loss` is pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from posttrain.core.batch import Batch
from posttrain.core.group import Group
from posttrain.core.needs import Loss, Needs, Output
from posttrain.core.protocols import Engine
from posttrain.core.recipe import Kind

Unit = str
"""``token``, ``row``, ``group``, or the name of data that the method counts itself (`Batch.counting`), such as ``chosen``."""
Atom = Literal["row", "group", "step"]


@dataclass(frozen=True)
class Example:
    """What the laws need of a method: two tiny groups and known values.

    groups: with `prompt_tokens`, `tokens` and `trained` set. anchors: name to (outputs to feed, expected value of that sum or metric).
    variants: further settings of the fields that meet the laws too, beside the defaults.
    """

    groups: list[Group]
    anchors: Mapping[str, Anchor] = field(default_factory=dict)
    variants: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Anchor:
    """A known value: at these outputs (lists, by field of `Output` or of batch data) the sum has this value."""

    outputs: Mapping[str, Any]
    expected: Mapping[str, float]
    data: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)


class Method(Kind):
    """One way to learn. Subclasses declare `sums` (what each sum is divided by) and `atom` (what may not be cut)."""

    family: ClassVar[str] = "method"
    sums: ClassVar[dict[str, Unit]] = {}
    atom: ClassVar[Atom] = "group"
    wants: ClassVar[str] = ""
    """The groups that this method reads, in one line: for the table of methods and for refusals."""
    learning_rate: ClassVar[tuple[float, float]] = (1e-5, 1e-4)
    """Published defaults: full weights, LoRA."""
    head_learning_rate: ClassVar[float | None] = None
    """Default of new heads where the rest's is too small for one that starts at zero; None takes the rest's."""
    symmetric: ClassVar[bool] = False
    """Does the order of responses inside a group change nothing?"""

    online: ClassVar[bool] = False
    """Does it learn from scored answers of the policy itself, so that a run has to sample?"""

    task: ClassVar[str] = ""
    """The task head of `transformers` that the result is saved with, or "" for language models."""

    def settled(self, groups: Sequence[Group], tokenizer: Any) -> Method:
        """The method with what only data or tokenizer can tell filled in, such as the names of classes."""
        return self

    def needs(self) -> Needs:
        raise AssertionError(f"{type(self).__name__} declares no needs")

    def updates(self) -> tuple[int, int]:
        """How often a step's groups are passed over, and into how many minibatches each pass is cut: 1 and 1 but for PPO and its kin."""
        return 1, 1

    def accepts(self, group: Group) -> str | None:
        """Why this group cannot be learned from, or None. The job counts refusals by reason and never drops silently."""
        return None if group.responses else "no response"

    def arrange(self, groups: Sequence[Group]) -> Sequence[Group]:
        """The step's groups as this method reads them, on every rank alike: extra untrained rows, labels read from pairs. Pure, and
        arranging twice changes nothing more."""
        return groups

    def batch(self, groups: Sequence[Group], engine: Engine) -> Batch:
        """From the groups of a step to what `loss` reads: arranged, laid out, prepared."""
        return self.prepare(engine.layout(self.arrange(groups)), engine)

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        """Add what needs no gradient: reference log-probs, values, advantages. `engine.total` works here."""
        return batch

    def enough(self, metrics: Mapping[str, float]) -> bool:
        """Should the passes over this step's groups end here? metrics: of the update just made."""
        return False

    def figures(self, batch: Batch, engine: Engine) -> Mapping[str, tuple[float, float]]:
        """What the prepared step says by itself, as (sum, count) of this rank: rewards, lengths, KL. Told once, not once per pass."""
        return {}

    def idle(self, batch: Batch) -> Sequence[int]:
        """Rows that cannot change the gradient. They are left out of the forward and stay in the counts: an exact skip."""
        return ()

    def loss(self, out: Output, batch: Batch) -> Loss:
        """One sum over units for each name in `sums`. Pure: no state, no collective, no batch statistics."""
        raise AssertionError(f"{type(self).__name__} declares no loss")

    def after(self, step: int, metrics: Mapping[str, float], engine: Engine) -> None:
        """What changes between steps: adaptive KL, a moving reference."""

    def state(self) -> dict[str, Any]:
        """What `after` remembers, as plain values; saved with every checkpoint."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`."""

    @classmethod
    def example(cls) -> Example:
        raise AssertionError(f"{cls.__name__} gives no example, so no law can test it")
