"""Answers of several turns: a sampler and an environment as one model, so that everything over `Rollouts` works with tools too.

    sampler = Episodes(Sampler(model, ...), environment, renderer, turns=4)
    source = Rollouts(prompts, sampler, reward, n=8)

The policy speaks until its stop token, the environment answers, and so on until it has nothing to say, the turns are used up or the budget
is. What the environment says is appended in tokens to what the policy drew and is context: untrained, without log-probabilities. Nothing
drawn is ever rendered or tokenised again, so the trainer sees the very tokens that were sampled. Leaves out environments that run beside
the sampler.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from posttrain.core.chat import Chat, as_chat, assistant
from posttrain.core.group import Group, Response
from posttrain.core.protocols import Environment, Event, Request
from posttrain.models.render import Renderer
from posttrain.rollout.sampler import Sampler

SAID = "said-here"
"""Stands for the policy's turn where the text after it is rendered."""


@dataclass(eq=False)
class Episode:
    """One answer as it grows: `prompt` ids, then `tokens` with `trained` and log-probabilities; `stop` when it has ended."""

    request: Request
    index: int
    world: Environment
    prompt: list[int]
    turns: Chat = ()
    tokens: list[int] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    sampled_logps: list[float] = field(default_factory=list)
    stop: str | None = None
    version: int | None = None

    def said(self, tokens: Sequence[int], logps: Sequence[float], sampled: Sequence[float], trained: bool) -> None:
        """Append tokens."""
        self.tokens += tokens
        self.trained += [int(trained)] * len(tokens)
        self.logps += logps
        self.sampled_logps += sampled

    def response(self) -> Response:
        """The answer as the trainer reads it."""
        return Response(
            turns=self.turns,
            tokens=np.array(self.tokens, dtype=np.int64),
            trained=np.array(self.trained, dtype=np.int8),
            logps=np.array(self.logps, dtype=np.float32),
            sampled_logps=np.array(self.sampled_logps, dtype=np.float32),
            stop=self.stop,
            version=self.version,
        )


class Episodes:
    """A `Model` that answers in turns with an environment. turns: how often the policy may speak in one answer.

    `Sampling.max_tokens` bounds the whole answer, the environment's tokens included.
    """

    def __init__(self, sampler: Sampler, environment: Environment, renderer: Renderer, turns: int = 4) -> None:
        if turns < 1:
            raise ValueError(f"turns is {turns}; the policy must speak at least once")
        self.sampler, self.environment, self.renderer, self.turns = sampler, environment, renderer, turns

    def sync(self, model: Any | None = None, version: int | None = None) -> None:
        """New weights, for the sampler."""
        self.sampler.sync(model, version)

    def rest(self) -> None:
        """The sampler is not needed until the next request."""
        self.sampler.rest()

    def generate(self, requests: Sequence[Request]) -> list[Group]:
        """One Group per request with its n answers."""
        made = [self._begin(request) for request in requests]
        live = [episode for episodes in made for episode in episodes]
        for turn in range(self.turns):
            self._speak(live, turn)
            live = [e for e in live if e.stop is None]
            for episode in live:
                self._hear(episode, last=turn + 1 == self.turns)
            live = [e for e in live if e.stop is None]
        return [
            Group(
                as_chat(request.prompt),
                tuple(e.response() for e in episodes),
                facts=request.facts,
                prompt_tokens=np.array(episodes[0].prompt, dtype=np.int64),
                tools=request.tools,
            )
            for request, episodes in zip(requests, made, strict=True)
        ]

    def stream(self, requests: Iterable[Request]) -> Iterator[Event]:
        """One event per answer, once its episode has ended."""
        for number, request in enumerate(requests):
            (group,) = self.generate([request])
            for index, r in enumerate(group.responses):
                name = str(number) if request.id is None else request.id
                yield Event(name, index, r.text, tuple(r.tokens), tuple(r.logps), tuple(r.sampled_logps), r.stop)  # type: ignore[arg-type]

    def _begin(self, request: Request) -> list[Episode]:
        ids = list(self.renderer.prompt(as_chat(request.prompt), request.tools))
        asked = Group(as_chat(request.prompt), facts=request.facts, tools=request.tools)
        return [Episode(request, i, self.environment.reset(asked), ids) for i in range(request.n)]

    def _speak(self, live: Sequence[Episode], turn: int) -> None:
        """Draw the policy's next turn of every episode, together."""
        asks = []
        for e in live:
            room = e.request.sampling.max_tokens - len(e.tokens)
            asks.append((e.prompt + e.tokens, replace(e.request.sampling, max_tokens=room), _seed(e, turn)))
        for e, sample in zip(live, self.sampler.turns(asks), strict=True):
            e.said(sample.tokens, sample.logps, sample.sampled_logps, trained=True)
            e.turns = (*e.turns, assistant(self.sampler.text(sample)))
            e.version = sample.version if e.version is None else e.version
            e.stop = None if sample.stop == "stop" else sample.stop

    def _hear(self, episode: Episode, last: bool) -> None:
        """Append what the environment answers; nothing ends the episode, and so does an answer to the last turn there is."""
        prompt = as_chat(episode.request.prompt)
        heard = tuple(episode.world.step((*prompt, *episode.turns)))
        if not heard:
            episode.stop = "stop"
            return
        if last:
            episode.stop = "length"
            return
        ids = self.after(prompt, heard, episode.request.tools)
        used = len(episode.tokens) + len(ids)
        if used >= episode.request.sampling.max_tokens or len(episode.prompt) + used >= self.sampler.max_context:
            episode.stop = "length"
            return
        episode.turns = (*episode.turns, *heard)
        episode.said(ids, [0.0] * len(ids), [0.0] * len(ids), trained=False)

    def after(self, prompt: Chat, heard: Chat, tools: Sequence[Any]) -> list[int]:
        """Ids from behind the stop token of the policy's turn to the opening of its next one. Raises ValueError where the template
        does not write turns one after the other."""
        whole = self.renderer.prompt_text((*prompt, assistant(SAID), *heard), tuple(tools))
        at = whole.rfind(SAID)
        stop = self.renderer.speller.stop.search(whole, at) if at >= 0 else None
        if stop is None:
            raise ValueError(
                f"template {self.renderer.template.name!r} writes no stop token after the policy's turn, so turns cannot be "
                "appended; choose another template"
            )
        return list(self.renderer.speller.after([(whole[: stop.end()], whole[stop.end() :])])[0])


def _seed(episode: Episode, turn: int) -> int:
    digest = hashlib.blake2b(f"{episode.request.seed}:{episode.index}:{turn}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "little")
