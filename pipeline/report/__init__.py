"""What a finished clip is worth: figures read off its frames, beside those of a still image and of a perfect clip."""

from pipeline.report.chart import plot, table
from pipeline.report.report import Figure, Report, report_steps

__all__ = ["Figure", "Report", "plot", "report_steps", "table"]
