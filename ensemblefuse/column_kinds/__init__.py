"""Detection of what a column of a table holds, from its cells.

A column is decided by evidence: the types of its cells, how often values repeat, how many words a cell has, and whether
all cells can be read as numbers, dates, flags or lists of tags. No kind is chosen that a cell could not be read as.
"""

from ensemblefuse.column_kinds._cells import AUDIO_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES, cell_kind
from ensemblefuse.column_kinds._columns import column_kind, find_kind
from ensemblefuse.column_kinds._kind import UNUSED, ColumnKind, facts_of
from ensemblefuse.column_kinds._words import n_words

__all__ = [
    "AUDIO_SUFFIXES",
    "IMAGE_SUFFIXES",
    "UNUSED",
    "VIDEO_SUFFIXES",
    "ColumnKind",
    "cell_kind",
    "column_kind",
    "facts_of",
    "find_kind",
    "n_words",
]
