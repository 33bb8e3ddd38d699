"""Saved models: one sealed zip with a skops file (no pickle), a manifest, example rows and, if wanted, weights."""

from ensemblefuse.persistence._fingerprint import saw_samples
from ensemblefuse.persistence._mlflow import _load_pyfunc as _load_pyfunc  # MLflow looks for it here
from ensemblefuse.persistence._mlflow import mlflow_arguments
from ensemblefuse.persistence._models import inspect_model, load_model, save_model

__all__ = ["inspect_model", "load_model", "mlflow_arguments", "save_model", "saw_samples"]
