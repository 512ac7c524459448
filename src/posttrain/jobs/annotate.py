"""The annotation page as a job: rows in, a server on loopback, the browser opened at a link that works once.

Rows come from files, from a pipe (``posttrain sample ... | posttrain annotate`` shows each answer as it is made), or from a live model
that answers the prompts of a file, and those written on the page, while one annotates. The server holds the ledger; what it acknowledged
survives being killed.
"""

from __future__ import annotations

import sys
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from posttrain.core.group import Group
from posttrain.feedback.queues import Question, Settings
from posttrain.jobs import assembly
from posttrain.jobs.feeding import Feed
from posttrain.jobs.job import Context, Job, Source

if TYPE_CHECKING:
    from posttrain.feedback.ledger import Ledger
    from posttrain.feedback.queues import Queue
    from posttrain.feedback.server.live import Live

DEFAULT = "prefs.db"


class Annotate(Job):
    """Judge answers on a page in the browser: rankings, ratings, edits, by one person or many."""

    name: ClassVar[str] = "annotate"
    produces: ClassVar[Literal["run", "file", "text"]] = "file"
    positional: ClassVar[tuple[str, ...]] = ("ledger",)

    ledger: str = DEFAULT
    """Ledger: an SQLite file, made where there is none, or a postgresql:// URL."""
    data: Source | None = None
    """Rows to add: prompts with answers, of any shape; with `model`, prompts without. Rows from a pipe are added as they come."""
    gold: Source | None = None
    """Rows with known rankings, mixed in to see how people do."""
    queue: str = "main"
    """Queue that the rows go to."""
    question: Question | None = None
    """What is asked; none keeps the queue's own (a new queue ranks)."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Further settings of the queue: `{overlap: 3, most: 5, gold_rate: 0.1, repeat_rate: 0.05, expertise: law, active: true}`."""
    guideline: str | None = None
    """Markdown file with the guideline shown beside the work."""
    model: str | None = None
    """Model that answers while one annotates: the prompts of `data` that have no answers, and those written on the page."""
    n: PositiveInt = 4
    """Answers of that model per prompt."""
    port: NonNegativeInt = 8765
    """Port; 0 takes a free one."""
    host: str = "127.0.0.1"
    """Address; another than loopback needs TLS or a proxy that has it."""
    certificate: str | None = None
    """TLS certificate file (PEM)."""
    key: str | None = None
    """Key file of the certificate."""
    behind_proxy: bool = False
    """A proxy with TLS stands in front."""
    browser: bool = True
    """Open the browser."""
    until_done: bool = False
    """Stop by itself when every item of the queue has its judgments, so that a recipe goes on; else it waits to be interrupted."""

    def run(self, context: Context | None = None) -> str:
        """Serve until interrupted, or until the queue is done; returns the ledger."""
        from posttrain.feedback.server import run

        context = context or Context()
        run.check_address(self.host, self.certificate, self.behind_proxy)
        piped = self.data is None and not sys.stdin.isatty() and self.model is None
        ledger, queue, bare = self.prepare(context)
        feed = Feed(ledger, queue, context, coming=piped or bool(bare))
        live = self.live(context)
        sock = run.listen(self.host, self.port)
        scheme = "https" if self.certificate else "http"
        shown = f"[{self.host}]" if ":" in self.host else self.host
        address = f"{scheme}://{shown}:{sock.getsockname()[1]}"
        link = f"{address}/join/{owner_link(ledger)}"
        app = self.application(ledger, queue, feed, live)
        context.say(f"ledger {self.ledger}, queue {queue.name}: {address}")
        context.say(f"your link (works once, makes you the owner): {link}")
        if piped:
            threading.Thread(target=feed.read, args=(sys.stdin,), daemon=True).start()
        elif bare and live is not None:
            threading.Thread(target=feed.answer, args=(live, bare), daemon=True).start()
        if self.browser:
            threading.Timer(0.5, webbrowser.open, (link,)).start()
        until = (lambda: done(ledger, queue, feed)) if self.until_done else None
        run.serve(app, sock, self.certificate, self.key, self.behind_proxy, until)
        feed.stop()
        ledger.close()
        return self.ledger

    def prepare(self, context: Context) -> tuple[Ledger, Queue, list[Group]]:
        """The ledger with its queue, guideline and rows; and the prompts that the live model has still to answer."""
        from posttrain.feedback import items, queues
        from posttrain.feedback.ledger import Ledger

        ledger, bare = Ledger(self.ledger), list[Group]()
        with ledger.write() as connection:
            old = next((q.settings for q in queues.queues(connection) if q.name == self.queue), Settings())
            wanted = {**({} if self.question is None else {"question": self.question}), **self.settings}
            queue = queues.make(connection, self.queue, Settings.model_validate({**old.model_dump(), **wanted}))
            if self.guideline is not None:
                queues.write_guideline(connection, queue.id, Path(self.guideline).read_text(encoding="utf-8"))
        for source, kind in ((self.data, "ordinary"), (self.gold, "gold")):
            if source is None:
                continue
            groups = [g for part in assembly.gather(source, context) for g in part.groups]
            if kind == "ordinary" and self.model is not None and queue.settings.question != "write":
                with ledger.read() as connection:
                    bare = items.unanswered(connection, queue, [g for g in groups if not g.responses])
                groups = [g for g in groups if g.responses]
            with ledger.write() as connection:
                context.say(items.add(connection, queue, groups, kind).describe())  # type: ignore[arg-type]
        return ledger, queue, bare

    def live(self, context: Context) -> Live | None:
        """The model behind the page, if there is one."""
        if self.model is None:
            return None
        from posttrain.core.protocols import Sampling
        from posttrain.feedback.server.live import Live
        from posttrain.jobs.sample import answering

        model = answering(self.model, None, "cpu")[2]
        context.say(f"{self.model} answers while you annotate, {self.n} times each prompt")
        return Live(model, self.n, Sampling(temperature=0.9, max_tokens=256))

    def application(self, ledger: Ledger, queue: Queue, feed: Feed, live: Live | None) -> Any:
        """The ASGI application over a ledger."""
        from posttrain.feedback.server.app import LOCAL, application

        redraw = Redraw(ledger, queue)
        local = self.host in LOCAL or self.host == "::1"
        secure = self.certificate is not None or self.behind_proxy
        return application(ledger, secure, local, redraw.judged, live, lambda: feed.coming)


class Redraw:
    """With active selection, a new order after every so many judgments, in a thread of its own."""

    def __init__(self, ledger: Ledger, queue: Queue) -> None:
        self.ledger, self.queue, self.count, self.lock = ledger, queue, 0, threading.Lock()
        if queue.settings.active:
            self._draw()

    def judged(self) -> None:
        settings = self.queue.settings
        with self.lock:
            self.count += 1
            due = settings.active and settings.refresh > 0 and self.count % settings.refresh == 0
        if due:
            threading.Thread(target=self._draw, daemon=True).start()

    def _draw(self) -> None:
        from posttrain.feedback.active import select_next

        with self.ledger.write() as connection:
            select_next(connection, self.queue)


def done(ledger: Ledger, queue: Queue, feed: Feed) -> bool:
    """Is there nothing left to judge, and nothing coming?"""
    from posttrain.feedback import queues

    with ledger.read() as connection:
        return not feed.coming and queues.finished(connection, queue.id)


def owner_link(ledger: Ledger) -> str:
    """A single-use secret for the owner: who runs the command may read the file, and so may come in."""
    from posttrain.feedback import accounts

    with ledger.write() as connection:
        known = accounts.owner(connection)
        return accounts.invite(connection, "owner", for_annotator=None if known is None else known.id)
