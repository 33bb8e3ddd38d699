"""Saved models: one zip of a skops file (no pickle) and a manifest. Floor 4."""

from ensemblefuse.persistence._models import inspect_model, load_model, save_model

__all__ = ["inspect_model", "load_model", "save_model"]
