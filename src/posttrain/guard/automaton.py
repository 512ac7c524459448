"""One automaton over bytes that knows whether the text so far completes a banned phrase, whatever tokens it is made of.

Aho and Corasick (1975) over folded characters, driven by UTF-8 bytes: a state is (node, class of the last character, an exception in
progress, up to three bytes of a character that is not complete). States are numbered as they are met and their row of 256 transitions is
filled when first needed.

Word boundaries are a symbol of their own, written between a word and what is not one, into the text and into the patterns; a `word`
phrase begins and ends with it, so acceptance waits for the next character or the end of the text. An allowed phrase that begins with or
around a ban suspends it until the phrase is complete or left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

import numpy as np

from posttrain.guard.fold import FOLDING, Folding, word_class

DEAD = 0
"""The state after a banned phrase; nothing leaves it."""
START = 1
EDGE = "\ue000"
"""The boundary symbol: a private code point, which text cannot bring in because text's own is folded to another."""
OTHER = "\ue001"


class State(NamedTuple):
    """node of the trie; cls: class of the last character (0 also at the start); held: a ban waits for its exception; pending bytes."""

    node: int
    cls: int
    held: bool
    pending: bytes


def symbols(folded: str, cls: int = 0) -> tuple[list[str], int]:
    """A folded text as symbols with boundaries, from a character class on; the class it ends with."""
    out: list[str] = []
    for c in folded:
        c = OTHER if c == EDGE else c
        now = word_class(c)
        if now != cls or now == 2:
            out.append(EDGE)
        out.append(c)
        cls = now
    return out, cls


