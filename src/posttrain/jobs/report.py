"""Write a run's report again from its files, after the run moved or the page's layout changed."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from posttrain.jobs.job import Context, Job
from posttrain.report.run import write_report


class Report(Job):
    """Write the report page of a run again, from the run's files."""

    name: ClassVar[str] = "report"
    produces: ClassVar[Literal["run", "file", "text"]] = "file"
    positional: ClassVar[tuple[str, ...]] = ("directory",)

    directory: str
    """Directory of the run."""

    def run(self, context: Context | None = None) -> Path:
        """Path of report.html. Raises ValueError for a directory that holds no run."""
        page = write_report(self.directory)
        (context or Context()).say(f"report {page}")
        return page
