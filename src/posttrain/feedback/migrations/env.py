"""Where alembic finds the connection and the tables: both come from `posttrain.feedback.migrate`, never from a file."""

from __future__ import annotations

from alembic import context

from posttrain.feedback.tables import metadata


def run() -> None:
    """Apply the versions, inside the transaction of whoever opened the connection."""
    context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
    context.run_migrations()


if __name__ == "env_py":  # the name under which alembic loads this file; a plain import does nothing
    run()