class Automaton:
    """phrases: (text, word mode). allow: phrases in which bans do not count. Raises ValueError for a phrase that folds to nothing."""

    def __init__(
        self, phrases: Iterable[tuple[str, bool]], allow: Iterable[str] = (), folding: Folding = FOLDING
    ) -> None:
        self.folding = folding
        self.next: list[dict[str, int]] = [{}]
        self.depth = [0]
        self.ban = [0]  # length in symbols of the shortest ban that ends here, through suffix links too
        self.exempt = [False]  # lies on an allowed phrase's path
        self.completes = [False]  # ends an allowed phrase
        self.count = 0
        for text, word in phrases:
            self._insert(text, word, banned=True)
        for text in allow:
            self._insert(text, False, banned=False)
        self._link()
        self._reached: dict[int, frozenset[str]] = {}
        self._ascii: dict[str, list[int]] = {}
        for byte in range(128):
            # No ASCII character folds to nothing or to several symbols; one that did would be a symbol of its first.
            self._ascii.setdefault(folding.char(chr(byte))[:1], []).append(byte)
        self._ids: dict[State, int] = {State(-1, 0, False, b""): DEAD, State(0, 0, False, b""): START}
        self.states: list[State] = list(self._ids)
        self.table = np.zeros((64, 256), dtype=np.int32)  # one row for each state that was left at least once
        self.slot = np.zeros(64, dtype=np.int32)  # state -> its row; 0 is that of DEAD, and of states not met yet
        self._rows = 1

    def _insert(self, text: str, word: bool, banned: bool) -> None:
        folded = self.folding.text(text)
        if not folded.strip():
            raise ValueError(f"the phrase {text!r} has no character that is kept when text is folded; leave it out")
        path, last = symbols(folded, word_class(folded[0]) if word_class(folded[0]) != 2 else 0)
        if path[0] == EDGE:
            path = path[1:]
        if word:
            path = ([EDGE] if word_class(folded[0]) else []) + path + ([EDGE] if last else [])
        node = 0
        for symbol in path:
            if symbol not in self.next[node]:
                self.next[node][symbol] = len(self.next)
                self.next.append({})
                self.depth.append(self.depth[node] + 1)
                self.ban.append(0)
                self.exempt.append(False)
                self.completes.append(False)
            node = self.next[node][symbol]
            self.exempt[node] |= not banned
        if banned:
            self.ban[node] = len(path)
            self.count += 1
        else:
            self.completes[node] = True

    def _link(self) -> None:
        """Suffix links, breadth first; a node also bans what its suffix bans."""
        self.fail = [0] * len(self.next)
        queue = deque(self.next[0].values())
        while queue:
            node = queue.popleft()
            for symbol, child in self.next[node].items():
                at = self.fail[node]
                while at and symbol not in self.next[at]:
                    at = self.fail[at]
                self.fail[child] = self.next[at].get(symbol, 0)
                if not self.ban[child]:
                    self.ban[child] = self.ban[self.fail[child]]
                queue.append(child)

    def _symbol(self, node: int, held: bool, symbol: str) -> tuple[int, bool] | None:
        """(node, held) after one symbol; None where a ban is complete."""
        if held:
            # The exception must go on exactly; a boundary that it does not name may stand at its end only.
            child = self.next[node].get(symbol)
            if child is None or not self.exempt[child]:
                return None
            return child, not self.completes[child]
        at = node
        while at and symbol not in self.next[at]:
            at = self.fail[at]
        at = self.next[at].get(symbol, 0)
        if self.ban[at]:
            if self.completes[at]:
                return at, False
            if self.exempt[at] and self.ban[at] <= self.depth[at]:
                return at, True
            return None
        return at, False

    def _character(self, state: State, c: str) -> State | None:
        path, cls = symbols(self.folding.char(c), state.cls)
        node, held = state.node, state.held
        for symbol in path:
            found = self._symbol(node, held, symbol)
            if found is None:
                return None
            node, held = found
        return State(node, cls, held, b"")

    def _byte(self, state: State, byte: int) -> State | None:
        """The state after one byte; None where a ban is complete. Bytes that cannot go on a character count as U+FFFD."""
        body = state.pending + bytes([byte])
        need = 1 if body[0] < 0x80 else 2 if 0xC2 <= body[0] < 0xE0 else 3 if 0xE0 <= body[0] < 0xF0 else 4
        valid = body[0] < 0x80 or 0xC2 <= body[0] < 0xF5
        if len(body) > 1 and not 0x80 <= byte < 0xC0:
            after = self._character(state._replace(pending=b""), "\ufffd")
            return None if after is None else self._byte(after, byte)
        if not valid:
            return self._character(state._replace(pending=b""), "\ufffd")
        if len(body) < need:
            return self._lighter(state, body)._replace(pending=body)
        try:
            c = body.decode("utf-8")
        except UnicodeDecodeError:
            c = "\ufffd"
        return self._character(state._replace(pending=b""), c)

    def _lighter(self, state: State, body: bytes) -> State:
        """The state before a character of several bytes, moved to the longest suffix from which a character that begins so can go on:
        otherwise every node would bring dozens of states that all do the same."""
        if len(body) > 1 or body[0] >= 0xF0 or state.held or not state.node:
            return state
        reach, at = self._reach(body[0]), state.node
        if "" in reach:
            return state
        while at and EDGE not in self.next[at] and reach.isdisjoint(self.next[at]):
            at = self.fail[at]
        return state._replace(node=at)

    def _reach(self, lead: int) -> frozenset[str]:
        """Folded symbols of all characters of two or three bytes that begin with this byte; "" where one folds to nothing."""
        if lead not in self._reached:
            first, count = ((lead & 0x1F) << 6, 64) if lead < 0xE0 else ((lead & 0x0F) << 12, 4096)
            folded = [self.folding.char(chr(c)) for c in range(first, first + count)]
            self._reached[lead] = frozenset(c for f in folded for c in (f or [""]))
        return self._reached[lead]

    def row(self, number: int) -> np.ndarray:
        """The 256 transitions of a state, computed on first use [256] int32."""
        if not self.slot[number] and number != DEAD:
            found = self._transitions(self.states[number])
            if self._rows == len(self.table):
                self.table = np.concatenate([self.table, np.zeros_like(self.table)])
            self.table[self._rows] = found
            self.slot[number] = self._rows
            self._rows += 1
        return self.table[self.slot[number]]

    @cached_property
    def _silent(self) -> set[int]:
        """First bytes of characters that may fold to nothing, so that every node waits for the rest of them by itself."""
        return {b for b in range(0xC2, 0xF5) if b >= 0xF0 or "" in self._reach(b)}

    @cached_property
    def _leads(self) -> list[tuple[int, frozenset[str]]]:
        """The other first bytes of two and three, with the symbols that they can begin."""
        return [(b, self._reach(b)) for b in range(0xC2, 0xF0) if b not in self._silent]

    def _transitions(self, state: State) -> np.ndarray:
        """The 256 states after one byte each. A node goes where its longest suffix goes, except on the symbols of its own children, so its
        row is that of the suffix with few changes."""
        own = self.next[state.node]
        if state.pending or state.held or not state.node or EDGE in own or "\ufffd" in own:
            return np.array([self._number(self._byte(state, b)) for b in range(256)], dtype=np.int32)
        suffix = self._number(state._replace(node=self.fail[state.node]))
        found = self.row(suffix).copy()
        changed = {b for symbol in own for b in self._ascii.get(symbol, ())}
        changed |= self._silent
        changed |= {b for b, reach in self._leads if not reach.isdisjoint(own)}
        for byte in changed:
            found[byte] = self._number(self._byte(state, byte))
        return found

    def root(self, number: int) -> int:
        """The state at the root after a character of the same class: most bytes lead to the same place from both."""
        if number == DEAD:
            return DEAD
        return self._number(State(0, self.states[number].cls, False, b""))

    def after(self, states: np.ndarray, bytes_: np.ndarray) -> np.ndarray:
        """States after one byte each [n]; rows of `states` must have been asked for."""
        return self.table[self.slot[states], bytes_]

    def _number(self, state: State | None) -> int:
        if state is None:
            return DEAD
        number = self._ids.setdefault(state, len(self.states))
        if number == len(self.states):
            self.states.append(state)
            if number >= len(self.slot):
                self.slot = np.concatenate([self.slot, np.zeros_like(self.slot)])
        return number

    def feed(self, number: int, body: bytes) -> int:
        """The state after some bytes."""
        for byte in body:
            number = int(self.row(number)[byte])
        return number

    def ends(self, number: int) -> bool:
        """Would the end of the text complete a ban here? (a word at its end, an exception left unfinished)"""
        if number == DEAD:
            return True
        state = self.states[number]
        if state.held:
            return True
        return bool(state.cls) and self._symbol(state.node, False, EDGE) is None

    def find(self, text: str, end: bool = True) -> int:
        """Number of characters after which `text` first completes a ban, or -1. end: the text ends here."""
        number = START
        for i, c in enumerate(text):
            number = self.feed(number, c.encode("utf-8", "replace"))
            if number == DEAD:
                return i + 1
        return len(text) if end and self.ends(number) else -1
