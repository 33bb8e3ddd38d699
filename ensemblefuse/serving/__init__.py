"""A saved model behind HTTP: rows in, predictions out, with limits."""

from ensemblefuse.serving._app import make_app
from ensemblefuse.serving._serve import serve
from ensemblefuse.serving._settings import ServerSettings

__all__ = ["ServerSettings", "make_app", "serve"]
