"""The Group: one prompt, some responses, and a reason to prefer some of them.

It carries the data of every method from file to gradient. SFT is a group of one, a preference pair a group of two, a ranking
a group of k, KTO a group of one with a label, GRPO a group of n with scores.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from posttrain.core.chat import Chat, Message, as_chat, assistant, chat_text


@dataclass(frozen=True, slots=True)
class Score:
    """What a reward says of one response: a value, its parts, and why.

    value is None where the response cannot be scored (never silently 0); it then takes part in no baseline and no pair.
    """

    value: float | None
    parts: Mapping[str, float] = field(default_factory=dict)
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "parts": dict(self.parts), "why": self.why}


class Preference(NamedTuple):
    """Response `i` against response `j` of the same group.

    p: probability that i is better (1 = surely, 0.5 = a tie, anything between is a soft label).
    weight: how much the pair counts. margin: by how much i should win (Llama 2), in reward units.
    both_bad: annotators rejected both; such a pair is data for audits and never enters a loss as a tie.
    """

    i: int
    j: int
    p: float = 1.0
    weight: float = 1.0
    margin: float = 0.0
    both_bad: bool = False


class Mark(NamedTuple):
    """What is said of a text: `label` holds of its characters start .. end (end None = to its end).

    A class is a mark on the whole text, a named entity a mark on a piece, an extracted answer a mark on the piece that answers.
    """

    label: str
    start: int = 0
    end: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """One answer.

    turns: what was said (tool and user turns inside an answer are context, never trained).
    tokens, trained: ids and 0/1 flags of equal length once rendered; ids are appended to the prompt's.
    logps, sampled_logps: log-probabilities per token at sampling time, before and after truncation, penalties and bans.
    stop: why sampling ended (``stop``, ``length``, ``cancelled``). version: weights that sampled it.
    score: a reward's verdict. label: good or bad (KTO). weight: how much it counts. by: who wrote it.
    kind: ``main``, or an untrained extra such as ``kl`` (KTO) or ``baseline`` (ReMax) that no count includes.
    marks: what is said of the text or of pieces of it (None = nothing is known, () = nothing is there to mark).
    offsets [tokens, 2]: characters of the text behind each token, where marks were rendered. tags [tokens]: an id that a method asks
    for at each token (-1 = nothing is asked), read into batch data `tag`.
    """

    turns: Chat = ()
    tokens: np.ndarray | None = None
    trained: np.ndarray | None = None
    logps: np.ndarray | None = None
    sampled_logps: np.ndarray | None = None
    stop: str | None = None
    version: int | None = None
    score: Score | None = None
    label: bool | None = None
    weight: float = 1.0
    by: str | None = None
    kind: str = "main"
    marks: tuple[Mark, ...] | None = None
    offsets: np.ndarray | None = None
    tags: np.ndarray | None = None

    @property
    def text(self) -> str:
        """Content of the assistant turns, joined by newlines (a plain document's own text)."""
        return "\n".join(m.content for m in self.turns if m.role in ("assistant", "document"))

    def to_json(self) -> dict[str, Any]:
        """Readable part as a JSON object (tokens and log-probabilities stay in memory)."""
        out: dict[str, Any] = {"turns": [m.to_json() for m in self.turns]}
        for name in ("stop", "version", "label", "by"):
            if getattr(self, name) is not None:
                out[name] = getattr(self, name)
        if self.score is not None:
            out["score"] = self.score.to_json()
        if self.weight != 1.0:
            out["weight"] = self.weight
        if self.marks is not None:
            out["marks"] = [list(m) for m in self.marks]
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """A prompt and its responses.

    preferences: which response is better than which. ranking: tiers of response indices, best first, ties inside a tier
    (``((2,), (0, 1))`` = 2 best, 0 and 1 equal). facts: gold answer, id, source, split and whatever a reward needs.
    prompt_tokens: ids once rendered, at least one. tools: tool schemas offered to the model.
    """

    prompt: Chat
    responses: tuple[Response, ...] = ()
    preferences: tuple[Preference, ...] = ()
    ranking: tuple[tuple[int, ...], ...] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    prompt_tokens: np.ndarray | None = None
    tools: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        n = len(self.responses)
        for pair in self.preferences:
            if not (0 <= pair.i < n and 0 <= pair.j < n) or pair.i == pair.j:
                raise ValueError(f"preference {pair.i} over {pair.j} does not name two of the {n} responses")
            if not 0.0 <= pair.p <= 1.0:
                raise ValueError(f"preference probability must lie in [0, 1], got {pair.p}")
        if self.ranking is not None:
            named = [i for tier in self.ranking for i in tier]
            if len(named) != len(set(named)) or any(not 0 <= i < n for i in named):
                raise ValueError(f"ranking {self.ranking} does not name {n} responses once each")

    @property
    def id(self) -> str:
        """The row's own id where facts has one, else a hash of the prompt's text."""
        given = self.facts.get("id")
        return str(given) if given is not None else self.prompt_hash

    @property
    def place(self) -> str:
        """How a message names the row: its id, and file and line where it was read from one."""
        where = self.facts.get("where")
        return f"row {self.id}" if where is None else f"row {self.id} ({where})"

    @property
    def prompt_hash(self) -> str:
        """Content hash of the prompt: equal prompts share it whatever their answers."""
        body = json.dumps([m.to_json() for m in self.prompt], ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(body.encode()).hexdigest()[:16]

    @property
    def prompt_text(self) -> str:
        return chat_text(self.prompt)

    def with_responses(self, responses: Sequence[Response], **changes: Any) -> Group:
        """The same prompt with other responses; preferences and ranking are dropped unless given, as they name indices."""
        changes.setdefault("preferences", ())
        changes.setdefault("ranking", None)
        return replace(self, responses=tuple(responses), **changes)

    def pairs(self) -> tuple[Preference, ...]:
        """The group's preference pairs: as given, else every ordered pair that the ranking implies (no pair inside a tie)."""
        if self.preferences or self.ranking is None:
            return self.preferences
        tiers = self.ranking
        return tuple(
            Preference(i, j) for a, tier in enumerate(tiers) for i in tier for later in tiers[a + 1 :] for j in later
        )

    def to_json(self) -> dict[str, Any]:
        """Readable row; `from_json` reads it back."""
        out: dict[str, Any] = {
            "prompt": [m.to_json() for m in self.prompt],
            "responses": [r.to_json() for r in self.responses],
        }
        if self.preferences:
            out["preferences"] = [list(p) for p in self.preferences]
        if self.ranking is not None:
            out["ranking"] = [list(t) for t in self.ranking]
        if self.facts:
            out["facts"] = dict(self.facts)
        if self.tools:
            out["tools"] = [dict(t) for t in self.tools]
        return out

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Group:
        """Inverse of `to_json`."""
        responses = []
        for r in row.get("responses", ()):
            score = r.get("score")
            responses.append(
                Response(
                    turns=as_chat(r["turns"]),
                    stop=r.get("stop"),
                    version=r.get("version"),
                    label=r.get("label"),
                    by=r.get("by"),
                    weight=float(r.get("weight", 1.0)),
                    marks=None if r.get("marks") is None else tuple(Mark(*m) for m in r["marks"]),
                    score=None
                    if score is None
                    else Score(score["value"], score.get("parts", {}), score.get("why", "")),
                )
            )
        ranking = row.get("ranking")
        return cls(
            prompt=as_chat(row["prompt"]),
            responses=tuple(responses),
            preferences=tuple(Preference(*p) for p in row.get("preferences", ())),
            ranking=None if ranking is None else tuple(tuple(t) for t in ranking),
            facts=row.get("facts", {}),
            tools=tuple(row.get("tools", ())),
        )


def answer(text: str, **fields: Any) -> Response:
    """A response of one assistant turn."""
    return Response(turns=(assistant(text),), **fields)


def group(prompt: str | Chat, *responses: str | Response, **fields: Any) -> Group:
    """A group from text, for tests and short scripts: ``group("2+2?", "4", "5", preferences=(Preference(0, 1),))``."""
    made = tuple(answer(r) if isinstance(r, str) else r for r in responses)
    return Group(prompt=as_chat(prompt), responses=made, **fields)


def document(text: str, **fields: Any) -> Group:
    """A plain text for language modelling: no prompt (rendering gives it BOS), one document as the response."""
    return Group(prompt=(), responses=(Response(turns=(Message("document", text),)),), **fields)
