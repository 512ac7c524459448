"""Version 0002: what the page asks for at every step is counted or indexed, so that its time does not grow with the ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
CHECK = sa.text("reason IN ('gold', 'repeat')")


def upgrade() -> None:
    op.add_column("queue", sa.Column("open_items", sa.Integer(), server_default="0", nullable=False))
    op.execute(
        "UPDATE queue SET open_items = (SELECT count(*) FROM item "
        "WHERE item.queue = queue.id AND item.kind = 'ordinary' AND item.places > 0)"
    )
    op.create_index("ix_judgment_annotator", "judgment", ["annotator", "created"])
    op.create_index(
        "ix_assignment_check", "assignment", ["annotator", "queue"], sqlite_where=CHECK, postgresql_where=CHECK
    )


def downgrade() -> None:
    op.drop_index("ix_assignment_check", "assignment")
    op.drop_index("ix_judgment_annotator", "judgment")
    op.drop_column("queue", "open_items")
