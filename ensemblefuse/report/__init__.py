"""A page about a fitted model: one HTML file for a reader who has five minutes. Floor 5."""

from ensemblefuse.report._write import Report, write_report

__all__ = ["Report", "write_report"]
