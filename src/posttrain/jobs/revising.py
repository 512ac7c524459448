"""`posttrain refine`: a model criticises and revises answers by a constitution; a judge or any reward decides what is kept.

    posttrain refine answers.jsonl --model runs/sft --accept "{name: judge, model: runs/judge}" --out runs/revised

Written are ``finals.jsonl`` (the best answers, for SFT), ``pairs.jsonl`` (the best over the start, for DPO), ``critiques.jsonl`` (for a
critic) and ``report.json`` with length, refusals and diversity round by round. An answer never ends below its start by the measure of
what decides. Stage one of Bai et al. 2022 (arXiv:2212.08073); stage two is `judge` and `dpo`, as in recipes/constitutional.yaml.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from pydantic import NonNegativeFloat, PositiveInt

from posttrain.core.files import write_json, write_text
from posttrain.core.group import Group
from posttrain.core.protocols import Sampling
from posttrain.jobs import assembly
from posttrain.jobs.answerer import Answerer
from posttrain.jobs.job import Context, Job, Source
from posttrain.jobs.judging import JudgeReward
from posttrain.jobs.sample import line_of
from posttrain.rewards import Criterion
from posttrain.synth.constitution import SHIPPED, Constitution
from posttrain.synth.refine import Refined, Refiner
from posttrain.synth.watch import alarms, course


class Refine(Answerer, Job):
    """Criticise and revise answers by a constitution; keep the best so far, never a worse one."""

    name: ClassVar[str] = "refine"
    positional: ClassVar[tuple[str, ...]] = ("data",)

    data: Source
    """Rows with an answer each (the first one is revised)."""
    out: str
    """Directory for finals.jsonl, pairs.jsonl, critiques.jsonl and report.json."""
    accept: str | dict[str, Any]
    """What decides whether a revision is better: `judge` with its model, or any reward."""
    rounds: PositiveInt = 3
    """Most rounds per answer; two passes or two rejections in a row end it earlier."""
    constitution: str | None = None
    """YAML file of principles; none takes the one that is shipped."""
    margin: NonNegativeFloat = 0.0
    """A reward must give the revision more than this above the best; a judge is asked for its probability instead."""
    temperature: NonNegativeFloat = 0.0
    """How freely the critic writes."""
    max_tokens: PositiveInt = 256
    """Longest critique or revision."""
    seed: int = 0
    """Seed of the principles drawn and of the critic's words."""

    def run(self, context: Context | None = None) -> list[Refined]:
        """Write the four files; returns what was made of each answer."""
        context = context or Context()
        groups = [g for part in assembly.gather(self.data, context) for g in part.groups if g.responses]
        critic = self.open(str(Path(self.out) / "answers.db"))
        refiner = Refiner(
            critic,
            self._acceptor(),
            self.rounds,
            Constitution.read(self.constitution or SHIPPED),
            sampling=Sampling(self.temperature, max_tokens=self.max_tokens),
            margin=self.margin,
            seed=self.seed,
        )
        warning = refiner.warning or self._alike()
        if warning is not None:
            context.say(f"warning: {warning}")
        made = refiner.refine(groups)
        self._write(made, warning, context)
        return made

    def _acceptor(self) -> Any:
        """A judge of pairs is asked for probabilities; everything else scores."""
        made = Criterion.of(self.accept)
        return made.judge() if isinstance(made, JudgeReward) and made.protocol == "pairwise" else made

    def _alike(self) -> str | None:
        """A warning where the judge named is the critic itself under another store."""
        made = Criterion.of(self.accept)
        if isinstance(made, JudgeReward) and (made.url, assembly.resolve(made.model)) == (
            self.url,
            assembly.resolve(self.model),
        ):
            return "critic and acceptor are the same model; have another judge or people look at a share of the results"
        return None

    def _write(self, made: list[Refined], warning: str | None, context: Context) -> None:
        out, rounds = Path(self.out), course(made)
        pairs = [m.pair for m in made if m.pair is not None]
        lines: dict[str, list[Group]] = {
            "finals": [m.sft for m in made],
            "pairs": pairs,
            "critiques": [g for m in made for g in m.critiques],
        }
        for name, rows in lines.items():
            write_text(out / f"{name}.jsonl", "".join(line_of(g) for g in rows))
        why, told = Counter(m.reason for m in made), alarms(rounds)
        verdicts = Counter(r.verdict for m in made for r in m.rounds)
        body = {"answers": len(made), "changed": sum(m.best != m.start for m in made), "pairs": len(pairs), "ended": dict(why),
                "verdicts": dict(verdicts), "rounds": rounds, "alarms": told, "warning": warning}  # fmt: skip
        write_json(out / "report.json", body)
        context.say(f"{len(made)} answers: {body['changed']} changed, {len(pairs)} pairs; {out}")
        for line in told:
            context.say(f"alarm: {line}")
