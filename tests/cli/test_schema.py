"""The generated files are those of the code, and complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from posttrain.core.method import Method
from posttrain.jobs import schema
from posttrain.jobs.fields import fields_of
from posttrain.jobs.job import Data, Job, Selection
from posttrain.jobs.train import Train


def test_the_generated_files_are_not_stale() -> None:
    for path, text in schema.generated().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python -m posttrain.jobs.schema"


def test_check_says_what_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(schema, "ROOT", tmp_path)
    monkeypatch.setattr(schema, "generated", lambda: {tmp_path / "a.md": "x\n"})
    assert schema.main(["--check"]) == 1
    assert "stale: a.md" in capsys.readouterr().out
    assert schema.main([]) == 0
    assert schema.main(["--check"]) == 0


def test_every_field_of_train_has_its_place_once() -> None:
    placed = [name for names in schema.SECTIONS.values() for name in names]
    assert sorted(placed) == sorted(Train.model_fields)


def test_every_method_and_job_is_a_verb_and_in_the_docs() -> None:
    verbs = schema.command_schema()["verbs"]
    assert set(Method.members) <= set(verbs)
    assert set(Job.members) <= set(verbs)
    page = schema.methods_page()
    for name, cls in Method.members.items():
        assert f"## {name}" in page
        assert all(f"`{f.name}`" in page for f in fields_of(cls))


@pytest.mark.parametrize(
    "node", [*Job.members.values(), *Method.members.values(), Data, Selection], ids=lambda c: c.__name__
)
def test_every_field_says_what_it_does(node: Any) -> None:
    for field in fields_of(node):
        assert len(field.help) > 8, f"{node.__name__}.{field.name} has no docstring"


def resolved(node: Any, root: dict[str, Any]) -> None:
    """Every reference of a JSON Schema leads somewhere."""
    if isinstance(node, dict):
        if "$ref" in node:
            assert node["$ref"].removeprefix("#/$defs/") in root["$defs"], node["$ref"]
        for inner in node.values():
            resolved(inner, root)
    elif isinstance(node, list):
        for inner in node:
            resolved(inner, root)


def test_the_editor_schema_is_whole() -> None:
    body = schema.editor_schema()
    resolved(body, body)
    train = body["$defs"]["job_train"]
    assert set(train["properties"]) == {"job", *Train.model_fields}
    assert train["additionalProperties"] is False
    assert train["required"] == ["model", "method", "data"]
    names = next(o["enum"] for o in train["properties"]["method"]["anyOf"] if "enum" in o)
    assert names == sorted(Method.members)
