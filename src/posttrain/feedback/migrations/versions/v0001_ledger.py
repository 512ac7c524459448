"""Version 0001: the tables of a ledger, as they were first. One piece, as alembic wrote it: later versions only add files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from posttrain.feedback.migrations.append_only import refusals

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "annotator",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), server_default="person", nullable=False),
        sa.Column("password", sa.Text(), nullable=True),
        sa.Column("languages", sa.Text(), server_default="[]", nullable=False),
        sa.Column("expertise", sa.Text(), server_default="[]", nullable=False),
        sa.Column("team", sa.String(length=100), server_default="", nullable=False),
        sa.Column("consent", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("closed", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annotator")),
        sa.UniqueConstraint("name", name=op.f("uq_annotator_name")),
    )
    op.create_table(
        "body",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("json", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_body")),
    )
    op.create_table(
        "event",
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("what", sa.String(length=32), nullable=False),
        sa.Column("who", sa.String(length=32), nullable=True),
        sa.Column("body", sa.Text(), server_default="{}", nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("n", name=op.f("pk_event")),
    )
    op.create_table(
        "queue",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("settings", sa.Text(), server_default="{}", nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_queue")),
        sa.UniqueConstraint("name", name=op.f("uq_queue_name")),
    )
    op.create_table(
        "guideline",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("queue", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("body", sa.String(length=64), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["body"], ["body.hash"], name=op.f("fk_guideline_body")),
        sa.ForeignKeyConstraint(["queue"], ["queue.id"], name=op.f("fk_guideline_queue")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_guideline")),
    )
    op.create_index("ix_guideline_queue", "guideline", ["queue", "version"], unique=True)
    op.create_table(
        "invitation",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("expertise", sa.Text(), server_default="[]", nullable=False),
        sa.Column("team", sa.String(length=100), server_default="", nullable=False),
        sa.Column("for_annotator", sa.String(length=64), nullable=True),
        sa.Column("used_by", sa.String(length=64), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["for_annotator"], ["annotator.id"], name=op.f("fk_invitation_for_annotator")),
        sa.ForeignKeyConstraint(["used_by"], ["annotator.id"], name=op.f("fk_invitation_used_by")),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_invitation")),
    )
    op.create_table(
        "item",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("queue", sa.String(length=64), nullable=False),
        sa.Column("prompt", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("n", sa.Integer(), server_default="0", nullable=False),
        sa.Column("facts", sa.Text(), server_default="{}", nullable=False),
        sa.Column("lang", sa.String(length=16), nullable=True),
        sa.Column("category", sa.String(length=100), nullable=True),
        sa.Column("kind", sa.String(length=16), server_default="ordinary", nullable=False),
        sa.Column("wanted", sa.Integer(), server_default="3", nullable=False),
        sa.Column("active", sa.Integer(), server_default="0", nullable=False),
        sa.Column("done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("places", sa.Integer(), server_default="3", nullable=False),
        sa.Column("fresh", sa.Integer(), server_default="1", nullable=False),
        sa.Column("turn", sa.Float(), server_default="0", nullable=False),
        sa.Column("reason", sa.String(length=16), server_default="random", nullable=False),
        sa.Column("propensity", sa.Float(), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["prompt"], ["body.hash"], name=op.f("fk_item_prompt")),
        sa.ForeignKeyConstraint(["queue"], ["queue.id"], name=op.f("fk_item_queue")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_item")),
    )
    op.create_index(
        "ix_item_next",
        "item",
        ["queue", "kind", "fresh", "turn"],
        unique=False,
        sqlite_where=sa.text("places > 0"),
        postgresql_where=sa.text("places > 0"),
    )
    op.create_index("uq_item_key", "item", ["queue", "key"], unique=True)
    op.create_table(
        "session",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("annotator", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("csrf", sa.String(length=64), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["annotator"], ["annotator.id"], name=op.f("fk_session_annotator")),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_session")),
    )
    op.create_table(
        "adjudication",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("item", sa.String(length=64), nullable=False),
        sa.Column("judgment", sa.String(length=32), nullable=True),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("ranking", sa.Text(), server_default="null", nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["by"], ["annotator.id"], name=op.f("fk_adjudication_by")),
        sa.ForeignKeyConstraint(["item"], ["item.id"], name=op.f("fk_adjudication_item")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adjudication")),
    )
    op.create_index("ix_adjudication_item", "adjudication", ["item"], unique=False)
    op.create_table(
        "assignment",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("item", sa.String(length=64), nullable=False),
        sa.Column("annotator", sa.String(length=64), nullable=False),
        sa.Column("queue", sa.String(length=64), nullable=False),
        sa.Column("display", sa.Text(), server_default="[]", nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("propensity", sa.Float(), nullable=True),
        sa.Column("team", sa.String(length=100), server_default="", nullable=False),
        sa.Column("state", sa.String(length=16), server_default="open", nullable=False),
        sa.Column("judgment", sa.String(length=32), nullable=True),
        sa.Column("issued", sa.Float(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.Column("closed", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["annotator"], ["annotator.id"], name=op.f("fk_assignment_annotator")),
        sa.ForeignKeyConstraint(["item"], ["item.id"], name=op.f("fk_assignment_item")),
        sa.ForeignKeyConstraint(["queue"], ["queue.id"], name=op.f("fk_assignment_queue")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assignment")),
    )
    op.create_index(
        "ix_assignment_expiry",
        "assignment",
        ["expires"],
        unique=False,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index("ix_assignment_item", "assignment", ["item", "annotator"], unique=False)
    op.create_index("ix_assignment_work", "assignment", ["annotator", "queue", "state", "closed"], unique=False)
    op.create_index(
        "uq_assignment_once",
        "assignment",
        ["item", "annotator"],
        unique=True,
        sqlite_where=sa.text("state IN ('open', 'done', 'skipped') AND reason <> 'repeat'"),
        postgresql_where=sa.text("state IN ('open', 'done', 'skipped') AND reason <> 'repeat'"),
    )
    op.create_table(
        "gold",
        sa.Column("item", sa.String(length=32), nullable=False),
        sa.Column("ranking", sa.Text(), server_default="null", nullable=False),
        sa.Column("forbidden", sa.Text(), server_default="[]", nullable=False),
        sa.Column("why", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["item"], ["item.id"], name=op.f("fk_gold_item")),
        sa.PrimaryKeyConstraint("item", name=op.f("pk_gold")),
    )
    op.create_table(
        "response",
        sa.Column("item", sa.String(length=64), nullable=False),
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("turns", sa.String(length=64), nullable=False),
        sa.Column("by", sa.String(length=300), nullable=True),
        sa.Column("facts", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["item"], ["item.id"], name=op.f("fk_response_item")),
        sa.ForeignKeyConstraint(["turns"], ["body.hash"], name=op.f("fk_response_turns")),
    )
    op.create_index("uq_response", "response", ["item", "key"], unique=True)
    op.create_table(
        "draft",
        sa.Column("assignment", sa.String(length=32), nullable=False),
        sa.Column("body", sa.Text(), server_default="{}", nullable=False),
        sa.Column("saved", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["assignment"], ["assignment.id"], name=op.f("fk_draft_assignment")),
        sa.PrimaryKeyConstraint("assignment", name=op.f("pk_draft")),
    )
    op.create_table(
        "judgment",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("assignment", sa.String(length=64), nullable=False),
        sa.Column("item", sa.String(length=64), nullable=False),
        sa.Column("annotator", sa.String(length=64), nullable=False),
        sa.Column("client", sa.String(length=64), nullable=False),
        sa.Column("replaces", sa.String(length=32), nullable=True),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("ranking", sa.Text(), server_default="null", nullable=False),
        sa.Column("ratings", sa.Text(), server_default="{}", nullable=False),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("spans", sa.Text(), server_default="[]", nullable=False),
        sa.Column("text", sa.String(length=64), nullable=True),
        sa.Column("edits", sa.Integer(), nullable=True),
        sa.Column("comment", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("flag", sa.Text(), server_default="", nullable=False),
        sa.Column("confidence", sa.Integer(), nullable=True),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("focus_losses", sa.Integer(), server_default="0", nullable=False),
        sa.Column("hasty", sa.Integer(), server_default="0", nullable=False),
        sa.Column("guideline", sa.Integer(), nullable=True),
        sa.Column("version", sa.String(length=32), server_default="", nullable=False),
        sa.Column("schema", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["annotator"], ["annotator.id"], name=op.f("fk_judgment_annotator")),
        sa.ForeignKeyConstraint(["assignment"], ["assignment.id"], name=op.f("fk_judgment_assignment")),
        sa.ForeignKeyConstraint(["item"], ["item.id"], name=op.f("fk_judgment_item")),
        sa.ForeignKeyConstraint(["text"], ["body.hash"], name=op.f("fk_judgment_text")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_judgment")),
    )
    op.create_index("ix_judgment_assignment", "judgment", ["assignment"], unique=False)
    op.create_index("ix_judgment_item", "judgment", ["item"], unique=False)
    op.create_index("uq_judgment_client", "judgment", ["annotator", "client"], unique=True)
    for statement in refusals(("judgment", "adjudication", "event", "guideline", "body"), op.get_bind().dialect.name):
        op.execute(statement)


def downgrade() -> None:
    """The first version has none before it: export, and begin a new file."""
    raise ValueError("a ledger cannot go back before version 0001")
