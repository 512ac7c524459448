"""Text to ids, where control tokens come from the template only.

`guard` wraps each control token that a message's content spells in two Unicode noncharacters; `ids` and `after` encode what is
wrapped as ordinary text and all else as the tokenizer does. So a row without such content gets exactly the ids that the
tokenizer's own `apply_chat_template` gives. Control tokens are the tokenizer's special tokens, the stop set, and added tokens that
the template writes (``<tool_call>``); an assistant may write the latter itself, except those that open or close turns.
Left out: tokenizers whose normaliser maps other text onto a special token (the checks report it).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from posttrain.models.template import Template

OPEN, CLOSE = "\ufdd0", "\ufdd1"
_ROLE_KEYS = frozenset({"role", "type"})


def _any_of(words: Iterable[str]) -> str:
    return "|".join(re.escape(w) for w in sorted(set(words), key=len, reverse=True)) or r"(?!)"


class Speller:
    """Encodes guarded text for one tokenizer and template. stops: ids that end an answer."""

    def __init__(self, tokenizer: Any, template: Template, stops: Sequence[int]) -> None:
        self.tokenizer = tokenizer
        self.backend = getattr(tokenizer, "backend_tokenizer", None) if getattr(tokenizer, "is_fast", False) else None
        added = tokenizer.added_tokens_decoder
        words = {token.content: i for i, token in added.items() if not token.content.isspace()}
        names = {i: (added[i].content if i in added else tokenizer.convert_ids_to_tokens(i)) for i in stops}
        special = {t.content for t in added.values() if t.special and not t.content.isspace()} | set(names.values())
        written = {w for w in words if w in template.source}
        turn = self._turn_markers(words, template)
        self.control_words = special | written | turn
        self.control = re.compile(f"(?<!{OPEN})(?:{_any_of(self.control_words)})")
        self.opener = re.compile(f"(?<!{OPEN})(?:{_any_of(turn - set(names.values()))})")
        self.stop = re.compile(f"(?<!{OPEN})(?:{_any_of(names.values())})")
        self.control_ids = {words.get(w, tokenizer.convert_tokens_to_ids(w)): w for w in self.control_words}
        edge = f"[{OPEN}{CLOSE}]"
        self._guard = {
            "assistant": re.compile(f"{_any_of(special | turn)}|{edge}"),
            "other": re.compile(f"{_any_of(self.control_words)}|{edge}"),
        }
        self._guarded = re.compile(f"{OPEN}({_any_of(self.control_words)}|{edge}){CLOSE}|{edge}")
        self._newline = self._encode(["\n"])[0]
        self._spelled: dict[str, list[int]] = {}
        self._contexts: dict[str, tuple[str, list[int]]] = {}
        self.simple = self._continues()

    @staticmethod
    def _turn_markers(words: Mapping[str, int], template: Template) -> set[str]:
        """Added tokens that the template writes around a user's turn, and the first that opens an assistant's."""
        pattern = re.compile(_any_of(words))
        blank = dict.fromkeys(("bos_token", "eos_token"), "")
        try:
            chat = [{"role": "user", "content": "hi"}]
            asked = template.render([chat], blank)[0][0]
            opened = template.render([chat], blank, prompt=True)[0][0]
        except ValueError:
            return set()
        first = pattern.search(opened, len(asked) if opened.startswith(asked) else len(opened))
        return set(pattern.findall(asked)) | ({first.group()} if first else set())

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        if self.backend is None:
            return [self.tokenizer.encode(text, add_special_tokens=False) for text in texts]
        if self.backend.truncation is not None:
            self.backend.no_truncation()
        if self.backend.padding is not None:
            self.backend.no_padding()
        if self.backend.encode_special_tokens:
            self.backend.encode_special_tokens = False
        return [e.ids for e in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _continues(self) -> bool:
        """Is text in the middle encoded as text at the start (no space put before the first word)?"""
        probes = ("Hello", "7 x", "(a", "é")
        apart = self._encode(probes)
        joined = self._encode(["\n" + p for p in probes])
        return all(j == self._newline + a for a, j in zip(apart, joined, strict=True))

    def guard(self, value: Any, role: str) -> Any:
        """Content with its control words wrapped; lists and mappings are guarded inside (keys are left alone)."""
        if isinstance(value, str):
            return self._guard["assistant" if role == "assistant" else "other"].sub(f"{OPEN}\\g<0>{CLOSE}", value)
        if isinstance(value, Mapping):
            return {k: v if k in _ROLE_KEYS else self.guard(v, role) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.guard(v, role) for v in value]
        return value

    def plain(self, text: str) -> str:
        """Guarded text as a person wrote it."""
        return self._guarded.sub(lambda m: m.group(1) or "", text)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of whole texts (no BOS but the one in the text)."""
        return self._all([("", text) for text in texts])

    def after(self, jobs: Sequence[tuple[str, str]]) -> list[list[int]]:
        """Ids of each text as the continuation of the text before it: what is appended to the ids of that."""
        return self._all(jobs)

    def _all(self, jobs: Sequence[tuple[str, str]]) -> list[list[int]]:
        """Encode in one batch: ordinary parts of all jobs, then splice in the guarded words."""
        parts: list[tuple[int, str, str]] = []
        spliced: list[tuple[int, list[int]]] = []
        order: list[tuple[bool, int]] = []
        for job, (before, text) in enumerate(jobs):
            for context, part, word in self._parts(before, text):
                if word is not None:
                    order.append((True, len(spliced)))
                    spliced.append((job, self._word(word)))
                else:
                    order.append((False, len(parts)))
                    parts.append((job, context, part))
        encoded = self._continued([(context, part) for _, context, part in parts])
        out: list[list[int]] = [[] for _ in jobs]
        for guarded, i in order:
            job, ids = spliced[i] if guarded else (parts[i][0], encoded[i])
            if out[job]:
                out[job] = out[job] + ids
            else:
                out[job] = ids
        return out

    def _parts(self, before: str, text: str) -> Iterable[tuple[str, str, str | None]]:
        """(context, ordinary text, None) and ("", "", guarded word) in order; an empty context is the start of a text."""
        if OPEN not in text and CLOSE not in text:
            if text:
                yield before, text, None
            return
        at = 0
        for match in self._guarded.finditer(text):
            if match.start() > at:
                yield (before if at == 0 else "\n"), text[at : match.start()], None
            if match.group(1):
                yield "", "", match.group(1)
            at = match.end()
        if at < len(text):
            yield ("\n" if at else before), text[at:], None

    def _continued(self, jobs: Sequence[tuple[str, str]]) -> list[list[int]]:
        if self.simple:
            return self._encode([text for _, text in jobs])
        contexts = [self._context(before) for before, _ in jobs]
        joined = self._encode([c + text for (c, _), (_, text) in zip(contexts, jobs, strict=True)])
        out = []
        for (_, known), (_, text), ids in zip(contexts, jobs, joined, strict=True):
            out.append(ids[len(known) :] if ids[: len(known)] == known else self._inside(text))
        return out

    def _inside(self, text: str) -> list[int]:
        """Ids of text in the middle of a line, where it merges with what stands before: behind an anchor that it leaves alone."""
        for anchor in ("\n", "a", "1", "."):
            known, ids = self._encode([anchor, anchor + text])
            if ids[: len(known)] == known:
                return ids[len(known) :]
        return self._encode([text])[0]

    def _context(self, before: str) -> tuple[str, list[int]]:
        """The end of the text before, from its last control word on (whose ids stay as they are), and its ids."""
        if not before:
            return "", []
        tail = before[-48:]
        start = 0
        for match in self.control.finditer(tail):
            start = match.start()
        tail = self.plain(tail[start:])
        if tail not in self._contexts:
            if len(self._contexts) > 4096:
                self._contexts.clear()
            self._contexts[tail] = (tail, self._encode([tail])[0])
        return self._contexts[tail]

    def _word(self, word: str) -> list[int]:
        """Ids of a control word as ordinary text: spelled with its first character apart, so that nothing matches it."""
        if word not in self._spelled:
            halves = [word[:1], word[1:]] if len(word) > 1 else [word]
            ids = [i for half in halves for i in self._inside(half)]
            if any(i in self.control_ids for i in ids):
                raise ValueError(
                    f"the tokenizer makes a control token of plain text: {word!r} cannot be written as data"
                )
            self._spelled[word] = ids
        return self._spelled[word]
