"""Checkpoints: everything a run needs to go on bit for bit, in safetensors and JSON, written beside and renamed.

A checkpoint is {engine, source, method, hooks, step, rng}. Tensors anywhere in the state tree go to one safetensors file; the rest is JSON
with a placeholder where a tensor was. Nothing is pickled.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from posttrain.core.files import crash_point, hash_file, whole_directory

PLACE = "__tensor__"


def split(tree: Any, path: str = "") -> tuple[Any, dict[str, torch.Tensor]]:
    """A state tree as JSON-able values with placeholders, and the tensors by path."""
    if isinstance(tree, torch.Tensor):
        return {PLACE: path}, {path: tree.detach().cpu().contiguous().clone()}
    if isinstance(tree, np.ndarray):
        return {PLACE: path, "numpy": True}, {path: torch.from_numpy(np.ascontiguousarray(tree)).clone()}
    if isinstance(tree, Mapping):
        plain: dict[str, Any] = {}
        tensors: dict[str, torch.Tensor] = {}
        for key, value in tree.items():
            assert isinstance(key, str), f"state keys are text, got {key!r} at {path}"
            plain[key], found = split(value, f"{path}/{key}")
            tensors.update(found)
        return plain, tensors
    if isinstance(tree, list | tuple):
        pairs = [split(value, f"{path}/{i}") for i, value in enumerate(tree)]
        return [p for p, _ in pairs], {k: v for _, found in pairs for k, v in found.items()}
    return tree, {}


def join(plain: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Inverse of `split` (tuples come back as lists)."""
    if isinstance(plain, dict):
        if PLACE in plain:
            value = tensors[plain[PLACE]]
            return value.numpy() if plain.get("numpy") else value
        return {key: join(value, tensors) for key, value in plain.items()}
    if isinstance(plain, list):
        return [join(value, tensors) for value in plain]
    return plain


def seed_everything(seed: int) -> None:
    """Seed the generators that libraries reach for; our own draws name their seeds."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """States of Python's, numpy's and torch's generators."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # type: ignore[misc]
    state: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [name, np.asarray(keys).astype(np.int64), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Inverse of `random_state`."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def write(directory: Path, step: int, state: Mapping[str, Any], keep: int = 2) -> Path:
    """Write `step-NNNNNN` whole, then remove all but the newest `keep`. Raises OSError when the disk is full; older ones stay."""
    target = directory / f"step-{step:06d}"
    plain, tensors = split(state)
    try:
        with whole_directory(target) as beside:
            save_file(tensors, beside / "tensors.safetensors")
            body = {"step": step, "tensors": hash_file(beside / "tensors.safetensors"), "state": plain}
            (beside / "state.json").write_text(json.dumps(body), encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error.__cause__ or error)
        raise OSError(
            f"{target}: the checkpoint could not be written ({reason}); make room, then the same command goes on from "
            "the newest checkpoint that is there"
        ) from error
    rests = [*directory.glob(".step-*.part"), *directory.glob(".step-*.old-*")]  # of saves that were killed
    for old in [*found(directory)[:-keep], *rests]:
        shutil.rmtree(old, ignore_errors=True)
    crash_point("checkpoint-written")
    return target


def found(directory: Path) -> list[Path]:
    """Complete checkpoints, oldest first (a half-written one has another name, and no state file)."""
    if not directory.is_dir():
        return []
    return sorted(d for d in directory.iterdir() if d.name.startswith("step-") and (d / "state.json").is_file())


def read(path: Path) -> tuple[int, Any]:
    """(step, state). Raises ValueError when the tensors are not those that were written."""
    body = json.loads((path / "state.json").read_text(encoding="utf-8"))
    file = path / "tensors.safetensors"
    if hash_file(file) != body["tensors"]:
        raise ValueError(f"{file}: content differs from what was written; delete this checkpoint to use an older one")
    return int(body["step"]), join(body["state"], load_file(file))
