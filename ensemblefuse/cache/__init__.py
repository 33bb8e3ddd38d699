"""Embeddings on disk, one row per cell, addressed by content.

Layout of the cache folder::

    v2/<recipe digest>/recipe.json        what the vectors depend on: class, version, parameters, digest of the weights
    v2/<recipe digest>/<writer>.keys      header, then for each row its key (16 bytes) and checksum (8 bytes)
    v2/<recipe digest>/<writer>.vectors   the rows in the same order: float32, little endian, nothing else
    v2/files/<writer>.keys, .vectors      digests of files, so that the next process need not read the files again

A pair of .keys and .vectors files is a segment. Only one process appends to it, so it needs no lock. A row is valid
once its key is written, which is after its vector. If a row is damaged later, its checksum fails: it is never returned,
and its cell is encoded again. Files are read, not mapped: if another process deletes or truncates one, a reader only
has a cache miss. The folder is readable only by its owner, and holds digests and vectors, never content or paths.
"""

from ensemblefuse.cache._cache import EmbeddingCache, get_cache

__all__ = ["EmbeddingCache", "get_cache"]
