"""Saved models: one sealed zip of a skops file (no pickle), a manifest, example rows, and weights if asked. Floor 4."""

from ensemblefuse.persistence._fingerprint import saw_samples
from ensemblefuse.persistence._models import inspect_model, load_model, save_model

__all__ = ["inspect_model", "load_model", "save_model", "saw_samples"]
