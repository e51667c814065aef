"""Reports: self-contained HTML with inline charts."""

from sm_launch.evaluation.report.evaluation import ReportPaths, render_report, write_evaluation

__all__ = ["ReportPaths", "render_report", "write_evaluation"]
