"""Reads run directories, writes self-contained pages and terminal tables. Leaves out: live dashboards."""

from posttrain.report.pipeline import write_pipeline_report
from posttrain.report.run import write_report
from posttrain.report.terminal import findings_table, stages_table

__all__ = ["findings_table", "stages_table", "write_pipeline_report", "write_report"]
