"""The server's description of itself, OpenAPI 3.1: what clients may send and what they get."""

from __future__ import annotations

from typing import Any

NUMBER = {"type": ["number", "null"]}
WHOLE = {"type": ["integer", "null"], "minimum": 1, "maximum": 4096}
FLAG = {"type": ["boolean", "null"]}
TEXT = {"type": ["string", "null"]}

COMMON: dict[str, Any] = {
    "model": TEXT,
    "n": {"type": ["integer", "null"], "minimum": 1, "maximum": 128},
    "temperature": {**NUMBER, "minimum": 0, "maximum": 1e6},
    "top_p": {**NUMBER, "minimum": 0, "maximum": 1},
    "frequency_penalty": {**NUMBER, "minimum": -100, "maximum": 100},
    "presence_penalty": {**NUMBER, "minimum": -100, "maximum": 100},
    "max_tokens": WHOLE,
    "stop": {"anyOf": [{"type": "null"}, {"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    "seed": {"type": ["integer", "null"], "minimum": -(2**62), "maximum": 2**62},
    "stream": FLAG,
    "stream_options": {"type": ["object", "null"], "properties": {"include_usage": FLAG}},
    "logit_bias": {
        "type": ["object", "null"],
        "propertyNames": {"pattern": "^[0-9]{1,6}$"},
        "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
    },
    "user": TEXT,
    "posttrain": {
        "type": ["object", "null"],
        "properties": {
            name: {"type": "array", "items": {"type": "string", "pattern": "[a-z]{3}"}} for name in ("ban", "words")
        },
        "additionalProperties": False,
    },
}
MESSAGE = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {"type": "string"},
        "content": {
            "anyOf": [
                TEXT,
                {
                    "type": "array",
                    "items": {"type": "object", "properties": {"type": {"type": "string"}, "text": {"type": "string"}}},
                },
            ]
        },
    },
}


def _post(summary: str, extra: dict[str, Any], required: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "required": required, "properties": {**COMMON, **extra}}
    told = {"schema": {"type": "object"}}
    refused = {"description": "the request is malformed", "content": {"application/json": told}}
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
            "responses": {
                "200": {
                    "description": "answers",
                    "content": {"application/json": told, "text/event-stream": {"schema": {}}},
                },
                "400": refused,
                "401": {**refused, "description": "no such key"},
                "413": {**refused, "description": "the body is too large"},
                "503": {**refused, "description": "the server is shutting down"},
            },
        }
    }


def _get(summary: str, kind: str = "application/json") -> dict[str, Any]:
    return {
        "get": {
            "summary": summary,
            "responses": {
                "200": {"description": "found", "content": {kind: {"schema": {}}}},
                "401": {"description": "no such key", "content": {"application/json": {"schema": {"type": "object"}}}},
            },
        }
    }


def document(keys: bool) -> dict[str, Any]:
    """The whole description. keys: a bearer token is asked for."""
    chat = {
        "messages": {"type": "array", "minItems": 1, "items": MESSAGE},
        "max_completion_tokens": WHOLE,
        "logprobs": FLAG,
        "top_logprobs": {"type": ["integer", "null"], "minimum": 0, "maximum": 20},
    }
    plain = {
        "prompt": {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "minItems": 1, "maxItems": 128, "items": {"type": "string"}},
            ]
        },
        "logprobs": {"type": ["integer", "null"], "minimum": 0, "maximum": 20},
    }
    out: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "posttrain", "version": "1"},
        "paths": {
            "/healthz": _get("is it well"),
            "/metrics": _get("counters", "text/plain"),
            "/v1/models": _get("the model served"),
            "/v1/chat/completions": _post("answer a chat", chat, ["messages"]),
            "/v1/completions": _post("continue a text", plain, ["prompt"]),
        },
    }
    if keys:
        out["components"] = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
        out["security"] = [{"key": []}]
    return out
