"""What the server asks of a local model: prompts of any shape as tokens, guards by name, texts of tokens.

Templates are strict about the order of roles and some know no system turn; people and scanners are not. A chat is rendered as given where
the template takes it, else with equal neighbours joined and the system turn in front of the first user turn, else as one user turn.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from posttrain.core.chat import Chat, Message, user
from posttrain.core.protocols import Steer
from posttrain.guard.file import GuardFile
from posttrain.guard.pipeline import Chain, Guard
from posttrain.guard.vocabulary import Vocabulary
from posttrain.jobs.detecting import detector
from posttrain.models.load import Loaded
from posttrain.models.render import Renderer
from posttrain.rollout.sampler import Sampler
from posttrain.serve.app import Key

MOST_PHRASES = 1000


@dataclass
class LocalFront:
    """One loaded model as the server sees it. guards: files by name; `guard_name` is everybody's."""

    loaded: Loaded
    name: str
    context: int
    guards: Mapping[str, GuardFile] = field(default_factory=dict)
    guard_name: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _built: dict[str, Guard | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.renderer = Renderer.of(self.loaded)
        model: Any = self.loaded.model
        self.vocabulary = Vocabulary.of(self.loaded.tokenizer, int(model.get_output_embeddings().weight.shape[0]))
        if self.guard_name is not None:
            self._guard(self.guard_name)
        for name, file in self.guards.items():
            if name == self.guard_name:
                file.detectors((*file.before, *file.behind), detector)  # what cannot be opened is said at the start
            elif file.before or file.behind:
                raise ValueError(
                    f"guard {name!r}: detectors stand before and behind all answers, so only the first guard may name them"
                )
            if file.steer is not None and name != self.guard_name:
                raise ValueError(
                    f"guard {name!r}: a steering vector acts on all answers, so only the first guard may name one"
                )

    def sampler(self, slots: int) -> Sampler:
        """The decoder that answers behind this front."""
        loaded = self.loaded
        made = Sampler(loaded.model, loaded.tokenizer, loaded.stops, self.encode, slots=slots, max_context=self.context)
        if self.guard_name is not None:
            made.edit = self.guards[self.guard_name].edit(int(loaded.model.get_input_embeddings().weight.shape[1]))  # type: ignore[operator,union-attr,index]
        return made

    def encode(self, chat: Chat, tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        """Prompt ids; a document is its start token and its text. Tokenizers are not safe from two threads at once."""
        with self._lock:
            if all(m.role == "document" for m in chat):
                return self._document("".join(m.content for m in chat))
            for form in (chat, folded(chat), (user("\n\n".join(m.content for m in chat)),)):
                try:
                    return list(self.renderer.prompt(form))
                except ValueError:
                    continue
            raise ValueError(f"template {self.renderer.template.name!r} renders no chat of one user turn")

    def _document(self, text: str) -> list[int]:
        tokenizer, speller = self.loaded.tokenizer, self.renderer.speller
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        ids = speller.ids([speller.guard(text, "user")])[0]
        return list(ids) if start is None or list(ids[:1]) == [start] else [start, *ids]

    def count(self, chat: Chat) -> int:
        return len(self.encode(chat))

    def token_text(self, token: int) -> str:
        """A token as text; special tokens by their name."""
        with self._lock:
            return str(self.loaded.tokenizer.decode([token]))

    # -- guards ------------------------------------------------------------------------------------------------------------------------

    def _guard(self, name: str) -> Guard | None:
        if name not in self.guards:
            raise ValueError(f"no guard is called {name!r} here; known: {', '.join(sorted(self.guards)) or 'none'}")
        if name not in self._built:
            self._built[name] = self.guards[name].steering(self.vocabulary, self.loaded.stops, name)
        return self._built[name]

    def guard(self, options: Mapping[str, Any], key: Key) -> Steer | None:
        """The server's guard, the key's and what the request adds; only an admin key may leave the first two out. Raises ValueError."""
        for name in options:
            if name not in ("ban", "words", "guard"):
                raise ValueError(
                    f"posttrain.{str(name)[:40]}: unknown; a request may add ban and words, or name a guard"
                )
        names = [n for n in (self.guard_name, key.guard) if n]
        asked = options.get("guard")
        if asked == "off":
            if not key.admin:
                raise ValueError("posttrain.guard: only an admin key may turn the guard off")
            names = []
        elif asked is not None:
            names.append(str(asked))
        parts = [self._guard(n) for n in dict.fromkeys(names)]
        added = {name: self._phrases(options, name) for name in ("ban", "words")}
        if any(added.values()):
            own = GuardFile(ban=tuple(added["ban"]), words=tuple(added["words"]))
            parts.append(own.steering(self.vocabulary, self.loaded.stops, "request"))
        steers = [p for p in parts if p is not None]
        return Chain(*steers) if steers else None

    @staticmethod
    def _phrases(options: Mapping[str, Any], name: str) -> list[str]:
        value = options.get(name) or []
        if not isinstance(value, list) or not all(isinstance(p, str) for p in value) or len(value) > MOST_PHRASES:
            raise ValueError(f"posttrain.{name} must be a list of at most {MOST_PHRASES} strings")
        return [p.encode("utf-8", "replace").decode() for p in value]

    @property
    def reads_whole(self) -> bool:
        """Must answers be complete before they are shown?"""
        guard = self.guards.get(self.guard_name or "")
        return guard is not None and bool(guard.behind)

    def blocked(self, chat: Chat) -> str | None:
        """What to answer instead, where a detector stands before the model and the last turn is flagged."""
        guard = self.guards.get(self.guard_name or "")
        if guard is None or not chat:
            return None
        text = chat[-1].content
        return guard.message if any(d("", text).flagged for d in guard.detectors(guard.before, detector)) else None

    def checked(self, chat: Chat, text: str) -> str:
        """The answer, or the message where a detector behind the model flags it."""
        guard = self.guards.get(self.guard_name or "")
        if guard is None or not guard.behind:
            return text
        asked = chat[-1].content if chat else ""
        return guard.message if any(d(asked, text).flagged for d in guard.detectors(guard.behind, detector)) else text


def folded(chat: Chat) -> Chat:
    """System text in front of the first user turn, tool turns as the user's, equal neighbours joined, the user first."""
    system = "\n\n".join(m.content for m in chat if m.role == "system")
    turns: list[Message] = []
    for m in chat:
        if m.role == "system":
            continue
        role = "assistant" if m.role == "assistant" else "user"
        if turns and turns[-1].role == role:
            turns[-1] = replace(turns[-1], content=f"{turns[-1].content}\n\n{m.content}")
        else:
            turns.append(Message(role, m.content))
    if not turns or turns[0].role != "user":
        turns.insert(0, user(""))
    if system:
        turns[0] = user(f"{system}\n\n{turns[0].content}".strip())
    return tuple(turns)
