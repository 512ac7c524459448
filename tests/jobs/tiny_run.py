"""A tiny model and a tiny reward run in a directory, made once per session: what the jobs beside Train are tested on."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from tests.models.tiny import tiny_directory


def rows_file(path: Path, rows: list[dict[str, object]]) -> str:
    """Write JSONL and return its path as text."""
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return str(path)


def demos(path: Path, n: int = 12) -> str:
    return rows_file(path, [{"prompt": f"What is {i} + 1?", "completion": str(i + 1)} for i in range(n)])


def pairs(path: Path, n: int = 12) -> str:
    return rows_file(
        path, [{"prompt": f"What is {i} + 1?", "chosen": str(i + 1), "rejected": f"{i} or so"} for i in range(n)]
    )


@cache
def base(root: Path) -> str:
    """A model directory under `root`."""
    return str(tiny_directory(root / "base", "llama", context=256))


@cache
def reward_run(root: Path) -> str:
    """A directory like the one that ``posttrain reward`` leaves: trunk and score head."""
    import torch

    from posttrain.models import heads
    from posttrain.models.load import load, save

    loaded = load(base(root))
    head = heads.score_head(heads.width_of(loaded.model), generator=torch.Generator().manual_seed(1))
    save(loaded, root / "rm" / "model", heads={f"score.{k}": v for k, v in head.state_dict().items()})
    return str(root / "rm")
