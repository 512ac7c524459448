"""`posttrain synth`: rows made by a model, each with where it came from, and an account of every candidate that was dropped.

    posttrain synth seeds.jsonl --generator self_instruct --model qwen3-8b --url http://127.0.0.1:8000/v1 --out made.jsonl

Answers are kept by content beside the output the moment they arrive; a killed job, started again, sends only what was not answered and
ends with the same file. Leaves out mixing and filtering: that is `posttrain data`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from posttrain.client import Estimate
from posttrain.client.priced import Priced
from posttrain.core.files import write_json, write_text
from posttrain.core.group import Group
from posttrain.core.protocols import Sampling
from posttrain.jobs import assembly
from posttrain.jobs.answerer import Answerer
from posttrain.jobs.job import Context, Job, Source
from posttrain.jobs.sample import line_of
from posttrain.rewards import Criterion
from posttrain.synth.generators import ASKS_AGAIN, FROM_TOPICS, GENERATORS
from posttrain.synth.ledger import Made
from posttrain.synth.teacher import Axes, Teacher, Wanted

Name = Literal[
    "answer_to_question", "question_to_answer", "question_to_reasoned_answer", "both", "topics", "self_instruct", "transcript", "evolve",
    "backtranslate", "refusals", "dialogue", "notices", "text", "rejection", "corruption",
]  # fmt: skip


class SynthJob(Answerer, Job):
    """Make rows with a model: tasks, answers, dialogues, refusals, records, texts; each with its provenance."""

    name: ClassVar[str] = "synth"
    produces: ClassVar[Literal["run", "file", "text"]] = "file"
    positional: ClassVar[tuple[str, ...]] = ("data",)

    generator: Name
    """How rows are made."""
    out: str
    """JSONL of the rows; the account of what was dropped goes beside it."""
    data: Source | None = None
    """Rows to begin from: seeds, questions, answers, documents, harmful requests."""
    topics: tuple[str, ...] = ()
    """Words to begin from: topics, or the goals of simulated users."""
    n: PositiveInt = 1
    """Candidates per row or topic; rounds of `evolve`; exchanges of `dialogue`."""
    audiences: tuple[str, ...] = ()
    """For whom: taken in turn with the other axes, every combination once before one comes again."""
    tones: tuple[str, ...] = ()
    """In which tone."""
    levels: tuple[str, ...] = ()
    """How hard."""
    languages: tuple[str, ...] = ()
    """In which languages: en, fr, ru, zh."""
    verify: str | dict[str, Any] | None = None
    """A reward that must give a row more than `least`: a name, or its fields."""
    least: float = 0.0
    """Score that a row must pass."""
    temperature: NonNegativeFloat = 0.7
    """How freely the model draws."""
    top_p: PositiveFloat = 1.0
    """Share of the probability that is drawn from."""
    max_tokens: PositiveInt = 512
    """Longest answer."""
    seed: int = 0
    """Another seed, other rows."""
    dry_run: bool = False
    """Say how many calls there would be and what they would cost at worst; nothing is sent or written."""

    def run(self, context: Context | None = None) -> Made | Estimate:
        """Write rows and account; returns what was made (the estimate of a dry run)."""
        context = context or Context()
        if self.generator in FROM_TOPICS and not self.topics:
            raise ValueError(f"topics: {self.generator} begins from words; give some")
        if (
            self.generator not in FROM_TOPICS
            and self.data is None
            and not (self.generator == "dialogue" and self.topics)
        ):
            raise ValueError(f"data: {self.generator} begins from rows; name a file")
        rows: list[Group] = []
        if self.data is not None:
            rows = [g for part in assembly.gather(self.data, context) for g in part.groups]
        sampling = Sampling(self.temperature, top_p=self.top_p, max_tokens=self.max_tokens)
        model = (self.priced if self.dry_run else self.open)(self.out + ".answers.db")
        teacher = Teacher(model, sampling, self.seed)
        axes = Axes(self.audiences, self.tones, self.levels, self.languages)
        wanted = Wanted(
            self.n, self.topics, axes, None if self.verify is None else Criterion.of(self.verify), self.least
        )
        made = GENERATORS[self.generator](rows, teacher, wanted)
        if isinstance(model, Priced):
            more = "; questions about its answers come on top" if self.generator in ASKS_AGAIN else ""
            context.say(f"{model.estimate}{more}")
            return model.estimate
        write_text(self.out, "".join(line_of(g) for g in made.kept))
        told = made.account()
        write_json(self.out + ".account.json", told)
        context.say(
            f"{told['produced']} candidates: {told['kept']} kept ({told['yield']:.0%}), cost of the kept {told['cost']:.4f}: {self.out}"
        )
        for reason, count in made.dropped.most_common():
            context.say(f"  dropped {count}: {reason}")
        return made
