"""`posttrain winrate`: how often one answer beats another, from few human labels and many judged ones in one ledger.

    posttrain judge answers.jsonl --model qwen3-8b --url http://127.0.0.1:8000/v1 --out judged.jsonl --ledger prefs.db
    posttrain winrate prefs.db --judge qwen3-8b

Prediction-powered inference (`stats.ppi`): the judge's bias is measured on the items that people saw as well, and taken out. Refused below
50 such items. Leaves out items that people were given for another reason than chance: they are no random part of all.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from posttrain.core.files import write_json
from posttrain.jobs.annotate import DEFAULT
from posttrain.jobs.feedback import opened
from posttrain.jobs.job import Context, Job


class WinRate(Job):
    """How often one answer wins: few human labels and many judged ones joined without the judge's bias."""

    name: ClassVar[str] = "winrate"
    produces: ClassVar[Literal["run", "file", "text"]] = "text"
    positional: ClassVar[tuple[str, ...]] = ("ledger",)

    ledger: str = DEFAULT
    """Ledger: an SQLite file or a postgresql:// URL."""
    judge: str
    """Model whose verdicts lie in the ledger."""
    queue: str | None = None
    """Queue; may be left out where there is only one."""
    better: str | None = None
    """Who wrote the answer that should win; none takes the first answer of each item."""
    against: str | None = None
    """Who wrote the other answer; none takes the second."""
    out: str | None = None
    """JSON file to write as well."""

    def run(self, context: Context | None = None) -> dict[str, Any]:
        """Print the three figures and return them as plain values. Raises ValueError below 50 items seen by people and judge."""
        from posttrain.feedback import judges, queues
        from posttrain.stats.ppi import ppi_mean

        with opened(self.ledger).read() as connection:
            queue = queues.find(connection, self.queue)
            found = judges.joined(connection, queue, self.judge, self.better, self.against)
        if not found.human and not found.judged_only:
            raise ValueError(f"{self.ledger}: no item of queue {queue.name} that {self.judge} judged has both answers")
        if not found.judged_only:
            raise ValueError(
                f"{self.ledger}: people saw every item that {self.judge} judged; `posttrain agree` is enough"
            )
        made = ppi_mean(found.human, found.judged, found.judged_only, found.prompt)
        body = {
            "queue": queue.name,
            "judge": self.judge,
            "labelled": len(found.human),
            "judged_only": len(found.judged_only),
            "joined": made.interval.to_json(),
            "people_alone": made.human.to_json(),
            "judge_alone": made.judge,
            "weight": made.weight,
            "left_out": dict(found.left),
        }
        print(f"win rate: {made}")
        for why, n in found.left.items():
            print(f"  left out {n} items {why}")
        if self.out is not None:
            write_json(self.out, body)
        return body
