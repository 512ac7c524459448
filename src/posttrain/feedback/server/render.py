"""Templates: escaped always, texts of the interface in the reader's language."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from posttrain.feedback.server.call import Call
from posttrain.feedback.server.words import LANGUAGES
from posttrain.feedback.visible import visible

HERE = Path(__file__).parent


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    made.filters["visible"] = visible
    made.filters["stat"] = lambda interval: f"{interval:.2f}"
    made.globals["LANGUAGES"] = LANGUAGES
    return made


def fragment(call: Call, template: str, **values: Any) -> str:
    """A template as text."""
    who = call.session.who if call.session is not None else None
    at = call.request.url.path
    return (
        _environment()
        .get_template(template)
        .render(w=call.words, csrf=call.csrf, who=who, at=at, query=dict(call.request.query_params), **values)
    )


def page(call: Call, template: str, status: int = 200, **values: Any) -> Response:
    """A template as a page; never kept by caches, as it is one person's."""
    return HTMLResponse(fragment(call, template, **values), status, headers={"Cache-Control": "no-store"})
