"""Recipe text to plain values: safe YAML, with numbers as people write them and without silent overwriting.

YAML 1.1 reads ``1e-4`` as text, ``off`` as false and keeps the last of two equal keys; here they are a number, the word and an error.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from posttrain.core.recipe import RecipeError


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader; tags and code stay refused."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"`{key.value}` is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_BOOL = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != _BOOL]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"(true|True|false|False)$"), list("tTfF"))  # type: ignore[no-untyped-call]
_Loader.add_implicit_resolver(  # type: ignore[no-untyped-call]
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse(text: str, where: str) -> Any:
    """The value of YAML text. Raises RecipeError in one line that begins with `where`.

    >>> parse("{lr: 1e-4, accept: [M3]}", "example")
    {'lr': 0.0001, 'accept': ['M3']}
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark is not None and "\n" in text.strip() else ""
        raise RecipeError(f"{where}{line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The mapping that a recipe file holds. Raises RecipeError with the path."""
    at = Path(path)
    if at.is_dir() and (at / "recipe.yaml").is_file():
        at = at / "recipe.yaml"
    if not at.is_file():
        raise RecipeError(f"{path}: no such recipe")
    try:
        text = at.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    body = parse(text, str(path))
    if not isinstance(body, dict) or not body:
        raise RecipeError(f"{path}: a recipe is a mapping of fields, found {type(body).__name__}")
    odd = next((k for k in body if not isinstance(k, str)), None)
    if odd is not None:
        raise RecipeError(f"{path}: field names are text, found {odd!r}")
    return body
