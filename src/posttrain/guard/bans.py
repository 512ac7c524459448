"""Banned phrases as masks over tokens: a token is forbidden where its bytes would complete a phrase, and only there.

Masks are computed by walking the vocabulary's byte trie against the automaton, and only where that walk differs from the one at the root;
one mask per visited state is remembered (the least recently used leave). After warm-up a step costs a dictionary look-up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from posttrain.guard.automaton import DEAD, START, Automaton
from posttrain.guard.fold import FOLDING, Folding
from posttrain.guard.vocabulary import Vocabulary

BROAD = 0.2


class BanTooBroad(ValueError):
    """A set of phrases that forbids more than a fifth of the vocabulary at the start of an answer."""


class Bans:
    """Phrases that no sequence of tokens may spell.

    phrases: `substring` phrases are found anywhere, `words` only between word boundaries. allow: phrases in which they may stand.
    stop_ids: tokens that end an answer; never forbidden, except where the end of the text would complete a word. memory: masks kept.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        phrases: Sequence[str] = (),
        words: Sequence[str] = (),
        allow: Sequence[str] = (),
        stop_ids: Iterable[int] = (),
        folding: Folding = FOLDING,
        memory: int = 4096,
    ) -> None:
        self.vocabulary, self.memory = vocabulary, memory
        self.automaton = Automaton([(p, False) for p in phrases] + [(w, True) for w in words], allow, folding)
        self.stop_ids = sorted(set(stop_ids))
        self._masks: OrderedDict[int, Tensor | None] = OrderedDict()
        self._roots: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        share = float((~self._reference(START)[1]).mean())
        if share > BROAD:
            raise BanTooBroad(
                f"these {self.automaton.count} phrases forbid {share:.0%} of the vocabulary before the first word; make them longer, or "
                "use words: (whole words only)"
            )

    def _walk_root(self, root: int) -> tuple[np.ndarray, np.ndarray]:
        """State of every trie node from a root state, and which tokens are allowed there."""
        trie = self.vocabulary.trie
        at = np.full(trie.count, root, dtype=np.int32)
        first = np.ones(self.vocabulary.size, dtype=bool)
        nodes, states = np.zeros(1, dtype=np.int64), np.array([root], dtype=np.int32)
        while len(nodes):
            nodes, states = self._level(nodes, states)
            at[nodes] = states
            owner, tokens = trie.tokens(nodes)
            first[tokens] = states[owner] != DEAD
        return at, first

    def _reference(self, state: int) -> tuple[np.ndarray, np.ndarray]:
        """The walk that a state is compared with: from the root, after a character of the same class."""
        root = self.automaton.root(state)
        if root not in self._roots:
            self._roots[root] = self._walk_root(root)
        return self._roots[root]

    def _level(self, nodes: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The children of some trie nodes and their states. Rows are made for nodes that have children only."""
        trie = self.vocabulary.trie
        inner = trie.start[nodes + 1] > trie.start[nodes]
        nodes, states = nodes[inner], states[inner]
        for state in set(states.tolist()):
            self.automaton.row(state)
        owner, edge = self.vocabulary.trie.below(nodes)
        return self.vocabulary.trie.child[edge], self.automaton.after(states[owner], self.vocabulary.trie.byte[edge])

    def allowed(self, state: int) -> Tensor | None:
        """Tokens that may come next [V] bool, or None where all may. At least one stop token is always left."""
        if state in self._masks:
            self._masks.move_to_end(state)
            return self._masks[state]
        at_root, first = self._reference(state)
        mask = first.copy()
        nodes, states = np.zeros(1, dtype=np.int64), np.array([state], dtype=np.int32)
        while len(nodes):
            nodes, states = self._level(nodes, states)
            differs = states != at_root[nodes]
            nodes, states = nodes[differs], states[differs]
            owner, tokens = self.vocabulary.trie.tokens(nodes)
            mask[tokens] = states[owner] != DEAD
        if self.stop_ids:
            mask[self.stop_ids] = not self.automaton.ends(state)
            if not mask.any():
                mask[self.stop_ids] = True  # `Guarded` cuts the word that then stands at the end
        made = None if mask.all() else torch.from_numpy(mask)
        self._masks[state] = made
        if len(self._masks) > self.memory:
            self._masks.popitem(last=False)
        return made

    def advance(self, state: int, token: int) -> int:
        """The state after a token; special tokens add no text."""
        body = self.vocabulary.bodies[token]
        return self.automaton.feed(state, body) if body else state

    def cut(self, text: str) -> str:
        """`text` without the banned word that its end would complete, and all of it where it holds none."""
        at = self.automaton.find(text)
        while at >= 0:
            text = text[: max(0, at - 1)].rstrip()
            at = self.automaton.find(text)
        return text

    def held_back(self, text: str) -> int:
        """Characters at the end of `text` that may still become part of a banned phrase, so that a stream must wait with them."""
        number = self.automaton.feed(START, text.encode("utf-8", "replace"))
        return self.automaton.depth[self.automaton.states[number].node] if number != DEAD else len(text)
