"""What one does with a ledger besides judging: agreement, labels for training, imports, invitations, checks. Four small verbs."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from posttrain.core.files import read_lines, write_json, write_text
from posttrain.feedback.accounts import Role
from posttrain.feedback.labels import Aggregation
from posttrain.jobs.annotate import DEFAULT
from posttrain.jobs.job import Context, Job

OF_GROUPS = ("groups", "pairs", "labels", "messages", "ranked")


class Agree(Job):
    """Do people agree? Coefficients with intervals, per person and axis, from a ledger."""

    name: ClassVar[str] = "agree"
    produces: ClassVar[Literal["run", "file", "text"]] = "text"
    positional: ClassVar[tuple[str, ...]] = ("ledger",)

    ledger: str = DEFAULT
    """Ledger: an SQLite file or a postgresql:// URL."""
    queue: str | None = None
    """Queue; may be left out where there is only one."""
    out: str | None = None
    """JSON file to write as well."""

    def run(self, context: Context | None = None) -> dict[str, Any]:
        """Print the coefficients and return them as plain values."""
        from posttrain.feedback import items, queues
        from posttrain.feedback.agreement.report import agreement
        from posttrain.feedback.records import by_item, names, records

        context = context or Context()
        with opened(self.ledger).read() as connection:
            queue = queues.find(connection, self.queue)
            found = records(connection, queue.id)
            again = [r for r in records(connection, queue.id, repeats=True) if r.reason == "repeat"]
            sizes = {
                i.id: [len(r.text) for r in i.group.responses] for i in items.read(connection, list(by_item(found)))
            }
            made, who = agreement(found, queue.settings.question, again, sizes), names(connection)
        print(f"queue {queue.name}: {made.judgments} judgments of {made.items} items by {made.raters} people")
        sections = {"all": made.whole, **made.axes, "bias": made.biases, "groups": made.teams, **made.splits}
        for title, values in sections.items():
            for name, interval in values.items():
                shown = f"{interval}  (n = {interval.n})" if not math.isnan(interval.estimate) else interval.method
                print(f"  {title + ': ' if title != 'all' else ''}{name:<30} {shown}")
        for id, row in made.people.items():
            print(f"  {who.get(id, id)}: {row['judgments']} judgments, agrees with the others {row['agreement']}")
        for a in made.apart:
            pair = f"{who.get(a.first, a.first)} and {who.get(a.second, a.second)}"
            print(f"  {pair}{' on ' + a.on if a.on else ''}: {a.share:.0%} of {a.verdicts} verdicts are equal")
        plain = {t: {n: i.to_json() for n, i in v.items()} for t, v in sections.items() if v}
        body = {"queue": queue.name, "items": made.items, "people": made.raters, "judgments": made.judgments, **plain}
        body["apart"] = [asdict(a) for a in made.apart]
        if self.out is not None:
            write_json(self.out, body)
        return body


class Labels(Job):
    """Soft labels and weights from a ledger, as rows that training reads; or single judgments for other tools."""

    name: ClassVar[str] = "labels"
    produces: ClassVar[Literal["run", "file", "text"]] = "file"
    positional: ClassVar[tuple[str, ...]] = ("ledger",)

    ledger: str = DEFAULT
    """Ledger: an SQLite file or a postgresql:// URL."""
    out: str
    """File to write: .jsonl, .jsonl.gz or .parquet (.csv for `csv`)."""
    shape: Literal[
        "groups", "pairs", "labels", "messages", "ranked", "winners", "hh-rlhf", "ultrafeedback", "lesson", "ledger", "argilla",
        "label-studio", "csv",
    ] = "groups"  # fmt: skip
    """What to write: groups, pairs, labels, messages, ranked, winners (the best answer of each item as a demonstration), hh-rlhf,
    ultrafeedback, lesson, ledger (everything, to be read back), argilla, label-studio or csv."""
    by: Aggregation = "reliable"
    """Aggregation: strengths with the reliability of each person, strengths alone, or plain majority."""
    queue: str | None = None
    """Queue; may be left out where there is only one."""
    team: str | None = None
    """Only judgments of this group of people."""
    per_team: bool = False
    """Aggregate each group of people for itself: an item gives a row per group, which names it."""
    keep_ties: bool = False
    """Keep pairs whose probability is near a half."""
    reviewed: bool = False
    """Only written answers that a reviewer accepted."""
    judges: bool = False
    """Verdicts of models count as well; else people's alone."""
    with_names: bool = False
    """Names of people in `ledger`, `csv`, `argilla` and `label-studio`; else pseudonyms."""

    @model_validator(mode="after")
    def _consistent(self) -> Labels:
        if self.per_team and self.team is not None:
            raise ValueError("team and per_team: give one, a single group or each for itself")
        return self

    def run(self, context: Context | None = None) -> Path:
        """Write the file, and beside it `.about.json`: how it was made and what was left out."""
        from posttrain.feedback import exchange, labels, lost, queues

        context, table = context or Context(), []
        with opened(self.ledger).read() as connection:
            queue = queues.find(connection, self.queue)
            version = queues.guide(connection, queue.id).version
            if self.per_team:
                made = labels.by_team(connection, queue, self.by, self.keep_ties, self.reviewed, self.judges)
            else:
                made = labels.labels(
                    connection, queue, self.by, self.keep_ties, self.team, reviewed=self.reviewed, judges=self.judges
                )
            if self.shape == "csv" or self.shape in exchange.OF_JUDGMENTS:
                judged = self.judges or self.shape == "ledger"
                table = list(exchange.rows(connection, queue, self.with_names, judged))
        gone = lost.of_judgments(self.shape, table) + lost.of_labels(self.shape, made.groups)
        if self.shape == "csv":
            write_text(self.out, exchange.as_csv(table))
        elif self.shape in exchange.OF_JUDGMENTS:
            write_text(self.out, "".join(_line(r) for r in exchange.OF_JUDGMENTS[self.shape](table)))
        elif self.shape in exchange.OF_LABELS:
            write_text(self.out, "".join(_line(r) for r in exchange.OF_LABELS[self.shape](made.groups)))
        else:
            gone += self._groups(made)
        body = Path(self.out).read_bytes()
        count = body.count(b"\n") if not self.out.endswith((".parquet", ".gz")) else len(made.groups)
        about = exchange.sidecar(made, queue, version, count, hashlib.sha256(body).hexdigest())
        write_json(f"{self.out}.about.json", about | {"not_carried": dict(gone)})
        left = "; ".join(f"{n} times: {why}" for why, n in made.dropped.most_common())
        context.say(
            f"{made.judgments} judgments, {len(made.groups)} items as {self.shape}: {self.out}"
            + (f" (left out {left})" if left else "")
        )
        if gone:
            told = "; ".join(f"{n} times {what}" for what, n in gone.most_common())
            context.say(f"the shape {self.shape} cannot carry: {told}")
        return Path(self.out)

    def _groups(self, made: Any) -> Counter[str]:
        """Write groups; returns what their shape cannot carry."""
        from posttrain.data.write import write
        from posttrain.feedback.labels import winners

        groups = winners(made.groups) if self.shape == "winners" else made.groups
        if not groups:
            raise ValueError(
                f"{self.ledger}: no item has a label yet ({made.judgments} judgments); annotate first, or keep ties with --keep-ties"
            )
        return write(groups, self.out, "messages" if self.shape == "winners" else self.shape).lost


