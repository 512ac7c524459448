"""Every field of a guard file changes what is decoded, answered or refused; detectors that are models stand before and behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from posttrain.core.chat import as_chat
from posttrain.core.group import Group, answer
from posttrain.core.protocols import Request
from posttrain.guard.file import GuardFile, read_guard
from posttrain.guard.guarded import BLOCKED, Guarded
from posttrain.guard.vectors import Vector
from posttrain.guard.vocabulary import Vocabulary
from posttrain.jobs.detecting import detector

LETTERS = Vocabulary([None, *(bytes([b]) for b in range(256))])


def allowed(file: GuardFile, said: str, token: str) -> bool:
    """May `token` (one byte) come after `said`?"""
    guard = file.steering(LETTERS, [0])
    if guard is None or guard.bans is None:
        return True
    state = guard.start(Request(())).ban
    for byte in said.encode():
        state = guard.bans.advance(state, byte + 1)
    mask = guard.bans.allowed(state)
    return mask is None or bool(mask[token.encode()[-1] + 1])


def pushed(file: GuardFile) -> float:
    """What the file adds to the logit of `b` after `bom`."""
    guard = file.steering(LETTERS, [0])
    if guard is None:
        return 0.0
    row = guard.start(Request(()))
    for byte in b"bom":
        guard.adjust(row, torch.zeros(257))
        row = guard.advance(row, byte + 1)
    return float(guard.adjust(row, torch.zeros(257))[ord("b") + 1])


class Says:
    """A model that says one thing."""

    def generate(self, requests: list[Request]) -> list[Group]:
        return [Group(r.prompt, (answer("You are an idiot.", stop="stop"),)) for r in requests]


def replied(file: GuardFile, asked: str) -> str:
    guarded = Guarded(Says(), None, file.detectors(file.before), file.detectors(file.behind), file.message)  # type: ignore[arg-type]
    return guarded.generate([Request(as_chat(asked))])[0].responses[0].text


def bent(file: GuardFile) -> Any:
    edit = file.edit(4)
    return None if edit is None else edit(0, torch.zeros(1, 1, 4), False).tolist()


def vector(tmp: Path) -> str:
    made = Vector(torch.nn.functional.normalize(torch.ones(4), dim=0), 1, 1.0, 1.0, 0.0)
    return str(made.write(tmp / "v.safetensors"))


Seen = Callable[[GuardFile], Any]
FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any], Seen]] = {
    "ban": ({}, {"ban": ("bomb",)}, lambda f: allowed(f, "a bom", "b")),
    "words": ({}, {"words": ("con",)}, lambda f: allowed(f, "a con", " ")),
    "allow": ({"ban": ("bomb",)}, {"ban": ("bomb",), "allow": ("bombay",)}, lambda f: allowed(f, "a bom", "b")),
    "soft": ({}, {"soft": {"bomb": 3.0}}, pushed),
    "before": ({}, {"before": ("toxicity",)}, lambda f: replied(f, "You are an idiot")),
    "behind": ({}, {"behind": ("toxicity",)}, lambda f: replied(f, "Hello")),
    "message": ({"before": ("toxicity",)}, {"before": ("toxicity",), "message": "No."}, lambda f: replied(f, "You are an idiot")),
    "marks": ({"ban": ("été",)}, {"ban": ("été",), "marks": False}, lambda f: allowed(f, "et", "e")),
    "lookalikes": ({"ban": ("bomb",)}, {"ban": ("bomb",), "lookalikes": False}, lambda f: allowed(f, "bоm", "b")),
    "steer": ({}, {"steer": "V"}, bent),
    "strength": ({"steer": "V", "strength": 1.0}, {"steer": "V", "strength": 2.0}, bent),
}  # fmt: skip


def test_no_field_is_forgotten() -> None:
    assert set(FIELDS) == set(GuardFile.model_fields)


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_changes_something(name: str, tmp_path: Path) -> None:
    without, with_, seen = FIELDS[name]
    files = [
        GuardFile(**{k: vector(tmp_path) if v == "V" else v for k, v in fields.items()}) for fields in (without, with_)
    ]
    assert seen(files[0]) != seen(files[1])


def test_detectors_are_named_and_models_are_opened_by_whoever_may(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text('behind: ["judge:somewhere"]\n')
    file = read_guard(tmp_path / "g.yaml")
    with pytest.raises(ValueError, match="is a model"):
        file.detectors(file.behind)
    assert file.detectors(file.behind, lambda name: detector("toxicity"))[0]("", "You are an idiot.").flagged
    (tmp_path / "g.yaml").write_text("behind: [nothing]\n")
    with pytest.raises(ValueError, match="behind"):
        read_guard(tmp_path / "g.yaml")
    for name, says in (("magic", "known: refusal"), ("magic:x", "unknown kind"), ("classifier:base", "no task head")):
        with pytest.raises(ValueError, match=says):
            detector(name)
    assert replied(GuardFile(before=("toxicity",)), "You are an idiot") == BLOCKED
