"""The exact bytes of every token, and what they read as under a folding, so that "what would this token add to the text?" is a look-up.

Byte-level BPE (the table of GPT-2), SentencePiece-like vocabularies (the mark of a space, ``<0xNN>`` bytes) and WordPiece (``##``). Special
tokens have no bytes: they never become text. Any other tokenizer is asked to decode each token alone.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from typing import Any, NamedTuple

import numpy as np

from posttrain.guard.fold import EDGE, FOLDING, OTHER, Folding, characters, symbols, word_class

BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def byte_alphabet() -> dict[str, int]:
    """The printable stand-ins of the 256 bytes in byte-level BPE (Radford et al. 2019): character to byte."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(rest)}


def token_bytes(tokenizer: Any) -> list[bytes | None]:
    """Bytes that each id adds to the text; None for special tokens. Ids run to the largest one."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    kind = json.dumps(backend.get("decoder") or {})
    special = set(tokenizer.all_special_ids) | {t["id"] for t in backend.get("added_tokens", ()) if t["special"]}
    added = {t["id"]: t["content"] for t in backend.get("added_tokens", ())}
    vocabulary = {i: piece for piece, i in tokenizer.get_vocab().items()}
    alphabet = byte_alphabet() if "ByteLevel" in kind else None
    out: list[bytes | None] = []
    for i in range(max(vocabulary) + 1):
        piece = vocabulary.get(i)
        if piece is None or i in special:
            out.append(None)
        elif i in added:
            out.append(added[i].encode())
        elif alphabet is not None:
            out.append(bytes(alphabet[c] for c in piece) if all(c in alphabet for c in piece) else piece.encode())
        elif "WordPiece" in kind:
            out.append((piece[2:] if piece.startswith("##") else " " + piece).encode())
        elif "ByteFallback" in kind or "▁" in kind or "Metaspace" in kind:
            byte = BYTE.fullmatch(piece)
            out.append(bytes([int(byte.group(1), 16)]) if byte else piece.replace("▁", " ").encode())
        else:
            out.append(tokenizer.decode([i]).encode())
    return out


class Vocabulary:
    """Tokens as bytes. size: width of the model's logits, which may exceed the tokenizer; the ids beyond have no bytes."""

    def __init__(self, bodies: list[bytes | None], size: int | None = None) -> None:
        self.size = max(size or 0, len(bodies))
        self.bodies = bodies + [None] * (self.size - len(bodies))
        self._spellings: dict[Folding, Spelling] = {}

    @classmethod
    def of(cls, tokenizer: Any, size: int | None = None) -> Vocabulary:
        return cls(token_bytes(tokenizer), size)

    def spelling(self, folding: Folding = FOLDING) -> Spelling:
        """The tokens under a folding, made once for all bans."""
        if folding not in self._spellings:
            self._spellings[folding] = Spelling(self.bodies, folding)
        return self._spellings[folding]


class Spelled(NamedTuple):
    """A token as folded text. path: its symbols from the first character on, without a boundary before it. first, last: classes of its
    first and last character (-1 where everything folds to nothing). pending: bytes at its end that may still become a character."""

    path: str
    first: int
    last: int
    pending: bytes

    def after(self, cls: int) -> tuple[str, int]:
        """Its symbols after a character of class `cls`, boundary included, and the class they end with."""
        if self.first < 0:
            return "", cls
        return (EDGE + self.path if self.first != cls or self.first == 2 else self.path), self.last


class Spelling:
    """All tokens of a vocabulary under one folding, also in the order of their symbols, so that "which tokens begin with this?" is a range.

    tokens: by id, None for special ones. inside: tokens that begin in the middle of a character. paths, order, first: symbols, ids and
    first class of those that add text, sorted by symbols.
    """

    def __init__(self, bodies: list[bytes | None], folding: Folding) -> None:
        self.tokens = [spelled(body, folding) if body else None for body in bodies]
        self.inside = np.array([0x80 <= (body or b" ")[0] < 0xC0 for body in bodies])
        order = sorted((t for t, s in enumerate(self.tokens) if s and s.path), key=lambda t: self.tokens[t].path)  # type: ignore[union-attr]
        self.paths = [self.tokens[t].path for t in order]  # type: ignore[union-attr]
        self.order = np.array(order, dtype=np.int64)
        self.first = np.array([self.tokens[t].first for t in order], dtype=np.int8)  # type: ignore[union-attr]

    def beginning(self, path: str) -> tuple[int, int]:
        """The range [low, high) of `order` whose symbols begin with `path` (not empty)."""
        low = bisect_left(self.paths, path)
        return low, bisect_left(self.paths, path[:-1] + chr(ord(path[-1]) + 1), low)


def spelled(body: bytes, folding: Folding) -> Spelled:
    """A token's bytes (not empty) as folded text.

    >>> spelled(b"B\\xc3\\xa9a\\xe2", FOLDING)
    Spelled(path='bea', first=1, last=1, pending=b'\\xe2')
    """
    text, pending = characters(body)
    folded = folding.text(text)
    if not folded:
        return Spelled("", -1, -1, pending)
    first = word_class(OTHER if folded[0] == EDGE else folded[0])
    path, last = symbols(folded, first)
    return Spelled(path.removeprefix(EDGE), first, last, pending)
