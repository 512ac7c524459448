"""Triggers that refuse to change or remove what is history: a bug or a careless hand meets an error, not a gap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def refusals(tables: Sequence[str], dialect: str) -> Iterator[str]:
    """The statements that protect `tables`, for `sqlite` or `postgresql`."""
    if dialect == "postgresql":
        yield (
            "CREATE FUNCTION refuse_change() RETURNS trigger AS $$ BEGIN "
            "RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$ LANGUAGE plpgsql"
        )
    for table in tables:
        for action in ("UPDATE", "DELETE"):
            name = f"{table}_no_{action.lower()}"
            if dialect == "postgresql":
                yield f"CREATE TRIGGER {name} BEFORE {action} ON {table} FOR EACH ROW EXECUTE FUNCTION refuse_change()"
            else:
                yield (
                    f"CREATE TRIGGER {name} BEFORE {action} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                )
