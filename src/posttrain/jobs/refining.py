"""`posttrain data`: bad rows, duplicates and leaked test items out of a file, or the file in another shape; what is left out is kept aside.

    posttrain data rows.jsonl --out clean.jsonl --against exam.jsonl --shape messages --filters.pii --filters.longest 800

A card is written beside the file, and diversity is compared where earlier generations are named.
Nothing is filtered that was not asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from posttrain.core.files import write_json, write_text
from posttrain.core.group import Group
from posttrain.core.recipe import Spec
from posttrain.data.card import card, facts_of
from posttrain.data.decontaminate import Index
from posttrain.data.dedup import bag_of_words, deduplicate
from posttrain.data.dimensions import measured
from posttrain.data.diversity import Collapse, collapse
from posttrain.data.quality import Quality
from posttrain.data.read import read
from posttrain.data.write import write
from posttrain.jobs import assembly
from posttrain.jobs.job import Context, Job, Rows, Source
from posttrain.jobs.sample import line_of
from posttrain.rewards import Criterion

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Cleaned:
    """rows in = kept + the sum of dropped. record: what was written beside the file."""

    rows: int
    kept: int
    dropped: dict[str, int]
    record: dict[str, Any]


class Filters(Spec):
    """Which rows go for their quality; each drop is counted under its reason."""

    shortest: NonNegativeInt = 0
    """Fewest words of an answer (characters of Chinese)."""
    longest: PositiveInt | None = None
    """Most words of an answer."""
    languages: tuple[str, ...] = ()
    """Languages that may stay: en, fr, ru, zh; none named lets all stay."""
    same: bool = False
    """Drop answers in another language than their request."""
    repeats: bool = False
    """Drop answers that say the same again and again."""
    template: bool = False
    """Drop answers with words of templates, or of assistants about themselves."""
    pii: bool = False
    """Drop rows with e-mail addresses, telephone numbers, cards or accounts."""
    toxic: bool = False
    """Drop insults and threats."""
    refuses: bool = False
    """Drop refusals among demonstrations (rows of kind `refusal` stay)."""
    agree: Share | None = None
    """Least share of a row's answers that end alike."""
    reward: str | dict[str, Any] | None = None
    """Reward or judge whose score decides: a name, or its fields."""
    score: float | None = None
    """Least score."""
    floor: Share | None = None
    """Share of the rows with the lowest scores that goes."""

    def quality(self) -> Quality:
        """The filters, ready. Raises ValueError for a reward that nobody knows."""
        reward = None if self.reward is None else Criterion.of(self.reward)
        return Quality(**{**dict(self), "reward": reward})


class DataJob(Job):
    """Take bad rows, duplicates and leaked test items out of a file, and write it in any shape."""

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
    filters: Filters = Filters()
    """Quality: which rows go before duplicates are looked for."""
    dimensions: bool = True
    """Measure clarity, accuracy, style and diversity of what stays, for the card."""
    accuracy: str | dict[str, Any] | None = None
    """Verifier or judge whose mean mark is the card's accuracy: a name, or its fields."""
    clarity: str | dict[str, Any] | None = None
    """Judge whose mean mark is the card's clarity, beside what the texts show by themselves."""
    generations: tuple[str, ...] = ()
    """Earlier generations of this data, the first one the reference: an alarm is raised where diversity was lost."""

    def run(self, context: Context | None = None) -> Cleaned:
        """Write the rows that stay, the dropped ones with reasons, and the record."""
        context = context or Context()
        groups = [g for part in assembly.gather(self.data, context) for g in part.groups]
        why = self.filters.quality().find(groups)
        places = [i for i in range(len(groups)) if i not in why]
        vectors = bag_of_words if self.alike is not None else None
        found = deduplicate([groups[i] for i in places], self.on, self.near, self.alike, vectors)
        why |= {places[d.row]: f"{d.kind} duplicate of row {places[d.kept]}" for d in found.duplicates}
        record: dict[str, Any] = {"rows": len(groups), "duplicates": dict(found.counts)}
        if not isinstance(self.data, Rows):
            record["from"] = [d.path for d in self.data]
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
        if self.dimensions:
            accuracy, clarity = (None if f is None else Criterion.of(f) for f in (self.accuracy, self.clarity))
            record["dimensions"] = measured(kept, accuracy, clarity)
        alarms = self._diversity(kept, record)
        write_json(self.out + ".record.json", record)
        write_text(self.out + ".card.md", card(kept, record, Path(self.out).name))
        write_json(self.out + ".card.json", facts_of(kept, record))
        context.say(f"{len(groups)} rows: {len(kept)} kept, dropped {dict(reasons) or 'none'}; {Path(self.out)}")
        for low in [d for d in record.get("dimensions", ()) if d["verdict"] == "below"]:
            context.say(
                f"  below its line: {low['figure']} ({low['lang']}) {low['value'][0]:.3f}, line {low['line']:g}"
            )
        for what, n in written.lost.items():
            context.say(f"  not carried by the shape {self.shape} {n} times: {what}")
        for generation, figure, lost in alarms:
            context.say(
                f"  alarm: {generation} has lost {lost:.0%} of the diversity of {self.generations[0]} ({figure})"
            )
        return Cleaned(len(groups), len(kept), dict(reasons), record)

    def _diversity(self, kept: list[Group], record: dict[str, Any]) -> tuple[tuple[str, str, float], ...]:
        """Compare with earlier generations, where some are named."""
        if not self.generations:
            return ()
        texts = {path: _said(read(path).groups) for path in self.generations} | {self.out: _said(kept)}
        found: Collapse = collapse(texts)
        record["diversity"] = found.to_json()
        return found.alarms


def _said(groups: Sequence[Group]) -> list[str]:
    return [g.responses[0].text for g in groups if g.responses]


def _aside(group: Group, reason: str) -> str:
    return line_of(Group(group.prompt, group.responses, facts={**group.facts, "dropped": reason}))
