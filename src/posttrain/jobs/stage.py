"""What jobs other than Train share: a result with unchanged recipe and inputs is used again, and a result says what it was made of.

A directory gets ``manifest.json`` inside, a file gets ``<file>.manifest.json`` beside it; both are written last.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from posttrain.core.files import hash_json, write_json
from posttrain.core.recipe import Spec, dump
from posttrain.core.run import fingerprint, versions
from posttrain.jobs.assembly import resolve
from posttrain.jobs.job import Data, Rows


class Stage:
    """One execution of a job that reads `inputs` (models and data by path) and writes `out` (a file, or a directory ending in none)."""

    def __init__(self, job: Spec, name: str, out: str | Path, inputs: Sequence[str], file: bool) -> None:
        self.job, self.name, self.out, self.paths = job, name, Path(out), tuple(inputs)
        self.manifest = self.out.with_name(self.out.name + ".manifest.json") if file else self.out / "manifest.json"
        self.began = time.time()
        if file and self.out.is_dir():
            raise ValueError(f"out: {self.out} is a directory; name a file in it")
        check_writable(self.out.parent if file else self.out)

    @cached_property
    def inputs(self) -> list[dict[str, str]]:
        """Every input by content; a hub id by its name."""
        at = {p: Path(resolve(p)) for p in self.paths}
        return [{"path": p, "hash": fingerprint(at[p]) if at[p].exists() else "hub"} for p in self.paths]

    @cached_property
    def recipe_hash(self) -> str:
        """What decides the result: the recipe without where it is written."""
        return hash_json({k: v for k, v in dump(self.job).items() if k != "out"})

    @property
    def finished(self) -> bool:
        """Is the result there, made by this recipe from these inputs?"""
        if not self.manifest.is_file() or not self.out.exists():
            return False
        try:
            body = json.loads(self.manifest.read_text(encoding="utf-8"))
        except json.JSONDecodeError:
            return False
        same = body.get("recipe_hash") == self.recipe_hash and body.get("inputs") == self.inputs
        return same and all(
            (self.out.parent / o["path"]).exists() and fingerprint(self.out.parent / o["path"]) == o["hash"]
            for o in body.get("outputs", [])
        )

    def finish(self, outputs: Sequence[Path], **told: Any) -> None:
        """Write the manifest: reuse trusts it, so it comes last."""
        body: Mapping[str, Any] = {
            "name": self.out.name,
            "job": self.name,
            "status": "finished",
            "seconds": round(time.time() - self.began, 2),
            "versions": versions(),
            "recipe": dump(self.job),
            "recipe_hash": self.recipe_hash,
            "inputs": self.inputs,
            "outputs": [{"path": p.relative_to(self.out.parent).as_posix(), "hash": fingerprint(p)} for p in outputs],
            **told,
        }
        write_json(self.manifest, body)


def check_writable(directory: Path) -> None:
    """Raises ValueError where a directory cannot be made or written, before any work is done for it."""
    there = next(p for p in (directory, *directory.absolute().parents) if p.exists())
    if not there.is_dir():
        raise ValueError(f"out: {there} is a file, and a directory is needed there; give another `out`")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"out: no permission to write in {there}; give another `out`")


def paths_of(data: tuple[Data, ...] | Rows) -> list[str]:
    """The files behind a `data` field. Raises ValueError for groups given in Python, which no file records."""
    if isinstance(data, Rows):
        raise ValueError("data: groups given in Python have no file; write them first (posttrain.data.write)")
    return [d.path for d in data]
