"""Every job and every method, imported: after this, families know all their members by name."""

from __future__ import annotations

from typing import Any

from posttrain import methods
from posttrain.core.recipe import RecipeError, build_spec, dump, dump_kind, nearest
from posttrain.jobs.annotate import Annotate
from posttrain.jobs.auditing import Audit
from posttrain.jobs.compare import Compare
from posttrain.jobs.demo import Demo
from posttrain.jobs.duel import Duel
from posttrain.jobs.effort import Effort
from posttrain.jobs.evaluate import Evaluate
from posttrain.jobs.feedback import Agree, Labels, LedgerJob
from posttrain.jobs.gap import Gap
from posttrain.jobs.gating import GateJob
from posttrain.jobs.job import Job
from posttrain.jobs.judging import JudgeJob
from posttrain.jobs.new_encoder import NewEncoder
from posttrain.jobs.new_model import New
from posttrain.jobs.rank import Rank
from posttrain.jobs.record_pairs import RecordPairs
from posttrain.jobs.redteaming import RedTeamJob
from posttrain.jobs.refining import DataJob
from posttrain.jobs.report import Report
from posttrain.jobs.revising import Refine
from posttrain.jobs.reward_report import RewardReport
from posttrain.jobs.room import RoomAnnotate, RoomCorpus, RoomPrompts
from posttrain.jobs.room_harm import RoomHarm
from posttrain.jobs.room_report import RoomReport
from posttrain.jobs.sample import Sample
from posttrain.jobs.scanning import Scan
from posttrain.jobs.serving import Serve
from posttrain.jobs.soup import Soup
from posttrain.jobs.synthesis import SynthJob
from posttrain.jobs.train import Train
from posttrain.jobs.winning import WinRate

__all__ = [
    "Agree",
    "Annotate",
    "Audit",
    "Compare",
    "DataJob",
    "Demo",
    "Duel",
    "Effort",
    "Evaluate",
    "Gap",
    "GateJob",
    "JudgeJob",
    "Labels",
    "LedgerJob",
    "New",
    "NewEncoder",
    "Rank",
    "RecordPairs",
    "RedTeamJob",
    "Refine",
    "Report",
    "RewardReport",
    "RoomAnnotate",
    "RoomCorpus",
    "RoomHarm",
    "RoomPrompts",
    "RoomReport",
    "Sample",
    "Scan",
    "Serve",
    "Soup",
    "SynthJob",
    "Train",
    "WinRate",
    "build_job",
    "dump_job",
    "methods",
]


def build_job(values: dict[str, Any], where: str = "") -> Job:
    """A job from plain values: ``job`` names it, and where there is a ``method`` it is ``train``. Raises RecipeError."""
    fields = dict(values)
    at = f"{where}: " if where else ""
    name = fields.pop("job", "train" if "method" in fields else None)
    if name is None:
        raise RecipeError(
            f"{at}a recipe needs `method` (to train) or `job`; known jobs: {', '.join(sorted(Job.members))}"
        )
    if name not in Job.members:
        raise RecipeError(f"{at}unknown job {name!r}{nearest(str(name), Job.members)}")
    return build_spec(Job.members[name], fields, where)


def dump_job(job: Job) -> dict[str, Any]:
    """Plain values that `build_job` turns back into an equal job."""
    body = {"job": job.name, **dump(job)}
    return {
        name: dump_kind(getattr(job, name, value)) if isinstance(value, dict) else value for name, value in body.items()
    }
