"""Embeddings on disk, one row a cell, addressed by content.

Layout of the cache folder::

    v2/<recipe digest>/recipe.json        what made these vectors: class, version, parameters, digest of the weights
    v2/<recipe digest>/<writer>.keys      header, then key (16 bytes) and checksum (8) a row; appended by one process
    v2/<recipe digest>/<writer>.vectors   the rows in the same order: float32, little endian, nothing else
    v2/files/<writer>.keys, .vectors      digests of files, so that the next process need not read the files again

One writer a segment needs no lock. A row counts once its key is written, which is after its vector; one damaged later
fails its checksum, is never served, and is encoded again. Files are read, not mapped: one that is deleted or cut short
by another process costs a reader nothing but a miss. The folder is readable by its owner alone and holds digests and
vectors, never content or paths.
"""

from ensemblefuse.cache._cache import EmbeddingCache, get_cache

__all__ = ["EmbeddingCache", "get_cache"]
