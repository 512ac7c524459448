"""The application: its addresses, and the headers that every answer carries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from posttrain.feedback.ledger import Ledger
from posttrain.feedback.server import desk, entry, live, work
from posttrain.feedback.server.call import Call, Handler, endpoint, problem
from posttrain.feedback.server.openapi import openapi

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
LOCAL = ("127.0.0.1", "localhost", "[::1]", "testserver")


class Guard:
    """Headers on every answer; on loopback, only local names are answered, so that no foreign name can be pointed at us."""

    def __init__(self, app: Any, local: bool) -> None:
        self.app, self.local = app, local

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        host = Request(scope).headers.get("host", "")
        name = host if host.startswith("[") and host.endswith("]") else host.rpartition(":")[0] or host
        if self.local and name not in LOCAL:
            await problem("this server answers to local names only", 421)(scope, receive, sending)
            return
        await self.app(scope, receive, sending)


def health(call: Call) -> Response:
    """``GET /healthz``: can the ledger be read?"""
    with call.ledger.read() as connection:
        connection.exec_driver_sql("SELECT 1")
    return JSONResponse({"ok": True})


def _get(path: str, handler: Handler, needs: str | None = None, api: bool = False) -> Route:
    return Route(path, endpoint(handler, needs, False, api), methods=["GET"])


def _post(path: str, handler: Handler, needs: str | None = None, api: bool = False) -> Route:
    return Route(path, endpoint(handler, needs, True, api), methods=["POST"])


def routes() -> list[Any]:
    return [
        _get("/healthz", health, api=True),
        Route("/openapi.json", lambda _: JSONResponse(openapi()), methods=["GET"]),
        _get("/", work.work_page, "any"),
        _post("/work", work.form, "judge"),
        _get("/next", work.next_task, "judge", api=True),
        _post("/judgments", work.submit, "judge", api=True),
        _post("/drafts", work.save_draft, "judge", api=True),
        _post("/undo", work.undo, "judge", api=True),
        _get("/progress", work.progress, "judge", api=True),
        _get("/difference", work.difference, "judge", api=True),
        _post("/ask", live.ask, "judge", api=True),
        _get("/export", desk.export, "manage", api=True),
        _get("/agreement", desk.agreement, "see", api=True),
        _get("/login", entry.login_page),
        _post("/login", entry.login),
        _post("/logout", entry.logout),
        _get("/join/{secret:str}", entry.join_page),
        _post("/join/{secret:str}", entry.join),
        _get("/dashboard", desk.dashboard, "see"),
        _get("/people", desk.people, "manage"),
        _post("/people", desk.invite, "manage"),
        _get("/review", desk.review, "manage"),
        _post("/review", desk.adjudicate, "manage"),
        _get("/guidelines", desk.guidelines, "any"),
        _post("/guidelines", desk.write_guidelines, "manage"),
        Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
    ]


async def _fault(_: Request, error: Exception) -> Response:
    return problem("a fault of the server; it is in its log", 500)


async def _missing(_: Request, error: Exception) -> Response:
    status = int(getattr(error, "status_code", 404))
    return problem("there is nothing here" if status == 404 else "this is not possible here", status)


def application(
    ledger: Ledger, secure: bool = False, local: bool = True, judged: Callable[[], None] = lambda: None,
    model: live.Live | None = None, feeding: Callable[[], bool] = lambda: False,
) -> Starlette:  # fmt: skip
    """The ASGI application. secure: cookies for TLS only. local: answer local names only. judged: called after each judgment.

    model: answers prompts while people rank. feeding: are rows still coming in?
    """
    made = Starlette(
        routes=routes(),
        middleware=[Middleware(Guard, local=local)],
        exception_handlers={404: _missing, 405: _missing, 500: _fault},
    )
    made.state.ledger, made.state.secure, made.state.judged = ledger, secure, judged
    made.state.tries = entry.Tries()
    made.state.live, made.state.live_n = model, 0 if model is None else model.n
    made.state.feeding = feeding
    return made
