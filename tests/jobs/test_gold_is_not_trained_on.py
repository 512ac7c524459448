"""No training step reads the gold: with a gold reward that raises, every method of the demo still trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from posttrain.jobs.job import Context
from posttrain.jobs.train import Train
from posttrain.readingroom import ReadingRoom
from posttrain.readingroom.annotators import Annotator, annotate
from posttrain.readingroom.gold import GoldReward


@pytest.fixture
def quiet() -> Context:
    return Context(Console(quiet=True), bars=False)


def lines(path: Path, groups: list[Any]) -> str:
    path.write_text("".join(json.dumps(g.to_json(), ensure_ascii=False) + "\n" for g in groups), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("method", ["sft", "reward", "dpo"])
def test_gold_is_never_called(method: str, tmp_path: Path, quiet: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    room = ReadingRoom(3)
    demos = room.demonstrations(24)
    prefs = annotate(room.candidates(room.prompts("train", 24), k=2), [Annotator()])
    data = lines(tmp_path / "rows.jsonl", demos if method == "sft" else prefs)

    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("training read the gold")

    for name in ("score", "__call__"):
        monkeypatch.setattr(GoldReward, name, forbidden)
    with pytest.raises(AssertionError, match="read the gold"):
        room.gold(demos)
    out = tmp_path / "run"
    Train(
        model="base", method=method, data=data, out=str(out), steps=2, batch=8, log_to=(), samples=1, sample_tokens=8,
        accept=("D1", "D5"),
    ).run(quiet)  # fmt: skip
    assert json.loads((out / "manifest.json").read_text(encoding="utf-8"))["status"] == "finished"
