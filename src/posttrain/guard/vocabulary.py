"""The exact bytes of every token, and a trie of them, so that "what would this token add to the text?" is a look-up.

Byte-level BPE (the table of GPT-2), SentencePiece-like vocabularies (the mark of a space, ``<0xNN>`` bytes) and WordPiece (``##``). Special
tokens have no bytes: they never become text. Any other tokenizer is asked to decode each token alone.
"""

from __future__ import annotations

import json
import re
from functools import cached_property
from typing import Any

import numpy as np

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

    @classmethod
    def of(cls, tokenizer: Any, size: int | None = None) -> Vocabulary:
        return cls(token_bytes(tokenizer), size)

    @cached_property
    def trie(self) -> Trie:
        return Trie([b or b"" for b in self.bodies])


class Trie:
    """Byte trie of the tokens in arrays: children of node i are `child[start[i]:start[i + 1]]`, reached by `byte`; its tokens likewise."""

    def __init__(self, bodies: list[bytes]) -> None:
        nodes: list[dict[int, int]] = [{}]
        ends: list[list[int]] = [[]]
        for token, body in enumerate(bodies):
            at = 0
            for byte in body:
                if byte not in nodes[at]:
                    nodes[at][byte] = len(nodes)
                    nodes.append({})
                    ends.append([])
                at = nodes[at][byte]
            if body:
                ends[at].append(token)
        self.count = len(nodes)
        sizes = np.array([len(n) for n in nodes])
        self.start = np.concatenate([[0], np.cumsum(sizes)])
        self.child = np.array([c for n in nodes for c in n.values()], dtype=np.int64)
        self.byte = np.array([b for n in nodes for b in n], dtype=np.int64)
        sizes = np.array([len(e) for e in ends])
        self.token_start = np.concatenate([[0], np.cumsum(sizes)])
        self.token = np.array([t for e in ends for t in e], dtype=np.int64)

    def below(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(index into `at`, index into `child` and `byte`) of all children of some nodes."""
        return _ranges(self.start, at)

    def tokens(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(index into `at`, token) of the tokens that end at some nodes."""
        owner, where = _ranges(self.token_start, at)
        return owner, self.token[where]


def _ranges(start: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sizes = start[at + 1] - start[at]
    owner = np.repeat(np.arange(len(at)), sizes)
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]]) if len(at) else np.zeros(0, dtype=np.int64)
    return owner, np.arange(len(owner)) - first[owner] + start[at][owner]
