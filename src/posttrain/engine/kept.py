"""Scores of frozen models, kept on disk by content: computed once, read in later passes and by every later run of a sweep.

A response's log-probs depend on the weights, the tokens, the precision and what was asked, so that is their key (SHA-256 of all four).
Order, learning rate, beta, loss and the choice of rows may change freely; a changed template changes the tokens and finds nothing.
What is read are the bits that were written. A batch that is known in part has only the rest computed, and a smaller batch may round
otherwise in the last digit. One SQLite file, safe for several runs at once on a local disk; values are safetensors, never pickled.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from posttrain.core.batch import Batch
from posttrain.core.needs import Needs, Output

FILE = "scores.sqlite"
FIELDS = ("logp", "entropy", "mean_logp", "log_sum_sq", "topk_logp", "topk_ids")
"""Fields of `Output` that may be kept: one row for each trained token, from the frozen model's own weights alone."""


class Kept:
    """Scores in `directory`. hits and misses count responses since it was opened."""

    def __init__(self, directory: str | Path) -> None:
        Path(directory).mkdir(parents=True, exist_ok=True)
        self.file = sqlite3.connect(Path(directory) / FILE, timeout=60)
        self.file.execute("CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
        self.file.commit()
        self.hits = self.misses = 0

    def score(self, batch: Batch, weights: str, needs: Needs, forward: Callable[[Batch], Output]) -> Output:
        """Outputs of `needs` for the batch: known responses read, the others computed by `forward` and kept."""
        asked = keys(batch, f"{weights} {needs}")
        found = [self._read(key) for key in asked]
        missing = [r for r, value in enumerate(found) if value is None]
        if missing:
            part = batch if len(missing) == batch.R else batch.take(missing)
            made = _by_row(forward(part), part)
            with self.file:  # one transaction: a kill leaves all of a batch or nothing
                for r, value in zip(missing, made, strict=True):
                    found[r] = value
                    self.file.execute("INSERT OR IGNORE INTO scores VALUES (?, ?)", (asked[r], save(value)))
        self.misses += len(missing)
        self.hits += batch.R - len(missing)
        known = [value for value in found if value is not None]
        joined: dict[str, Any] = {n: torch.cat([v[n] for v in known]).to(batch.ids.device) for n in known[0]}
        return Output(**joined)

    def _read(self, key: bytes) -> dict[str, Tensor] | None:
        row = self.file.execute("SELECT value FROM scores WHERE key = ?", (key,)).fetchone()
        return None if row is None else load(row[0])

    def counts(self) -> dict[str, int]:
        """Responses read from the disk, and computed."""
        return {"hits": self.hits, "misses": self.misses}

    def told(self) -> str:
        """One line for the log."""
        return f"log-probs of frozen models: {self.hits} answers read from the disk, {self.misses} computed and kept"

    def close(self) -> None:
        self.file.close()


def keepable(needs: Needs) -> bool:
    """Can these outputs be kept? Those of trained heads, hidden states and ids that the batch names cannot."""
    return needs.head_rows and not (needs.value or needs.score or needs.hidden or needs.heads or needs.at_ids)


def keys(batch: Batch, asked: str) -> list[bytes]:
    """One key per response: what was asked, of which prompt, with which tokens, of which some are trained."""
    ids = batch.ids.cpu().numpy()
    source = batch.source.cpu().numpy()
    head = hashlib.sha256(f"{asked} {batch.layout} ".encode())
    out = []
    for r, g in enumerate(batch.group_of):
        digest = head.copy()
        p, n = int(batch.prompt_start[g]), int(batch.prompt_length[g])
        a, m = int(batch.start[r]), int(batch.length[r])
        places = np.maximum(source[batch.tokens_of[r] : batch.tokens_of[r + 1]] - a, -1)
        for part in (np.asarray([n, m]), ids[p : p + n], ids[a : a + m], places):
            digest.update(np.ascontiguousarray(part, dtype=np.int64).tobytes())
        out.append(digest.digest())
    return out


def _by_row(out: Output, batch: Batch) -> list[dict[str, Tensor]]:
    sizes = np.diff(batch.tokens_of).tolist()
    columns = {name: getattr(out, name) for name in FIELDS if getattr(out, name) is not None}
    parts = {name: value.cpu().split(sizes) for name, value in columns.items()}
    return [{name: part[r].contiguous() for name, part in parts.items()} for r in range(batch.R)]


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over a frozen model: its configuration and every tensor that is not trained (with its adapter off, the base's)."""
    config = {k: v for k, v in model.config.to_dict().items() if not k.startswith("_") and k != "transformers_version"}  # type: ignore[union-attr, operator]
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in model.named_parameters():
        if not tensor.requires_grad:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
