"""`posttrain scan FILE`: every detector over every answer of a file, with the words that each points at."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from posttrain.core.files import write_text
from posttrain.core.group import Group
from posttrain.detectors.measure import Quality, by_language
from posttrain.detectors.scan import DETECTORS, scan
from posttrain.guard.file import Detector
from posttrain.jobs import assembly
from posttrain.jobs.detecting import detector
from posttrain.jobs.job import Context, Job, Source


@dataclass(frozen=True)
class Scanned:
    """How many answers each detector flagged, of how many; void answers apart."""

    answers: int
    flagged: dict[str, int]
    void: int
    exit_code: int
    measured: Mapping[str, Quality] = field(default_factory=dict)


class Scan(Job):
    """Run the detectors over the answers of a file."""

    name: ClassVar[str] = "scan"
    produces: ClassVar[Literal["run", "file", "text"]] = "file"
    positional: ClassVar[tuple[str, ...]] = ("data",)

    data: Source
    """Rows with answers, of any shape."""
    out: str | None = None
    """JSONL of verdicts; none prints them."""
    detectors: tuple[Detector, ...] = ()
    """Which to run; none takes all rules. Models are named as `classifier:DIR`, `guard-model:DIR` or `judge:MODEL`."""
    truth: str | None = None
    """Name of a fact that says whether the one detector should flag the answer: sensitivity and specificity by language are then told."""
    fail_on: tuple[Detector, ...] = ()
    """Exit with 1 where one of these flags an answer."""

    def run(self, context: Context | None = None) -> Scanned:
        """One line per answer: id, index, verdict by detector with spans."""
        context = context or Context()
        chosen = {n: detector(n) for n in self.detectors or DETECTORS}
        if self.truth is not None and len(chosen) != 1:
            raise ValueError("truth: name one detector to measure, with --detectors")
        known: list[Group] = []
        lines: list[str] = []
        flagged: Counter[str] = Counter()
        void = answers = 0
        for part in assembly.gather(self.data, context):
            for group in part.groups:
                known.append(group)
                asked = group.prompt[-1].content if group.prompt else ""
                for index, response in enumerate(group.responses):
                    found = scan(asked, response.text, chosen)
                    answers += 1
                    void += any(v.void for v in found.values())
                    flagged.update(n for n, v in found.items() if v.flagged)
                    row: dict[str, Any] = {"id": group.id, "index": index, **{n: v.to_json() for n, v in found.items()}}
                    lines.append(json.dumps(row, ensure_ascii=False) + "\n")
        if not answers:
            raise ValueError("the file holds no answers to scan; give rows with responses")
        if self.out is None:
            sys.stdout.writelines(lines)
        else:
            write_text(Path(self.out), "".join(lines))
        told = ", ".join(f"{n} {flagged[n]}" for n in chosen)
        context.say(f"{answers} answers; flagged: {told}; void {void}")
        measured = self._measured(known, context) if self.truth is not None else {}
        return Scanned(answers, dict(flagged), void, int(any(flagged[n] for n in self.fail_on)), measured)

    def _measured(self, groups: Sequence[Group], context: Context) -> Mapping[str, Quality]:
        """Sensitivity and specificity of the one detector, by language. Raises ValueError for a row that lacks the fact."""
        assert self.truth is not None
        missing = next((g.id for g in groups if not isinstance(g.facts.get(self.truth), bool)), None)
        if missing is not None:
            raise ValueError(f"row {missing}: the fact {self.truth!r} must be true or false")
        rows = [
            (
                str(g.facts.get("lang", "all")),
                g.prompt[-1].content if g.prompt else "",
                r.text,
                bool(g.facts[self.truth]),
            )
            for g in groups
            for r in g.responses
        ]
        found = by_language(detector(self.detectors[0]), rows)
        for lang, q in found.items():
            context.say(
                f"{lang}: sensitivity {q.sensitivity}, specificity {q.specificity}, of {q.positives} and {q.negatives}"
            )
        return found
