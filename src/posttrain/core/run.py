"""A run: a directory that people and scripts can read.

    recipe.yaml      what was asked           metrics.jsonl    one line per step
    manifest.json    what it was made of      samples.jsonl    prompts with answers before and after
    checkpoints/     to go on from            model/           the result, a plain `transformers` directory
    check.json       what the preflight saw   report.html      all of it, for people

Lineage is by content hash: the manifest names every input and output file with its SHA-256.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from posttrain.core.files import append_line, hash_json, hash_tree, read_lines, write_json, write_text

PACKAGES = ("posttrain", "torch", "transformers", "peft", "datasets", "tokenizers", "safetensors", "numpy")

ADAPTER = "adapter_config.json"
"""What stands in place of config.json where a directory holds an adapter alone."""


class Run:
    """A run directory; files appear as they are written."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    recipe = property(lambda self: self.path / "recipe.yaml")
    manifest = property(lambda self: self.path / "manifest.json")
    metrics = property(lambda self: self.path / "metrics.jsonl")
    samples = property(lambda self: self.path / "samples.jsonl")
    checkpoints = property(lambda self: self.path / "checkpoints")
    model = property(lambda self: self.path / "model")
    check = property(lambda self: self.path / "check.json")
    report = property(lambda self: self.path / "report.html")

    @property
    def finished(self) -> dict[str, Any] | None:
        """The manifest of a finished run, else None."""
        if not self.manifest.is_file():
            return None
        body = json.loads(self.manifest.read_text(encoding="utf-8"))
        return body if body.get("status") == "finished" else None

    def start(self, recipe: Mapping[str, Any]) -> None:
        """Create the directory and write the recipe."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.recipe, yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True))

    def log(self, row: Mapping[str, Any]) -> None:
        append_line(self.metrics, row)

    def rewind(self, step: int) -> None:
        """Forget metrics after `step`: a resumed run writes them again, the same."""
        if self.metrics.is_file():
            rows = [r for r in read_lines(self.metrics) if r.get("step", 0) <= step]
            write_text(self.metrics, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest last: its presence with status ``finished`` is what reuse trusts."""
        write_json(self.manifest, {**manifest, "status": "finished", "finished": time.strftime("%Y-%m-%dT%H:%M:%S")})


def model_dir(path: str | Path) -> Path:
    """The model directory that a path means: a run's `model/` (whole weights or an adapter), or the path itself."""
    at = Path(path)
    return at / "model" if any((at / "model" / name).is_file() for name in ("config.json", ADAPTER)) else at


def versions() -> dict[str, str]:
    """Versions of Python, the platform and the libraries that numbers depend on."""
    found = {"python": sys.version.split()[0], "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def fingerprint(path: str | Path) -> str:
    """Content hash of a file or directory; logs, checkpoints and pages of a run do not count. An adapter's covers its base."""
    at = model_dir(path)
    own = hash_tree(at, keep=lambda f: not f.name.startswith("."))
    if not (at / ADAPTER).is_file() or (at / "config.json").is_file():
        return own
    base = json.loads((at / ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
    return hash_json([own, fingerprint(base) if base and Path(base).exists() else base])


def recipe_hash(recipe: Mapping[str, Any]) -> str:
    return hash_json(dict(recipe))
