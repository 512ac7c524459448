"""Ranking in the terminal over the same ledger and the same queues as the page."""

from __future__ import annotations

import getpass
import random
import sys
import time
from typing import ClassVar, Literal

from posttrain.feedback.queues import Question
from posttrain.jobs.annotate import DEFAULT, Annotate
from posttrain.jobs.job import Context, Job, Source


class Rank(Job):
    """Rank answers in the terminal: `0 > 1 = 2` or `A > B = C`; s skips, q quits."""

    name: ClassVar[str] = "rank"
    produces: ClassVar[Literal["run", "file", "text"]] = "text"
    positional: ClassVar[tuple[str, ...]] = ("ledger",)

    ledger: str = DEFAULT
    """Ledger: an SQLite file, made where there is none, or a postgresql:// URL."""
    data: Source | None = None
    """Rows to add first: prompts with several answers."""
    queue: str = "main"
    """Queue to work on."""
    who: str | None = None
    """Your name in the ledger; none takes the login name."""
    seed: int | None = None
    """Seeds the order of the answers; none draws it anew each time."""

    def run(self, context: Context | None = None) -> int:
        """Ask until the queue is done or the person quits; returns how many were ranked."""
        from posttrain.feedback import accounts, assigning, items, judging, queues
        from posttrain.feedback.ids import token
        from posttrain.feedback.terminal import Quit, collect_preference

        context = context or Context()
        question: Question = "ranking"
        ledger, queue, _ = Annotate(ledger=self.ledger, data=self.data, queue=self.queue).prepare(context)
        if queue.settings.question != question:
            raise ValueError(
                f"queue {queue.name!r} asks to {queue.settings.question}; the terminal only ranks, use `posttrain annotate`"
            )
        rng = random.Random(self.seed) if self.seed is not None else random.SystemRandom()
        done = 0
        with ledger.write() as connection:
            person = accounts.named(connection, self.who or getpass.getuser())
        try:
            while True:
                with ledger.write() as connection:
                    queue = queues.find(connection, self.queue)
                    task = assigning.next_task(connection, person, queue, rng)
                    if isinstance(task, assigning.Nothing):
                        break
                    item = items.read(connection, [task.item])[0]
                began = time.monotonic()
                texts = [r.text for r in item.group.responses]
                said = collect_preference(item.group.prompt_text, texts, read=_read, display=task.display)
                seconds = round(time.monotonic() - began, 1)
                answer = (
                    judging.Answer("skip", seconds=seconds, version="terminal") if said is None
                    else judging.Answer("ranking", tuple(map(tuple, said)), seconds=seconds, version="terminal")
                )  # fmt: skip
                with ledger.write() as connection:
                    judging.submit(connection, person, task.id, token(), answer)
                done += said is not None
        except Quit:
            pass
        context.say(f"{done} ranked by {person.name} in {self.ledger}")
        ledger.close()
        return done


def _read(prompt: str) -> str:
    """A line from the person, the prompt only where somebody can see it."""
    return input(prompt if sys.stdin.isatty() else "")
