"""``/openapi.json``: the JSON addresses, for clients and for tests that try every kind of nonsense on them."""

from __future__ import annotations

from typing import Any

from posttrain.feedback.server.shapes import Ask, Draft, Given, Submission, Undo

BODIES: dict[str, tuple[type[Given], str]] = {
    "/judgments": (Submission, "Store an answer; the same client id again changes nothing"),
    "/drafts": (Draft, "Keep unfinished work on a task"),
    "/undo": (Undo, "Take the last answer back"),
    "/ask": (Ask, "Let the live model answer a prompt"),
}
_ID = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
READS: dict[str, tuple[str, dict[str, Any]]] = {
    "/next": ("The next task", {"queue": _ID, "as": {"type": "string", "enum": ["html"]}}),
    "/progress": ("How far one is", {"queue": _ID}),
    "/difference": (
        "Two answers of a task, word by word",
        {"task": _ID, "a": {"type": "integer"}, "b": {"type": "integer"}},
    ),
    "/export": (
        "Labels of a queue",
        {"queue": _ID, "format": {"type": "string"}, "names": {"type": "string", "enum": ["1"]}},
    ),
    "/agreement": ("Agreement of a queue", {"queue": _ID}),
    "/healthz": ("Is it up", {}),
}


def openapi() -> dict[str, Any]:
    """The document, version 3.1."""
    answers = {str(s): {"description": d} for s, d in ((200, "as asked"), (201, "stored"), (400, "cannot be understood"),
               (401, "sign in"), (403, "not allowed"), (404, "not here"), (409, "too late"),
               (413, "too large"), (415, "send JSON"))}  # fmt: skip
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for path, (model, title) in BODIES.items():
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
        body = {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}},
        }
        paths[path] = {"post": {"summary": title, "requestBody": body, "responses": answers}}
    for path, (title, query) in READS.items():
        parameters = [{"name": n, "in": "query", "required": False, "schema": s} for n, s in query.items()]
        paths[path] = {"get": {"summary": title, "parameters": parameters, "responses": answers}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "posttrain annotation", "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}],
    }
