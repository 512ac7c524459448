"""One request, checked before any handler sees it: size, session, role, origin, CSRF token. Handlers run in threads.

Every change needs a token that only our own page knows, beside a cookie that browsers do not send across sites; a request that names
a foreign origin is refused before either is looked at.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from posttrain.feedback.accounts import Person, Refused, Session, session_of
from posttrain.feedback.ledger import Ledger
from posttrain.feedback.server.words import LANGUAGES, Words, choose

MOST_BYTES = 256 * 1024
COOKIE, FORM_COOKIE = "posttrain_session", "posttrain_form"
Handler = Callable[["Call"], Response]


@dataclass
class Call:
    """What a handler gets. fields: the form's, or the JSON object's. form_token: CSRF for forms before anybody signed in."""

    request: Request
    ledger: Ledger
    session: Session | None
    fields: dict[str, Any]
    words: Words
    form_token: str
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def who(self) -> Person:
        assert self.session is not None
        return self.session.who

    def text(self, name: str, most: int = 10_000) -> str:
        """A field as text that every database takes: no NUL, no lone surrogate (JSON can hold both), not too long."""
        return str(self.fields.get(name, "")).replace("\x00", "").encode("utf-8", "replace").decode()[:most]

    @property
    def path(self) -> dict[str, Any]:
        return dict(self.request.path_params)

    @property
    def csrf(self) -> str:
        return self.session.csrf if self.session is not None else self.form_token

    @property
    def secure(self) -> bool:
        return bool(self.request.app.state.secure)


def endpoint(
    handler: Handler, needs: str | None = None, change: bool = False, api: bool = False
) -> Callable[[Request], Any]:
    """An ASGI endpoint around a handler. needs: what the person must be allowed to (`accounts.MAY`); `any` is anybody signed in."""

    async def handle(request: Request) -> Response:
        body = await _limited(request)
        if body is None:
            return problem("the request is larger than 256 KiB", 413)
        return await run_in_threadpool(_answer, request, body)

    def _answer(request: Request, body: bytes) -> Response:
        call = None
        try:
            call = _call(request, body, change)
            if needs is not None and call.session is None:
                return problem("sign in first", 401) if api else RedirectResponse("/login", 303)
            if needs not in (None, "any") and not call.who.may(str(needs)):
                raise Refused("your role does not allow this", 403)
            made = handler(call)
        except Refused as refusal:
            made = problem(str(refusal), refusal.status) if api or call is None else _page(call, refusal)
        if call is not None:
            for name, value in call.cookies.items():
                made.set_cookie(name, value, httponly=True, samesite="strict", secure=call.secure, max_age=14 * 86_400)
        return made

    return handle


def problem(why: str, status: int) -> Response:
    return JSONResponse({"error": why}, status)


def _page(call: Call, refusal: Refused) -> Response:
    from posttrain.feedback.server.render import page

    return page(call, "problem.html", status=refusal.status, why=call.words.said(str(refusal)))


async def _limited(request: Request) -> bytes | None:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            return None
    return body


def _call(request: Request, body: bytes, change: bool) -> Call:
    ledger: Ledger = request.app.state.ledger
    session = _session(request, ledger)
    if change:
        _same_origin(request)
    fields = _fields(request, body) if change else {}
    form_token = request.cookies.get(FORM_COOKIE) or secrets.token_urlsafe(24)
    language = request.query_params.get("lang") or request.cookies.get("lang") or ""
    words = choose(language, request.headers.get("accept-language", ""))
    call = Call(request, ledger, session, fields, words, form_token)
    if FORM_COOKIE not in request.cookies and session is None:
        call.cookies[FORM_COOKIE] = form_token
    if request.query_params.get("lang") in LANGUAGES:
        call.cookies["lang"] = request.query_params["lang"]
    if change and (session is None or session.kind == "page"):
        given = request.headers.get("x-csrf-token") or str(fields.get("csrf", ""))
        expected = session.csrf if session is not None else request.cookies.get(FORM_COOKIE, "")
        if not expected or not hmac.compare_digest(
            given.encode("utf-8", "replace"), expected.encode("utf-8", "replace")
        ):
            raise Refused("this form is out of date or came from another site; load the page again", 403)
    return call


def _session(request: Request, ledger: Ledger) -> Session | None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    kind, secret = ("api", given.strip()) if scheme.lower() == "bearer" else ("page", request.cookies.get(COOKIE, ""))
    if not secret:
        return None
    with ledger.read() as connection:
        return session_of(connection, secret, kind)


def _same_origin(request: Request) -> None:
    """Refuse what another site sent. Browsers name the origin of every POST; scripts of our own users name none."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refused("this came from another site", 403)
    origin = request.headers.get("origin")
    try:
        foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")
    except ValueError:
        foreign = True
    if foreign:
        raise Refused("this came from another site", 403)


def _fields(request: Request, body: bytes) -> dict[str, Any]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/json":
            made = json.loads(body or b"{}")
            if not isinstance(made, dict):
                raise Refused("a JSON object is needed", 400)
            return made
        if kind in ("application/x-www-form-urlencoded", ""):
            text = body.decode("utf-8")
            return {k: v[-1] for k, v in parse_qs(text, keep_blank_values=True, max_num_fields=400).items()}
    except (ValueError, RecursionError) as error:
        if isinstance(error, Refused):
            raise
        raise Refused("the request cannot be read", 400) from None
    raise Refused("send JSON or a form", 415)
