"""`posttrain duel`: two models' answers to the same prompts, judged blind by people; the human win rate with its interval.

    posttrain sample runs/dpo/model prompts.jsonl --out dpo.jsonl
    posttrain sample runs/ppo/model prompts.jsonl --out ppo.jsonl
    posttrain duel prefs.db --first dpo.jsonl --second ppo.jsonl     # makes blind pairs in the queue `duel`
    posttrain annotate prefs.db                                      # people judge them
    posttrain duel prefs.db                                          # who wins, how surely

A comparison (`posttrain compare`) does both by itself where it is given a ledger: its page shows what people said so far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from posttrain.core.chat import as_chat
from posttrain.core.files import read_lines, write_json
from posttrain.core.group import Group, answer
from posttrain.jobs import assembly
from posttrain.jobs.annotate import DEFAULT
from posttrain.jobs.feedback import opened
from posttrain.jobs.job import Context, Job, as_data


class Duel(Job):
    """Two models before people: blind pairs out of two files of samples, and who wins with an interval."""

    name: ClassVar[str] = "duel"
    produces: ClassVar[Literal["run", "file", "text"]] = "text"
    positional: ClassVar[tuple[str, ...]] = ("ledger",)

    ledger: str = DEFAULT
    """Ledger: an SQLite file, made where there is none, or a postgresql:// URL."""
    first: str | None = None
    """Samples of the one model: a file of `posttrain sample`, or a directory of `posttrain evaluate`; none only reads the ledger."""
    second: str | None = None
    """Samples of the other model, from the same prompts."""
    names: tuple[str, ...] = ()
    """What the two models are called; none takes the names of the files. People never see them."""
    queue: str = "duel"
    """Queue of the pairs."""
    overlap: PositiveInt = 3
    """People per pair, where the queue is made."""
    out: str | None = None
    """JSON file to write as well."""
    seed: int = 0
    """Seeds the order of work and the interval."""

    def run(self, context: Context | None = None) -> dict[str, Any]:
        """Add pairs, if there are samples; then say who wins so far. Returns the figures as plain values."""
        context = context or Context()
        names = self._names()
        if self.first is not None and self.second is not None:
            first, second = (samples(path, context) for path in (self.first, self.second))
            told = send(self.ledger, self.queue, first, second, names, self.overlap, self.seed)
            context.say(f"{self.ledger}, queue {self.queue}: {told}")
        body = people_say(self.ledger, self.queue, names, self.seed)
        print(body["text"])
        if self.out is not None:
            write_json(self.out, body)
        return body

    def _names(self) -> tuple[str, str] | None:
        """The two names; None where the ledger must say."""
        if (self.first is None) != (self.second is None):
            raise ValueError("first, second: give both files of samples, or neither to read what the ledger holds")
        if self.names and len(self.names) != 2:
            raise ValueError(f"names: two are needed, got {len(self.names)}")
        if self.names:
            return self.names[0], self.names[1]
        return None if self.first is None else (called(self.first), called(str(self.second)))


def called(path: str) -> str:
    """A model's name from the place of its samples: the file without its ending, the directory above `rows.jsonl`."""
    at = Path(path)
    at = at.parent if at.name == "rows.jsonl" else at
    return at.name.partition(".")[0] or path


def samples(path: str, context: Context) -> list[Group]:
    """Groups of a file of samples, or of the rows of an evaluation."""
    rows = Path(path) / "rows.jsonl"
    if not rows.is_file():
        return [g for part in assembly.gather(as_data(path), context) for g in part.groups]
    return answered(read_lines(rows), str(rows))


def answered(rows: Sequence[Mapping[str, Any]], where: str) -> list[Group]:
    """Groups out of rows of an evaluation that hold answers. Raises ValueError where they hold none."""
    made = [
        Group(as_chat(r["prompt"]), tuple(answer(a) for a in r["answers"]))
        for r in rows
        if r.get("answers") and r.get("prompt")
    ]
    if not made:
        raise ValueError(f"{where}: no row holds a prompt with answers")
    return made


def send(
    ledger: str, queue: str, first: Sequence[Group], second: Sequence[Group], names: tuple[str, str] | None, overlap: int, seed: int
) -> str:  # fmt: skip
    """Put blind pairs into a queue; pairs that are there already are not doubled. Returns what became of them, in words."""
    from posttrain.feedback import duels, items, queues
    from posttrain.feedback.ledger import Ledger

    assert names is not None
    made = duels.paired(first, second, names)
    with Ledger(ledger) as book, book.write() as connection:
        known = next((q for q in queues.queues(connection) if q.name == queue), None)
        here = known or queues.make(connection, queue, queues.Settings(overlap=overlap))
        if here.settings.question != "ranking":
            raise ValueError(f"queue {queue!r} asks to {here.settings.question}; a duel needs one that ranks")
        added = items.add(connection, here, made.groups, seed=seed)
    left = "".join(f"; left out {n} {why}" for why, n in made.left.items())
    return f"{added.describe()}{left}"


def people_say(ledger: str, queue: str, names: tuple[str, str] | None, seed: int) -> dict[str, Any]:
    """The human win rate as plain values, with a sentence in `text`; rate is None while nobody has judged."""
    from posttrain.feedback import duels, queues
    from posttrain.feedback.records import names as names_of

    with opened(ledger).read() as connection:
        here = queues.find(connection, queue)
        first, second = names or duels.contestants(connection, here)
        try:
            found = duels.human_wins(connection, here, first, second, seed)
        except ValueError as error:
            return {
                "first": first,
                "second": second,
                "rate": None,
                "text": f"{error}; `posttrain annotate {ledger}` shows the pairs",
            }
        who = names_of(connection)
    counts = {k: getattr(found, k) for k in ("wins", "ties", "losses", "both_bad", "people")}
    verdicts = found.wins + found.ties + found.losses + found.both_bad
    text = (
        f"{first} against {second}: people prefer {first} in {found.rate} of {verdicts} verdicts on {found.rate.n} prompts "
        f"by {found.people} people ({found.wins} wins, {found.ties} ties, {found.losses} losses, {found.both_bad} both bad)"
    )
    return {
        "first": first, "second": second, "rate": found.rate.to_json(), **counts, "text": text,
        "by_person": {who.get(w, w): i.to_json() for w, i in found.by_person.items()},
    }  # fmt: skip
