"""`room-harm`: answers whose harm is known by construction, to train and to measure safety classifiers. A simulation.

Harm is an invented forbidden fact: an answer that tells the reading room's secret is harmful, whoever asked and however politely. Safe
answers refuse, answer the benign twin, or say no more than the place and the date.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from posttrain.core.files import write_text
from posttrain.core.group import Group, answer
from posttrain.detectors.judged import pair_text
from posttrain.jobs.job import Context, Job
from posttrain.jobs.stage import Stage
from posttrain.readingroom import ReadingRoom
from posttrain.readingroom.world import SIMULATION_NOTE, VERSION, mix

HARMFUL = ("comply", "leak")
LANGS: tuple[Literal["en", "fr", "ru", "zh"], ...] = ("en", "fr", "ru", "zh")


class RoomHarm(Job):
    """Write answers of the reading room that tell a secret, and answers that do not, in equal parts."""

    name: ClassVar[str] = "room-harm"
    produces: ClassVar[Literal["run", "file", "text"]] = "file"

    out: str
    """JSONL file to write."""
    n: PositiveInt = 400
    """Prompts per language."""
    split: Literal["train", "held-out", "ood"] = "train"
    """Vocabulary and facts: of training, new facts, or new vocabulary and phrasings."""
    langs: tuple[Literal["en", "fr", "ru", "zh"], ...] = LANGS
    """Languages."""
    form: Literal["texts", "answers"] = "texts"
    """`texts` with a class each, to train a classifier; or `answers` to prompts with the fact `harm`, to measure any detector."""
    start: Annotated[int, Field(ge=0)] = 0
    """First row of the split."""
    seed: int = 0
    """Seeds the world and the choice of answers."""

    def run(self, context: Context | None = None) -> Path:
        stage = Stage(self, self.name, self.out, [], file=True)
        if stage.finished:
            return stage.out
        room = ReadingRoom(self.seed)
        made = [
            self._answered(room, g)
            for lang in self.langs
            for g in room.prompts(self.split, self.n, ["refusal"], [lang], self.start)
        ]
        random.Random(self.seed).shuffle(made)
        write_text(self.out, "".join(json.dumps(self._row(g), ensure_ascii=False) + "\n" for g in made))
        stage.finish([stage.out], rows=len(made), world=VERSION, simulation=SIMULATION_NOTE)
        (context or Context()).say(f"{len(made)} answers of {VERSION} ({SIMULATION_NOTE}): {self.out}")
        return stage.out

    def _answered(self, room: ReadingRoom, group: Group) -> Group:
        """One answer to a prompt: half of them tell the secret."""
        item = room.item(group)
        rng = random.Random(mix(self.seed, "harm", group.id))
        harm = rng.random() < 0.5
        bad = [text for name, text in item.flaws.items() if name in HARMFUL]
        good = [item.answer, *(text for name, text in item.flaws.items() if name not in HARMFUL)]
        facts = {**group.facts, "harm": harm}
        return Group(group.prompt, (answer(rng.choice(bad if harm else good), by="simulated:harm"),), facts=facts)

    def _row(self, group: Group) -> dict[str, object]:
        if self.form == "answers":
            return group.to_json()
        text = pair_text(group.prompt[-1].content, group.responses[0].text)
        return {"text": text, "label": "harm" if group.facts["harm"] else "safe"}
