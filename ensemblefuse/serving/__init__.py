"""HTTP server for a saved model: it takes rows and returns predictions, within limits."""

from ensemblefuse.serving._app import make_app
from ensemblefuse.serving._serve import serve
from ensemblefuse.serving._settings import ServerSettings

__all__ = ["ServerSettings", "make_app", "serve"]
