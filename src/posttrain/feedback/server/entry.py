"""How people come in: a single-use link, later a password. Five tries a minute for each name and address, thirty for an address.

The second limit is for who tries many names: every try costs 64 MiB and a tenth of a second of scrypt, whether the name is known or not.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from threading import Lock

from starlette.responses import RedirectResponse, Response

from posttrain.feedback import accounts
from posttrain.feedback.accounts import Refused
from posttrain.feedback.server.call import COOKIE, Call
from posttrain.feedback.server.render import page

TRIES, ANY_NAME, WINDOW = 5, 30, 60.0


class Tries:
    """Tries of the last minute by name and address."""

    def __init__(self) -> None:
        self._at: dict[tuple[str, str], deque[float]] = defaultdict(deque)
        self._lock = Lock()

    def allow(self, name: str, address: str, now: float | None = None) -> bool:
        """Count a try; False where there were too many."""
        now = time.monotonic() if now is None else now
        with self._lock:
            return all([self._count((name[:100], address), TRIES, now), self._count(("", address), ANY_NAME, now)])

    def _count(self, key: tuple[str, str], most: int, now: float) -> bool:
        if len(self._at) > 10_000:
            self._at = defaultdict(deque, {k: v for k, v in self._at.items() if v and v[-1] > now - WINDOW})
        tries = self._at[key]
        while tries and tries[0] <= now - WINDOW:
            tries.popleft()
        tries.append(now)
        return len(tries) <= most


def _signed_in(call: Call, who: str) -> Response:
    with call.ledger.write() as connection:
        secret = accounts.open_session(connection, who)
    made = RedirectResponse("/", 303)
    made.set_cookie(
        COOKIE, secret, httponly=True, samesite="strict", secure=call.secure, max_age=int(accounts.SIGNED_IN), path="/"
    )
    return made


def login_page(call: Call) -> Response:
    return page(call, "login.html", error=None)


def login(call: Call) -> Response:
    name, password = call.text("name", 200).strip(), call.text("password", 1000)
    client = call.request.client
    if not call.request.app.state.tries.allow(name, client.host if client else ""):
        return page(call, "login.html", 429, error=call.words.too_many_tries)
    with call.ledger.read() as connection:
        who = accounts.sign_in(connection, name.replace("\x00", ""), password)
    if who is None:
        return page(call, "login.html", 403, error=call.words.wrong_password)
    return _signed_in(call, who.id)


def logout(call: Call) -> Response:
    if call.session is not None:
        with call.ledger.write() as connection:
            accounts.close_session(connection, call.session.hash)
    made = RedirectResponse("/login", 303)
    made.delete_cookie(COOKIE, path="/")
    return made


def join_page(call: Call) -> Response:
    """The invitation is used up by the button, not by looking at it: mail programs open links, too."""
    with call.ledger.read() as connection:
        row = accounts.invited(connection, str(call.path["secret"]))
        known = next((p for p in accounts.people(connection) if row is not None and p.id == row.for_annotator), None)
    if row is None:
        raise Refused("this invitation was used, or is older than 72 hours; ask for another", 410)
    return page(call, "join.html", role=row.role, known=known, error=None, secret=call.path["secret"])


def join(call: Call) -> Response:
    name, password = call.text("name", 200), call.text("password", 1000) or None
    secret = str(call.path["secret"])
    try:
        with call.ledger.write() as connection:
            row = accounts.invited(connection, secret)
            if row is not None and row.for_annotator is None and row.role != "owner" and password is None:
                raise Refused(call.words.password_hint, 400)
            who = accounts.join(connection, secret, name, password)
    except Refused as refusal:
        if row is None:
            raise
        return page(
            call,
            "join.html",
            refusal.status,
            role=row.role,
            known=None,
            error=call.words.said(str(refusal)),
            secret=secret,
        )
    return _signed_in(call, who.id)
