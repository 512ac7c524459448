"""Items that arrive while people already judge: lines of a pipe, or answers that a live model is still making."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from posttrain.core.group import Group
from posttrain.jobs.job import Context

if TYPE_CHECKING:
    from posttrain.feedback.ledger import Ledger
    from posttrain.feedback.queues import Queue
    from posttrain.feedback.server.live import Live


class Feed:
    """One stream of items into a queue. coming: may more arrive? The page says so to whoever waits, and `until_done` waits for it."""

    def __init__(self, ledger: Ledger, queue: Queue, context: Context, coming: bool = False) -> None:
        self.ledger, self.queue, self.context, self.coming = ledger, queue, context, coming
        self.added, self.left, self.stopped = 0, Counter[str](), False

    def read(self, lines: Iterable[str]) -> None:
        """Add every line of a pipe; a bad one is told of and left out. Ends with the pipe."""
        with self._until_the_end("from the pipe"):
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    group = Group.from_json(json.loads(line))
                except (ValueError, KeyError, TypeError) as error:
                    self.left["no row"] += 1
                    what = f"line {number} of the pipe is no row of `posttrain sample`"
                    self.context.say(f"{what} ({type(error).__name__}: {error}); left out")
                    continue
                self._add(group)

    def answer(self, live: Live, prompts: Iterable[Group]) -> None:
        """Add every prompt with its answers as soon as the model has made them; one that it cannot take is told of and left out."""
        with self._until_the_end("from the model"):
            for prompt in prompts:
                if self.stopped:
                    return
                try:
                    made = live.answer(prompt)
                except ValueError as error:
                    self.left["no answer"] += 1
                    self.context.say(f"the prompt {prompt.prompt_text[:60]!r} cannot be answered ({error}); left out")
                    continue
                self._add(made)

    def stop(self) -> None:
        """The page has closed: what was not answered yet is answered when it opens again."""
        self.stopped = True

    def _add(self, group: Group) -> None:
        from posttrain.feedback import items

        if self.stopped:
            return
        with self.ledger.write() as connection:
            told = items.add(connection, self.queue, [group])
        self.added += told.items
        self.left += told.refused

    @contextmanager
    def _until_the_end(self, whence: str) -> Iterator[None]:
        """However a stream ends, nobody goes on waiting for it."""
        self.coming = True
        try:
            yield
        finally:
            self.coming = False
            why = "".join(f"; {n} times: {reason}" for reason, n in self.left.most_common())
            if self.added or self.left:
                self.context.say(f"{self.added} items {whence}, {self.left.total()} left out{why}")
