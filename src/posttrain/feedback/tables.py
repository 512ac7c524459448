"""The tables of a ledger. Judgments, adjudications and events are only ever added to; the rest is the state of work under way.

Texts are stored once, by SHA-256, as JSON (so NUL and lone surrogates survive in PostgreSQL, too). Times are seconds since 1970, UTC.
Counters on `item` make the next task one look-up in an index whatever the number of items: `places` is how many more people may
get it now, `fresh` is 1 until somebody has, `turn` is its place in the drawn order. `queue.open_items` counts the ordinary items that
have a place. The conditions `FREE`, `WAITING` and `CHECK` are written out, never bound as parameters: a database uses a partial index
only where it can see that the condition holds.
"""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text, text

FREE, WAITING, CHECK = (
    text("item.places > 0"),
    text("assignment.state = 'open'"),
    text("assignment.reason IN ('gold', 'repeat')"),
)
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id() -> Column[str]:
    return Column("id", String(32), primary_key=True)


def _to(table: str, name: str | None = None, null: bool = False) -> Column[str]:
    return Column(
        name or table, String(64), ForeignKey(f"{table}.{'hash' if table == 'body' else 'id'}"), nullable=null
    )


def _json(name: str, default: str = "{}") -> Column[str]:
    return Column(name, Text, nullable=False, server_default=default)


def _number(name: str, default: int = 0) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=str(default))


def _time(name: str, null: bool = False) -> Column[float]:
    return Column(name, Float, nullable=null)


body = Table("body", metadata, Column("hash", String(64), primary_key=True), Column("json", Text, nullable=False))
queue = Table(
    "queue",
    metadata,
    _id(),
    Column("name", String(200), nullable=False, unique=True),
    _json("settings"),
    _number("open_items"),
    _time("created"),
)
guideline = Table(
    "guideline", metadata, _id(), _to("queue"), _number("version", 1), _to("body"), _time("created"),
    Index("ix_guideline_queue", "queue", "version", unique=True),
)  # fmt: skip
item = Table(
    "item", metadata, _id(), _to("queue"), _to("body", "prompt"), Column("key", String(64), nullable=False),
    _number("n"), _json("facts"), Column("lang", String(16)), Column("category", String(100)),
    Column("kind", String(16), nullable=False, server_default="ordinary"),
    _number("wanted", 3), _number("active"), _number("done"), _number("places", 3), _number("fresh", 1),
    Column("turn", Float, nullable=False, server_default="0"), Column("reason", String(16), nullable=False, server_default="random"),
    Column("propensity", Float), _time("created"),
    Index("uq_item_key", "queue", "key", unique=True),
    Index("ix_item_next", "queue", "kind", "fresh", "turn", sqlite_where=text("places > 0"), postgresql_where=text("places > 0")),
)  # fmt: skip
response = Table(
    "response", metadata, _to("item"), Column("key", Integer, nullable=False), _to("body", "turns"),
    Column("by", String(300)), _json("facts"), Index("uq_response", "item", "key", unique=True),
)  # fmt: skip
annotator = Table(
    "annotator", metadata, _id(), Column("name", String(100), nullable=False, unique=True),
    Column("role", String(16), nullable=False), Column("kind", String(16), nullable=False, server_default="person"),
    Column("password", Text), _json("languages", "[]"), _json("expertise", "[]"),
    Column("team", String(100), nullable=False, server_default=""), _number("consent"), _time("created"), _time("closed", True),
)  # fmt: skip
invitation = Table(
    "invitation", metadata, Column("hash", String(64), primary_key=True), Column("role", String(16), nullable=False),
    _json("expertise", "[]"), Column("team", String(100), nullable=False, server_default=""),
    _to("annotator", "for_annotator", True), _to("annotator", "used_by", True), _time("created"), _time("expires"),
)  # fmt: skip
session = Table(
    "session", metadata, Column("hash", String(64), primary_key=True), _to("annotator"),
    Column("kind", String(8), nullable=False), Column("csrf", String(64), nullable=False), _time("created"), _time("expires"),
)  # fmt: skip
assignment = Table(
    "assignment", metadata, _id(), _to("item"), _to("annotator"), _to("queue"), _json("display", "[]"),
    Column("reason", String(16), nullable=False), Column("propensity", Float),
    Column("team", String(100), nullable=False, server_default=""),
    Column("state", String(16), nullable=False, server_default="open"), Column("judgment", String(32)),
    _time("issued"), _time("expires"), _time("closed", True),
    Index("ix_assignment_item", "item", "annotator"), Index("ix_assignment_work", "annotator", "queue", "state", "closed"),
    Index("ix_assignment_expiry", "expires", sqlite_where=text("state = 'open'"), postgresql_where=text("state = 'open'")),
    Index("ix_assignment_check", "annotator", "queue", sqlite_where=text("reason IN ('gold', 'repeat')"),
          postgresql_where=text("reason IN ('gold', 'repeat')")),
    Index("uq_assignment_once", "item", "annotator", unique=True,
          sqlite_where=text("state IN ('open', 'done', 'skipped') AND reason <> 'repeat'"),
          postgresql_where=text("state IN ('open', 'done', 'skipped') AND reason <> 'repeat'")),
)  # fmt: skip
judgment = Table(
    "judgment", metadata, _id(), _to("assignment"), _to("item"), _to("annotator"),
    Column("client", String(64), nullable=False), Column("replaces", String(32)), Column("kind", String(16), nullable=False),
    _json("ranking", "null"), _json("ratings"), _json("labels"), _json("spans", "[]"), _to("body", "text", True),
    Column("edits", Integer), Column("comment", Text, nullable=False, server_default=""),
    Column("reason", Text, nullable=False, server_default=""), Column("flag", Text, nullable=False, server_default=""),
    Column("confidence", Integer), Column("seconds", Float), _number("focus_losses"), _number("hasty"),
    Column("guideline", Integer), Column("version", String(32), nullable=False, server_default=""), _number("schema", 1),
    _time("created"),
    Index("uq_judgment_client", "annotator", "client", unique=True), Index("ix_judgment_item", "item"),
    Index("ix_judgment_assignment", "assignment"), Index("ix_judgment_annotator", "annotator", "created"),
)  # fmt: skip
draft = Table(
    "draft", metadata, Column("assignment", String(32), ForeignKey("assignment.id"), primary_key=True), _json("body"),
    _time("saved"),
)  # fmt: skip
gold = Table(
    "gold", metadata, Column("item", String(32), ForeignKey("item.id"), primary_key=True), _json("ranking", "null"),
    _json("forbidden", "[]"), Column("why", Text, nullable=False, server_default=""),
)  # fmt: skip
adjudication = Table(
    "adjudication", metadata, _id(), _to("item"), Column("judgment", String(32)), Column("verdict", String(16), nullable=False),
    _json("ranking", "null"), _to("annotator", "by"), Column("why", Text, nullable=False), _time("created"),
    Index("ix_adjudication_item", "item"),
)  # fmt: skip
event = Table(
    "event", metadata, Column("n", Integer, primary_key=True, autoincrement=False), _time("at"),
    Column("what", String(32), nullable=False), Column("who", String(32)), _json("body"), Column("hash", String(64), nullable=False),
)  # fmt: skip

APPEND_ONLY = ("judgment", "adjudication", "event", "guideline", "body")
