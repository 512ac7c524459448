"""One automaton that knows whether the text so far completes a banned phrase, whatever tokens it is made of.

Aho and Corasick (1975) over folded characters: a state is (node, class of the last character, an exception in progress, up to three bytes
of a character that is not complete). Nothing is computed ahead: a state is four values, and a text moves it character by character.

Word boundaries are a symbol of their own (`fold.EDGE`), in the text and in the patterns; a `word` phrase begins and ends with it, so
acceptance waits for the next character or the end of the text. An allowed phrase that begins with or around a ban suspends it until the
phrase is complete or left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from posttrain.guard.fold import BROKEN, EDGE, FOLDING, Folding, beginnings, characters, symbols, word_class


class State(NamedTuple):
    """node of the trie; cls: class of the last character (0 also at the start); held: a ban waits for its exception; pending bytes."""

    node: int
    cls: int
    held: bool
    pending: bytes


START = State(0, 0, False, b"")
DEAD = None
"""After a banned phrase; nothing leaves it."""


class Automaton:
    """phrases: (text, word mode). allow: phrases in which bans do not count. Raises ValueError for a phrase that folds to nothing.

    Arrays by node of the trie: next (symbol to child), fail (longest proper suffix that is a node), depth in symbols, ban (length in
    symbols of the shortest ban that ends here, through suffixes too; 0 for none), exempt and completes (allowed phrases' paths and ends).
    paths: every banned phrase in symbols.
    """

    def __init__(
        self, phrases: Iterable[tuple[str, bool]], allow: Iterable[str] = (), folding: Folding = FOLDING
    ) -> None:
        self.folding = folding
        self.next: list[dict[str, int]] = [{}]
        self.depth, self.ban, self.exempt, self.completes = [0], [0], [False], [False]
        self.paths: list[str] = [self._insert(text, word, banned=True) for text, word in phrases]
        self.excepting = bool([self._insert(text, False, banned=False) for text in allow])
        self._link()

    @property
    def count(self) -> int:
        """Banned phrases."""
        return len(self.paths)

    def _insert(self, text: str, word: bool, banned: bool) -> str:
        folded = self.folding.text(text)
        if not folded.strip():
            raise ValueError(f"the phrase {text!r} has no character that is kept when text is folded; leave it out")
        path, last = symbols(folded, word_class(folded[0]) if word_class(folded[0]) != 2 else 0)
        path = path.removeprefix(EDGE)
        if word:
            path = (EDGE if word_class(folded[0]) else "") + path + (EDGE if last else "")
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
        else:
            self.completes[node] = True
        return path

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

    def walk(self, node: int, path: str) -> int | None:
        """The node after some symbols, exceptions left aside; None where a ban is complete."""
        following, fail, ban = self.next, self.fail, self.ban
        for symbol in path:
            while node and symbol not in following[node]:
                node = fail[node]
            node = following[node].get(symbol, 0)
            if ban[node]:
                return None
        return node

    def _symbol(self, node: int, held: bool, symbol: str) -> tuple[int, bool] | None:
        """(node, held) after one symbol, with exceptions; None where a ban is complete."""
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

    def step(self, state: State, path: str, cls: int, pending: bytes = b"") -> State | None:
        """The state after whole characters given as symbols. cls: class of the last of them; pending: bytes that follow it."""
        node, held = state.node, state.held
        if self.excepting:
            for symbol in path:
                found = self._symbol(node, held, symbol)
                if found is None:
                    return DEAD
                node, held = found
        else:
            at = self.walk(node, path)
            if at is None:
                return DEAD
            node = at
        return State(self._lighter(node, held, pending[0]) if pending else node, cls, held, pending)

    def _lighter(self, node: int, held: bool, first: int) -> int:
        """The longest suffix from which a character that begins with this byte can go on: otherwise every node would bring dozens of
        states that all do the same."""
        if first >= 0xF0 or held or not node:
            return node
        reach = beginnings(first, self.folding)
        if "" in reach:
            return node
        while node and EDGE not in self.next[node] and reach.isdisjoint(self.next[node]):
            node = self.fail[node]
        return node

    def feed(self, state: State | None, body: bytes) -> State | None:
        """The state after some bytes; None once a ban is complete. Bytes that cannot go on a character count as `BROKEN`."""
        if state is DEAD:
            return DEAD
        text, pending = characters(state.pending + body) if body else ("", state.pending)
        return self.step(state, *symbols(self.folding.text(text), state.cls), pending)

    def broken(self, state: State) -> State | None:
        """The state where the character in progress is left incomplete."""
        return self.step(state, *symbols(BROKEN, state.cls))

    def ends(self, state: State | None) -> bool:
        """Would the end of the text complete a ban here? (a word at its end, an exception left unfinished)"""
        if state is DEAD:
            return True
        return state.held or (bool(state.cls) and self._symbol(state.node, False, EDGE) is None)

    def find(self, text: str, end: bool = True) -> int:
        """Number of characters after which `text` first completes a ban, or -1. end: the text ends here."""
        state: State | None = START
        for i, c in enumerate(text):
            assert state is not DEAD
            state = self.step(state, *symbols(self.folding.char(c), state.cls))
            if state is DEAD:
                return i + 1
        return len(text) if end and self.ends(state) else -1
