"""Right against wrong notices, for preference training: every row's gold notice over copies with one thing wrong.

The wrong copy breaks one rule of form (rules in turn, so that all are used) or holds one wrong fact with its form kept; every row gives one
of each, so that form does not outrank truth. No model and no person takes part.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from posttrain.core.files import write_text
from posttrain.core.group import Group, Preference, answer
from posttrain.jobs import assembly
from posttrain.jobs.job import Context, Job, Source
from posttrain.jobs.sample import line_of
from posttrain.jobs.stage import Stage, paths_of
from posttrain.rewards.unimarc import RecordError, pairs, read, to_lines


class RecordPairs(Job):
    """Write preference pairs of UNIMARC notices: the right one over one with a broken rule, and over one with a wrong fact."""

    name: ClassVar[str] = "record-pairs"
    produces: ClassVar[Literal["run", "file", "text"]] = "file"
    positional: ClassVar[tuple[str, ...]] = ("data",)

    data: Source
    """Rows with the fact `unimarc_gold`: the right notice."""
    out: str
    """JSONL file of pairs to write."""
    seed: int = 0
    """Another seed, other faults."""

    def run(self, context: Context | None = None) -> Path:
        """Write the pairs; returns the file. Raises ValueError where a row has no right notice."""
        stage = Stage(self, self.name, self.out, paths_of(self.data), file=True)
        if stage.finished:
            return stage.out
        context = context or Context()
        groups = [g for part in assembly.gather(self.data, context) for g in part.groups]
        bare = [g.id for g in groups if "unimarc_gold" not in g.facts]
        if bare:
            raise ValueError(
                f"data: row {bare[0]} has no fact `unimarc_gold` ({len(bare)} rows); give the right notice"
            )
        made, lost = self._pairs(groups)
        write_text(self.out, "".join(line_of(g) for g in made))
        stage.finish([stage.out], rows=len(made), not_in_lines=lost)
        context.say(f"{len(made)} pairs of {len(groups)} notices: {self.out}")
        if lost:
            context.say(f"left out: {lost} faults that a notice in lines cannot show")
        return stage.out

    def _pairs(self, groups: list[Group]) -> tuple[list[Group], int]:
        """Pairs, and how many faults have no form in lines (broken XML, for one)."""
        records = [read(str(g.facts["unimarc_gold"])) for g in groups]
        group_of = {id(record): g for record, g in zip(records, groups, strict=True)}
        made: list[Group] = []
        lost = 0
        for rule, record, faulty in pairs(records, self.seed):
            try:
                wrong = to_lines(read(faulty))
            except RecordError:
                lost += 1
                continue
            two = [answer(to_lines(record)), answer(wrong, by=f"corruption:{rule}")]
            made.append(group_of[id(record)].with_responses(two, preferences=(Preference(0, 1),)))
        return made, lost
