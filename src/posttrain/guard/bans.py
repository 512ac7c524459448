"""Banned phrases as sets of forbidden tokens: a token is forbidden where its bytes would complete a phrase, and only there.

A token can complete a phrase in two ways. It holds a whole one: these tokens are the same everywhere (but for the boundary before them)
and are found once. Or it begins with what a phrase that is under way still lacks: in the tokens sorted by their folded text those are a
range, found by bisection when the phrases are read, for each place in each phrase. So a step costs a look-up even on text never seen
before. Only inside a character, and within allowed exceptions, are tokens tried one by one, and the outcome is remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from posttrain.guard.automaton import DEAD, START, Automaton, State
from posttrain.guard.fold import EDGE, FOLDING, Folding, beginnings, longest
from posttrain.guard.vocabulary import Vocabulary

BROAD = 0.2
STEPS = 1 << 16
"""Steps of the automaton that are remembered."""
Key = tuple[int, int, bool] | State
"""What a set of forbidden tokens depends on: the place in the phrases, the class before it, whether the end is forbidden."""


class BanTooBroad(ValueError):
    """A set of phrases that forbids more than a fifth of the vocabulary at the start of an answer."""


class Bans:
    """Phrases that no sequence of tokens may spell.

    phrases: `substring` phrases are found anywhere, `words` only between word boundaries. allow: phrases in which they may stand.
    stop_ids: tokens that end an answer; never forbidden, except where the end of the text would complete a word. memory: ids of forbidden
    tokens kept in all (the sets least recently used leave).
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        phrases: Sequence[str] = (),
        words: Sequence[str] = (),
        allow: Sequence[str] = (),
        stop_ids: Iterable[int] = (),
        folding: Folding = FOLDING,
        memory: int = 1 << 24,
    ) -> None:
        self.vocabulary, self.memory = vocabulary, memory
        self.spelling = vocabulary.spelling(folding)
        self.automaton = Automaton([(p, False) for p in phrases] + [(w, True) for w in words], allow, folding)
        self.stop_ids = sorted(set(stop_ids))
        self._stops_spell = any(self.spelling.tokens[t] is not None for t in self.stop_ids)
        self._sets: OrderedDict[Key, Tensor | None] = OrderedDict()
        self._steps: dict[tuple[int, int, int], State | None] = {}
        self._held = 0
        self._shortest = min((len(p) for p in self.automaton.paths), default=0)
        self._lay()
        self._whole = self._holding()
        self._told = [np.isin(np.arange(vocabulary.size), ids) for ids in self._whole]
        order, first = self.spelling.order, self.spelling.first
        self._apart = [order[(first != cls) | (first == 2)] for cls in range(3)]
        self._inside = np.flatnonzero(self.spelling.inside)
        self._inside_length = np.array([len(self.spelling.tokens[t].path) for t in self._inside])  # type: ignore[union-attr]
        self._inside_whole = self._inside[self._inside_length >= self._shortest].tolist()
        share = len(self._whole[0]) / self.vocabulary.size
        if share > BROAD:
            raise BanTooBroad(
                f"these {self.automaton.count} phrases forbid {share:.0%} of the vocabulary before the first word; make them longer, or "
                "use words: (whole words only)"
            )

    def _lay(self) -> None:
        """What tokens may complete, by node: `ranges` of the sorted tokens, `closing` where any boundary completes a word; `owner` is the
        first node on the way through the suffixes that has either (0: none)."""
        a = self.automaton
        self.ranges: list[list[tuple[int, int]]] = [[] for _ in a.next]
        self.closing = [False] * len(a.next)
        for path in a.paths:
            node = 0
            for i, symbol in enumerate(path[:-1]):
                node = a.next[node][symbol]
                rest = path[i + 1 :].removeprefix(EDGE)
                if symbol == EDGE:
                    continue  # no text ends with a boundary
                if not rest:
                    self.closing[node] = True
                    continue
                low, high = self.spelling.beginning(rest)
                if low < high:
                    self.ranges[node].append((low, high))
        self.owner = [0] * len(a.next)
        for node in sorted(range(1, len(a.next)), key=a.depth.__getitem__):
            self.owner[node] = node if self.ranges[node] or self.closing[node] else self.owner[a.fail[node]]
        self._ends = [a.walk(node, EDGE) is None for node in range(len(a.next))]

    def _holding(self) -> list[np.ndarray]:
        """By the class of the character before: ids of the tokens that hold a whole phrase, begun or not, sorted; exceptions left aside."""
        s, a = self.spelling, self.automaton
        long = [(i, path) for i, path in enumerate(s.paths) if len(path) + 1 >= self._shortest]
        begins = a.next[0].get(EDGE, 0)
        plain = np.zeros(len(s.paths), dtype=bool)
        plain[[i for i, path in long if a.walk(0, path) is None]] = True
        after_edge = plain
        if begins:  # only a whole word may care for the boundary before it
            after_edge = np.zeros(len(s.paths), dtype=bool)
            after_edge[[i for i, path in long if a.walk(begins, path) is None]] = True
        return [np.sort(s.order[np.where((s.first != cls) | (s.first == 2), after_edge, plain)]) for cls in range(3)]

    def forbidden(self, state: State) -> Tensor | None:
        """Ids [k] int64 of the tokens that may not come next, or None where all may. At least one stop token is always left."""
        node, cls, held, pending = state
        key: Key = state
        if not (held or pending or self.automaton.excepting):
            key = (self.owner[node], cls, self._ends[node] and cls != 0)
        if key in self._sets:
            self._sets.move_to_end(key)
            return self._sets[key]
        ids = self._completing(state)
        if self.stop_ids:
            if self._stops_spell:
                ids = np.setdiff1d(ids, self.stop_ids)
            if self.automaton.ends(state):
                every = np.union1d(ids, self.stop_ids)
                # Where nothing else is left an answer may end; `Guarded` then cuts the word that stands at its end.
                ids = every if len(every) < self.vocabulary.size else ids
        made = torch.from_numpy(ids) if len(ids) else None
        self._sets[key] = made
        self._held += len(ids)
        while self._held > self.memory and len(self._sets) > 1:
            gone = self._sets.popitem(last=False)[1]
            self._held -= 0 if gone is None else len(gone)
        return made

    def _completing(self, state: State) -> np.ndarray:
        """Ids of the tokens whose bytes complete a phrase from here, sorted."""
        if state.pending:
            return self._completing_inside(state)
        s = self.spelling
        if state.held:
            return np.sort([t for t in s.order.tolist() if self.advance(state, t) is DEAD]).astype(np.int64)
        node, ids = self.owner[state.node], self._whole[state.cls]
        if node:
            told = self._told[state.cls].copy()
            while node:
                for low, high in self.ranges[node]:
                    told[s.order[low:high]] = True
                if self.closing[node]:
                    told[self._apart[state.cls]] = True
                node = self.owner[self.automaton.fail[node]]
            ids = np.flatnonzero(told)
        if self.automaton.excepting:
            ids = np.array([t for t in ids.tolist() if self.advance(state, t) is DEAD], dtype=np.int64)
        return ids

    def _completing_inside(self, state: State) -> np.ndarray:
        """The same inside a character: tokens that go on with it are tried, all others leave it broken."""
        inside, bodies, a = self.spelling.inside, self.vocabulary.bodies, self.automaton
        tried = np.flatnonzero(inside).tolist()
        first = state.pending[0]
        apart = not (state.held or state.node or EDGE in a.next[0] or first >= 0xF0)
        if apart and beginnings(first, a.folding).isdisjoint(a.next[0]):
            tried = self._inside_whole  # the character begins no phrase
        elif not state.held and first < 0xF0 and not a.excepting:
            # What is under way, the character, the token and the boundaries between them have to be as long as the shortest phrase.
            missing = self._shortest - a.depth[state.node] - 2 * longest(first, a.folding) - 2
            tried = self._inside[self._inside_length >= missing].tolist()
        going = [t for t in tried if a.feed(state, bodies[t] or b"") is DEAD]
        after = a.broken(state)
        if after is DEAD:
            rest = np.array([t for t, body in enumerate(bodies) if body and not inside[t]], dtype=np.int64)
        else:
            rest = self._completing(after)
            rest = rest[np.logical_not(inside[rest])]
        return np.union1d(np.array(going, dtype=np.int64), rest)

    def allowed(self, state: State) -> Tensor | None:
        """The same as a mask [V] bool of the tokens that may come next."""
        ids = self.forbidden(state)
        return None if ids is None else torch.ones(self.vocabulary.size, dtype=torch.bool).index_fill_(0, ids, False)

    def advance(self, state: State, token: int) -> State | None:
        """The state after a token, None where it completes a phrase; special tokens add no text."""
        found = self.spelling.tokens[token]
        if found is None:
            return state
        if state.pending:
            return self.automaton.feed(state, self.vocabulary.bodies[token] or b"")
        if state.held or self.automaton.excepting:
            return self.automaton.step(state, *found.after(state.cls), found.pending)
        # Most tokens of a text come from a few places: after a word that begins no phrase, say.
        step = state.node, state.cls, token
        if step not in self._steps:
            if len(self._steps) >= STEPS:
                self._steps.clear()
            self._steps[step] = self.automaton.step(state, *found.after(state.cls), found.pending)
        return self._steps[step]

    def cut(self, text: str) -> str:
        """`text` without the banned word that its end would complete, and all of it where it holds none."""
        at = self.automaton.find(text)
        while at >= 0:
            text = text[: max(0, at - 1)].rstrip()
            at = self.automaton.find(text)
        return text

    def held_back(self, text: str) -> int:
        """Characters at the end of `text` that may still become part of a banned phrase, so that a stream must wait with them."""
        state = self.automaton.feed(START, text.encode("utf-8", "replace"))
        return len(text) if state is DEAD else self.automaton.depth[state.node]
