"""Jobs over the reading room, the embedded world with known truth. A simulation: every file says so and names the world's version."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from posttrain.core.files import write_text
from posttrain.core.group import Group, Response
from posttrain.jobs import assembly
from posttrain.jobs.job import Context, Job, Source
from posttrain.jobs.stage import Stage, paths_of
from posttrain.readingroom import ReadingRoom
from posttrain.readingroom.annotators import Annotator, annotate
from posttrain.readingroom.drills import drills
from posttrain.readingroom.tokenizer import TRAINING_CHARACTERS, VOCABULARY
from posttrain.readingroom.tokenizer import train as train_tokenizer
from posttrain.readingroom.verifiable import thought, verifiable
from posttrain.readingroom.world import SIMULATION_NOTE, VERSION, mix

Split = Literal["train", "held-out", "new-phrasing", "new-vocabulary", "rare", "ood"]


def rows(groups: Iterable[Group]) -> str:
    """Groups as JSONL."""
    return "".join(json.dumps(g.to_json(), ensure_ascii=False) + "\n" for g in groups)


def distinct(group: Group) -> Group:
    """The group with each answer once: people are not shown the same text twice."""
    first: dict[str, Response] = {}
    for response in group.responses:
        first.setdefault(response.text, response)
    return group.with_responses(list(first.values()))


class RoomCorpus(Job):
    """Write the reading room's corpus for pretraining, and the tokenizer trained on it."""

    name: ClassVar[str] = "room-corpus"

    out: str
    """Directory for corpus.jsonl and tokenizer/."""
    documents: PositiveInt = 60000
    """Documents to write."""
    drills: NonNegativeInt = 0
    """Copying and look-up drills to mix in."""
    vocabulary: PositiveInt = VOCABULARY
    """Size of the tokenizer's vocabulary."""
    split: Split = "train"
    """Words and wordings of the documents: `ood` is a domain of its own, which the shipped base model has not met."""
    seed: int = 0
    """Seeds the world and the documents."""

    def run(self, context: Context | None = None) -> Path:
        stage = Stage(self, self.name, self.out, [], file=False)
        if stage.finished:
            return stage.out
        room = ReadingRoom(self.seed)
        stage.out.mkdir(parents=True, exist_ok=True)
        tokenizer = train_tokenizer(room.corpus(seed=1, n_characters=TRAINING_CHARACTERS), self.vocabulary)
        tokenizer.save_pretrained(stage.out / "tokenizer")
        texts = [*room.corpus(n_docs=self.documents, seed=2, split=self.split), *drills(self.seed, self.drills)]
        random.Random(self.seed).shuffle(texts)
        body = "".join(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in texts)
        file = write_text(stage.out / "corpus.jsonl", body)
        stage.finish([file, stage.out / "tokenizer"], world=VERSION, simulation=SIMULATION_NOTE)
        (context or Context()).say(f"{self.documents} documents of {VERSION} ({SIMULATION_NOTE}): {file}")
        return stage.out


