"""`posttrain data`: duplicates and leaked test items out of a file, or the file in another shape; every row left out is kept aside.

posttrain data rows.jsonl --out clean.jsonl --against exam.jsonl --shape messages
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from posttrain.core.files import write_json, write_text
from posttrain.core.group import Group
from posttrain.data.decontaminate import Index
from posttrain.data.dedup import bag_of_words, deduplicate
from posttrain.data.read import read
from posttrain.data.write import write
from posttrain.jobs import assembly
from posttrain.jobs.job import Context, Job, Source
from posttrain.jobs.sample import line_of


@dataclass(frozen=True)
class Cleaned:
    """rows in = kept + the sum of dropped. record: what was written beside the file."""

    rows: int
    kept: int
    dropped: dict[str, int]
    record: dict[str, Any]


class DataJob(Job):
    """Take duplicates and leaked test items out of a file, and write it in any shape."""

    name: ClassVar[str] = "data"
    produces: ClassVar[Literal["run", "file", "text"]] = "file"
    positional: ClassVar[tuple[str, ...]] = ("data",)

    data: Source
    """Rows of any recognised shape."""
    out: str
    """File to write (.jsonl, .jsonl.gz, .parquet); dropped rows and the record go beside it."""
    shape: Literal["groups", "messages", "pairs", "labels", "ranked", "text"] = "groups"
    """Shape of the rows written; what it cannot carry is counted."""
    on: Literal["pair", "prompt", "answer"] = "pair"
    """What of a row makes it a duplicate."""
    near: Annotated[float, Field(gt=0, le=1)] | None = 0.8
    """Least Jaccard of near duplicates; null keeps them."""
    alike: Annotated[float, Field(gt=0, le=1)] | None = None
    """Least cosine of word counts of rows that say the same; null keeps them."""
    against: tuple[str, ...] = ()
    """Files of test items: rows that hold one are dropped."""

    def run(self, context: Context | None = None) -> Cleaned:
        """Write the rows that stay, the dropped ones with reasons, and the record."""
        context = context or Context()
        groups = [g for part in assembly.gather(self.data, context) for g in part.groups]
        found = deduplicate(groups, self.on, self.near, self.alike, bag_of_words if self.alike is not None else None)
        why = {d.row: f"{d.kind} duplicate of row {d.kept}" for d in found.duplicates}
        record: dict[str, Any] = {"rows": len(groups), "duplicates": dict(found.counts)}
        if self.against:
            told = Index({path: read(path).groups for path in self.against}).find(groups)
            why |= {h.row: f"holds item {h.item} of {h.benchmark} ({h.how})" for h in told.hits if h.row not in why}
            record["decontamination"] = told.record()
        kept = [g for i, g in enumerate(groups) if i not in why]
        if not kept:
            raise ValueError(
                f"no row of {len(groups)} is left; look at the reasons: {Counter(why.values()).most_common(2)}"
            )
        written = write(kept, self.out, self.shape)
        write_text(self.out + ".dropped.jsonl", "".join(_aside(groups[i], reason) for i, reason in sorted(why.items())))
        reasons = Counter("leaked test item" if r.startswith("holds") else r.partition(" of ")[0] for r in why.values())
        record |= {"kept": len(kept), "dropped": dict(reasons), "lost": dict(written.lost), "hash": written.hash}
        write_json(self.out + ".record.json", record)
        context.say(f"{len(groups)} rows: {len(kept)} kept, dropped {dict(reasons) or 'none'}; {Path(self.out)}")
        for what, n in written.lost.items():
            context.say(f"  not carried by the shape {self.shape} {n} times: {what}")
        return Cleaned(len(groups), len(kept), dict(reasons), record)


def _aside(group: Group, reason: str) -> str:
    return line_of(Group(group.prompt, group.responses, facts={**group.facts, "dropped": reason}))
