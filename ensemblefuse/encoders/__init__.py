"""Encoders: frozen networks and functions that turn one cell into one vector. Floor 2; never imports `fusion`."""

from ensemblefuse.encoders._base import BaseEncoder

__all__ = ["BaseEncoder"]
