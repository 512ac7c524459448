"""People: roles, passwords, single-use invitations, sessions. There is no default password, and no account without an invitation.

Passwords are kept as scrypt (n = 2^15, r = 8, p = 1) under a salt each; sessions, invitations and tokens as SHA-256. An invitation
holds for 72 hours, once. The one for the owner is printed by whoever runs the server: who can read the file could do as much.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from posttrain.feedback import history
from posttrain.feedback.ids import digest, secret, token
from posttrain.feedback.tables import annotator, invitation, session

Role = Literal["owner", "manager", "annotator", "viewer"]
ROLES: tuple[Role, ...] = ("owner", "manager", "annotator", "viewer")
HOURS = 3600.0
INVITED, SIGNED_IN, API = 72 * HOURS, 14 * 24 * HOURS, 365 * 24 * HOURS
LEAST_PASSWORD = 10
MAY: dict[str, frozenset[str]] = {
    "judge": frozenset({"owner", "manager", "annotator"}),
    "see": frozenset({"owner", "manager", "viewer"}),
    "manage": frozenset({"owner", "manager"}),
    "own": frozenset({"owner"}),
}


class Refused(ValueError):
    """Not allowed, or not any more. status: the HTTP status that says so."""

    def __init__(self, why: str, status: int = 403) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Person:
    """Somebody who judges; a judge model is one with `kind` model."""

    id: str
    name: str
    role: str
    kind: str = "person"
    expertise: tuple[str, ...] = ()
    team: str = ""

    def may(self, what: str) -> bool:
        return self.role in MAY[what]


def _person(row: Any) -> Person:
    return Person(row.id, row.name, row.role, row.kind, tuple(json.loads(row.expertise)), row.team)


def people(connection: Connection) -> list[Person]:
    return [_person(r) for r in connection.execute(select(annotator).order_by(annotator.c.created, annotator.c.id))]


def named(connection: Connection, name: str, role: Role = "annotator", kind: str = "person", team: str = "") -> Person:
    """The person of that name, made where there is none: for the terminal, imports and judges, which need no password."""
    row = connection.execute(select(annotator).where(annotator.c.name == name)).first()
    return _person(row) if row is not None else enrol(connection, name, role, kind=kind, team=team)


def enrol(
    connection: Connection, name: str, role: str, password: str | None = None, kind: str = "person",
    expertise: tuple[str, ...] = (), team: str = "", consent: int = 0,
) -> Person:  # fmt: skip
    """A new person. Raises Refused where the name is taken or a password is too short."""
    name = name.strip()
    if not name or len(name) > 100 or not name.isprintable():
        raise Refused("a name of 1 to 100 visible characters is needed", 400)
    if connection.execute(select(annotator.c.id).where(annotator.c.name == name)).first():
        raise Refused("this name is taken; choose another", 409)
    made = Person(token(), name, role, kind, expertise, team)
    connection.execute(
        insert(annotator).values(
            id=made.id, name=name, role=role, kind=kind, password=None if password is None else hashed(password),
            expertise=json.dumps(list(expertise)), team=team, consent=consent, created=time.time(),
        )
    )  # fmt: skip
    history.note(connection, "person", None, {"id": made.id, "role": role, "kind": kind})
    return made


def hashed(password: str, salt: bytes | None = None) -> str:
    """``scrypt$salt$key``, hex."""
    if len(password) < LEAST_PASSWORD:
        raise Refused(f"a password needs at least {LEAST_PASSWORD} characters", 400)
    salt = os.urandom(16) if salt is None else salt
    key = hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, n=1 << 15, r=8, p=1, maxmem=64 << 20)
    return f"scrypt${salt.hex()}${key.hex()}"


_NOBODY = f"scrypt${'00' * 16}${'00' * 64}"


def right(password: str, stored: str | None) -> bool:
    """Does the password fit? Takes the same time where there is no such account."""
    salt = bytes.fromhex((stored or _NOBODY).split("$")[1])
    made = hashed(password.ljust(LEAST_PASSWORD, "\x00"), salt)
    return hmac.compare_digest(made, stored or _NOBODY) and stored is not None


def sign_in(connection: Connection, name: str, password: str) -> Person | None:
    row = connection.execute(select(annotator).where(annotator.c.name == name, annotator.c.closed.is_(None))).first()
    fits = right(password, row.password if row is not None else None)
    return _person(row) if fits and row is not None else None


def set_password(connection: Connection, who: str, password: str) -> None:
    connection.execute(update(annotator).where(annotator.c.id == who).values(password=hashed(password)))
    history.note(connection, "password", who, {})


def invite(
    connection: Connection, role: str, by: str | None = None, expertise: tuple[str, ...] = (), team: str = "",
    for_annotator: str | None = None, now: float | None = None,
) -> str:  # fmt: skip
    """A single-use secret for an address ``/join/SECRET``. for_annotator: signs this person in instead of making one."""
    if role not in ROLES:
        raise Refused(f"role {role!r} is unknown; accepted: {', '.join(ROLES)}", 400)
    made, now = secret(), time.time() if now is None else now
    connection.execute(
        insert(invitation).values(
            hash=digest(made), role=role, expertise=json.dumps(list(expertise)), team=team, for_annotator=for_annotator,
            created=now, expires=now + INVITED,
        )
    )  # fmt: skip
    history.note(connection, "invitation", by, {"role": role, "team": team, "expertise": list(expertise)})
    return made


def invited(connection: Connection, given: str, now: float | None = None) -> Any:
    """The row of an invitation that still holds, else None."""
    row = connection.execute(select(invitation).where(invitation.c.hash == digest(given))).first()
    now = time.time() if now is None else now
    return row if row is not None and row.used_by is None and row.expires > now else None


def join(connection: Connection, given: str, name: str, password: str | None) -> Person:
    """Use an invitation up. Raises Refused where it does not hold any more."""
    row = invited(connection, given)
    if row is None:
        raise Refused("this invitation was used, or is older than 72 hours; ask for another", 410)
    if row.for_annotator is not None:
        found = connection.execute(select(annotator).where(annotator.c.id == row.for_annotator)).one()
        made = _person(found)
        if password:
            set_password(connection, made.id, password)
    else:
        made = enrol(connection, name, row.role, password, "person", tuple(json.loads(row.expertise)), row.team)
    connection.execute(update(invitation).where(invitation.c.hash == row.hash).values(used_by=made.id))
    return made


def owner(connection: Connection) -> Person | None:
    row = connection.execute(
        select(annotator).where(annotator.c.role == "owner").order_by(annotator.c.created).limit(1)
    ).first()
    return None if row is None else _person(row)


@dataclass(frozen=True)
class Session:
    """Somebody signed in. csrf: must come back with every change. kind: `page` (cookie) or `api` (header)."""

    who: Person
    csrf: str
    kind: str
    hash: str


def open_session(connection: Connection, who: str, kind: str = "page", now: float | None = None) -> str:
    """A new session's secret. Old ones of everybody that have run out are removed."""
    made, now = secret(), time.time() if now is None else now
    connection.execute(delete(session).where(session.c.expires < now))
    lasts = API if kind == "api" else SIGNED_IN
    connection.execute(
        insert(session).values(
            hash=digest(made), annotator=who, kind=kind, csrf=secret(), created=now, expires=now + lasts
        )
    )
    return made


def session_of(connection: Connection, given: str, kind: str = "page", now: float | None = None) -> Session | None:
    """The session of a secret, if it holds and its person may still come in."""
    joined = select(session.c.csrf, session.c.kind, session.c.hash, annotator).join(
        annotator, annotator.c.id == session.c.annotator
    )
    now = time.time() if now is None else now
    row = connection.execute(
        joined.where(session.c.hash == digest(given), session.c.expires > now, annotator.c.closed.is_(None))
    ).first()
    if row is None or row[1] != kind:
        return None
    return Session(_from(row), row.csrf, row[1], row.hash)


def _from(row: Any) -> Person:
    """A person out of a joined row, where the column `kind` is there twice."""
    m, c = row._mapping, annotator.c
    return Person(m[c.id], m[c.name], m[c.role], m[c.kind], tuple(json.loads(m[c.expertise])), m[c.team])


def close_session(connection: Connection, hash: str) -> None:
    connection.execute(delete(session).where(session.c.hash == hash))


def count(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).select_from(annotator)).scalar_one())
