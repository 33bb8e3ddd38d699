"""Documents about a fitted model: one HTML page, and a model card."""

from ensemblefuse.report._card import model_card
from ensemblefuse.report._write import Report, write_report

__all__ = ["Report", "model_card", "write_report"]