def _line(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False, default=str) + "\n"


class LedgerJob(Job):
    """Keep a ledger: read judgments of other tools, invite people, draw the next items, check the history."""

    name: ClassVar[str] = "ledger"
    produces: ClassVar[Literal["run", "file", "text"]] = "text"
    positional: ClassVar[tuple[str, ...]] = ("ledger",)

    ledger: str = DEFAULT
    """Ledger: an SQLite file or a postgresql:// URL."""
    mode: Literal["verify", "import", "invite", "select", "token"] = "verify"
    """Check the chain of the history; read judgments; make an invitation; draw the order of fresh items anew; make an API token."""
    file: str | None = None
    """File to import."""
    format: Literal["ledger", "argilla", "label-studio"] = "ledger"
    """Who wrote that file."""
    queue: str = "main"
    """Queue to import into, or to select from."""
    role: Role = "annotator"
    """Role of the invitation."""
    team: str = ""
    """Group of the person invited."""
    expertise: tuple[str, ...] = ()
    """Expertise of the person invited."""
    who: str | None = None
    """Person whom the API token belongs to."""

    def run(self, context: Context | None = None) -> str:
        """Print one line and return it. A broken history is an error."""
        line = getattr(self, f"_{self.mode}")()
        print(line)
        return str(line)

    def _verify(self) -> str:
        from posttrain.feedback.history import verify

        with opened(self.ledger).read() as connection:
            found = verify(connection)
        if found.faults:
            raise ValueError(f"{self.ledger}: the history is broken: " + "; ".join(found.faults[:5]))
        return f"{self.ledger}: {found.events} events and {found.judgments} judgments, all as they were recorded"

    def _import(self) -> str:
        from posttrain.feedback import exchange, queues

        if self.file is None:
            raise ValueError("file: name the file to import")
        text = Path(self.file).read_text(encoding="utf-8").lstrip()
        found = json.loads(text) if text.startswith("[") else read_lines(self.file)
        rows = list(exchange.READERS[self.format](found))
        with opened(self.ledger, new=True).write() as connection:
            known = next((q for q in queues.queues(connection) if q.name == self.queue), None)
            queue = known or queues.make(connection, self.queue, queues.Settings())
            return f"{exchange.load(connection, queue, rows)} judgments of {len(rows)} items read into {self.ledger}"

    def _invite(self) -> str:
        from posttrain.feedback.accounts import invite

        with opened(self.ledger, new=True).write() as connection:
            secret = invite(connection, self.role, expertise=self.expertise, team=self.team)
        return f"/join/{secret}  (behind the address of the server; works once, within 72 hours)"

    def _select(self) -> str:
        from posttrain.feedback import queues
        from posttrain.feedback.active import select_next

        with opened(self.ledger).write() as connection:
            queue = queues.find(connection, self.queue)
            drawn = select_next(connection, queue)
        return f"{drawn} fresh items drawn anew, {queue.settings.uniform:.0%} of them by chance alone"

    def _token(self) -> str:
        from posttrain.feedback import accounts

        with opened(self.ledger).write() as connection:
            person = next((p for p in accounts.people(connection) if p.name == self.who), None)
            if person is None:
                raise ValueError(f"who: {self.who!r} is not in this ledger")
            return accounts.open_session(connection, person.id, "api")


def opened(place: str, new: bool = False) -> Any:
    """The ledger, which must exist unless `new`."""
    from posttrain.feedback.ledger import Ledger

    if not new and "://" not in place and not Path(place).is_file():
        raise ValueError(f"{place}: no such ledger; `posttrain annotate {place} --data rows.jsonl` makes one")
    return Ledger(place)