class RoomPrompts(Job):
    """Write prompts of the reading room, or demonstrations with answers of mixed quality."""

    name: ClassVar[str] = "room-prompts"
    produces: ClassVar[Literal["run", "file", "text"]] = "file"

    out: str
    """JSONL file to write."""
    n: PositiveInt = 512
    """How many rows."""
    splits: tuple[Split, ...] = ()
    """Rows of each of these, `n` of every one, in place of `split`: for figures apart."""
    split: Split = "train"
    """As in training; new facts (`held-out`); those in new wordings, with new words, with what is rare; or new words and wordings."""
    start: Annotated[int, Field(ge=0)] = 0
    """First row of the split."""
    answers: bool = False
    """Add a demonstration to each prompt."""
    quality: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Share of the demonstrations that are the right answer; the others are wordy, hedge, slip or misbehave."""
    tasks: tuple[str, ...] = ()
    """Only these tasks."""
    verifiable: bool = False
    """Give rows the facts that rule rewards read: `unimarc_gold` of a notice, `answer` of a sum; other tasks have none."""
    thinking: bool = False
    """Write the steps of arithmetic demonstrations as a trace, `<think>` to `</think>`, before the result."""
    seed: int = 0
    """Seeds the world and the demonstrations."""

    def run(self, context: Context | None = None) -> Path:
        stage = Stage(self, self.name, self.out, [], file=True)
        if stage.finished:
            return stage.out
        made = [g for split in self.splits or (self.split,) for g in self._rows(split)]
        made = [verifiable(g) for g in made] if self.verifiable else made
        made = [thought(g) for g in made] if self.thinking else made
        write_text(self.out, rows(made))
        stage.finish([stage.out], rows=len(made), world=VERSION, simulation=SIMULATION_NOTE)
        (context or Context()).say(f"{len(made)} rows of {VERSION} ({SIMULATION_NOTE}): {self.out}")
        return stage.out

    def _rows(self, split: str) -> list[Group]:
        room, tasks = ReadingRoom(self.seed), list(self.tasks) or None
        if self.answers:
            return room.demonstrations(self.n, self.seed, self.quality, split, tasks, start=self.start)
        return room.prompts(split, self.n, tasks, start=self.start)


class RoomAnnotate(Job):
    """Rank the answers of a file with simulated annotators: noisy, with biases as dialled. They stand for people."""

    name: ClassVar[str] = "room-annotate"
    produces: ClassVar[Literal["run", "file", "text"]] = "file"

    data: Source
    """Groups with several answers to reading-room prompts (from the job `sample`)."""
    out: str
    """JSONL file of rankings to write."""
    sharpness: Annotated[float, Field(ge=0)] = 8.0
    """Bradley-Terry's beta: how surely the better answer wins; 0 chooses blindly."""
    ties: Annotated[float, Field(ge=0)] = 0.05
    """Answers whose worth differs by less are called equal; 0 forces a choice, which is a coin toss where both are equally wrong."""
    labels: bool = False
    """Rate every answer by itself as good or bad, in place of ranking the answers of a prompt."""
    line: float = 0.5
    """Worth from which an answer is called good, with the noise of `sharpness`."""
    length: float = 0.0
    """Bias towards answers that are 100 characters longer, in units of gold; the other biases likewise."""
    agreement: float = 0.0
    """Bias towards agreeing with the user."""
    hedging: float = 0.0
    """Bias towards hedged wording."""
    position: float = 0.0
    """Bias towards the answer shown first."""
    seed: int = 0
    """Seeds the noise."""

    def run(self, context: Context | None = None) -> Path:
        stage = Stage(self, self.name, self.out, paths_of(self.data), file=True)
        if stage.finished:
            return stage.out
        context = context or Context()
        groups = [g for part in assembly.gather(self.data, context) for g in part.groups]
        who = Annotator(
            sharpness=self.sharpness,
            ties=self.ties,
            length=self.length,
            agreement=self.agreement,
            hedging=self.hedging,
            position=self.position,
            line=self.line,
        )
        if self.labels:
            return self._rated(stage, groups, who, context)
        different = [g for g in (distinct(g) for g in groups) if len(g.responses) > 1]
        ranked = annotate(different, [who], self.seed)
        made = [g for g in ranked if any(p.p != 0.5 for p in g.pairs())]
        write_text(self.out, rows(made))
        alike, equal = len(groups) - len(different), len(ranked) - len(made)
        stage.finish([stage.out], rows=len(made), alike=alike, equal=equal, world=VERSION, simulation=SIMULATION_NOTE)
        context.say(f"{len(made)} groups ranked by simulated annotators ({SIMULATION_NOTE}): {self.out}")
        context.say(
            f"left out: {alike} groups whose answers all say the same, {equal} whose answers are all called equal"
        )
        return stage.out

    def _rated(self, stage: Stage, groups: list[Group], who: Annotator, context: Context) -> Path:
        """One row per different answer, labelled good or bad."""
        each = [(i, g.with_responses([r])) for g in groups for i, r in enumerate(distinct(g).responses)]
        made = [g for i, one in each for g in annotate([one], [who], mix(self.seed, "label", i))]
        good = sum(bool(g.responses[0].label) for g in made)
        write_text(self.out, rows(made))
        stage.finish([stage.out], rows=len(made), good=good, world=VERSION, simulation=SIMULATION_NOTE)
        context.say(f"{len(made)} answers rated by simulated annotators ({SIMULATION_NOTE}), {good} good: {self.out}")
        return stage.out
