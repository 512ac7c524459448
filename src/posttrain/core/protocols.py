"""The protocols that join the rooms. Wrappers have the same type in and out, so features are products of these.

`Model` is all that safety, audit, synthesis, judges and the server ever see; `Reward` scores, `Source` feeds, `Engine` computes.
The base of every method, `Method`, lives in `core.method`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from posttrain.core.chat import Chat
from posttrain.core.group import Group, Score

if TYPE_CHECKING:
    from torch import Tensor

    from posttrain.core.batch import Batch
    from posttrain.core.needs import Needs, Output

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw tokens.

    temperature: 0 is greedy. top_p, top_k (0 = off), min_p (0 = off): truncation, applied in the order top-k, top-p, min-p after
    the temperature. repetition_penalty: above 1 lowers tokens already present. max_tokens: budget per answer. stop: texts that end
    it (the stop text is not part of the answer). min_tokens: stop ids are forbidden before.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int = 256
    min_tokens: int = 0
    stop: tuple[str, ...] = ()

    @property
    def truncates(self) -> bool:
        """Do sampled log-probabilities differ from the model's own at this temperature?"""
        return self.top_p < 1 or self.top_k > 0 or self.min_p > 0 or self.repetition_penalty != 1 or self.min_tokens > 0


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to answer n times. seed: the i-th answer depends on (seed, i) and the prompt alone, never on the batch."""

    prompt: Chat
    sampling: Sampling = Sampling()
    n: int = 1
    seed: int = 0
    id: str | None = None
    steer: Steer | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """A piece of progress of one answer: new text, its tokens and log-probabilities, and a stop reason on the last event."""

    id: str
    index: int
    text: str = ""
    tokens: tuple[int, ...] = ()
    logps: tuple[float, ...] = ()
    sampled_logps: tuple[float, ...] = ()
    stop: str | None = None


class Model(Protocol):
    """Anything that answers: our engine, a stub, an endpoint."""

    def stream(self, requests: Iterable[Request]) -> Iterator[Event]: ...

    def generate(self, requests: Sequence[Request]) -> list[Group]: ...


@runtime_checkable
class Scorer(Protocol):
    """A model that also knows log-probabilities: one tensor [tokens of the response] per response."""

    def logp(self, groups: Sequence[Group]) -> list[list[Tensor]]: ...


class Reward(Protocol):
    """Rule, reward model, judge, ensemble, ledger: one Score per response of each group, in order."""

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]: ...


class Steer(Protocol):
    """Decoding-time control of one row; its state moves with the row."""

    def start(self, request: Request) -> Any: ...

    def mask(self, state: Any) -> Tensor | None:
        """Tokens that may be drawn [V] bool, or the ids of those that may not [k] int64, or None where all may."""
        ...

    def adjust(self, state: Any, logits: Tensor) -> Tensor: ...

    def advance(self, state: Any, token: int) -> Any: ...


class Environment(Protocol):
    """What answers the policy between its turns: a tool, a game, a simulated person."""

    def reset(self, group: Group) -> Environment:
        """An environment for one answer to this group's prompt, in its first state."""
        ...

    def step(self, chat: Chat) -> Chat:
        """What follows the policy's last turn (chat: the prompt and all turns so far); nothing ends the answer."""
        ...


class Source(Protocol):
    """Where groups come from. Offline ignores the policy, online samples and scores with it; both resume."""

    def stream(self, policy: Any) -> Iterator[list[Group]]: ...

    def publish(self, engine: Engine, version: int) -> None: ...

    def state(self) -> dict[str, Any]: ...

    def load(self, state: Mapping[str, Any]) -> None: ...


class Engine(Protocol):
    """Computes on one device or many. Rows of an Output are aligned with the batch given. flops: useful operations so far."""

    flops: float

    def layout(self, groups: Sequence[Group]) -> Batch: ...

    def score(self, batch: Batch, needs: Needs, role: str = "policy") -> Output: ...

    def forward(self, piece: Batch, needs: Needs) -> Output: ...

    def backward(self, loss: Tensor) -> None: ...

    def step(self) -> Mapping[str, float]: ...

    def plan(self, batch: Batch, atom: str, ordered: bool = True) -> list[Batch]: ...

    def each(self, pieces: Sequence[Batch], work: Callable[[Any, Batch], T]) -> Iterator[T]: ...

    def move(self, role: str, share: float) -> None: ...

    def total(self, counts: Mapping[str, float]) -> dict[str, float]: ...

    def gather(self, values: Tensor) -> Tensor: ...

    def state(self) -> dict[str, Any]: ...

    def load(self, state: Mapping[str, Any]) -> None: ...


PlainReward = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
"""What people write: prompts and responses as text in, floats out. `rewards.as_reward` makes a Reward of it."""
