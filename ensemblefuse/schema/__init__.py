"""The schema of a raw table: what each column holds. It is learned in fit, and every later table is read by it.

A schema is a dict from column to a dict of plain values, so that every model file can hold it. ``kind`` says how the
cells are read:

- ``"number"``: numbers, numbers written as text, true and false as 1 and 0. For a column of an encoder, ``whole`` says
  whether the cells of fit were integers: an encoder may see a difference between 3 and 3.0.
- ``"category"``: what a cell says, whatever its type: 3, 3.0 and "3" are one category, and so are "red" and "red " if
  the transformer finds its categories itself. ``known`` holds the categories of fit, in the form of `category_key`;
  ``values`` says what the cells of fit were ("text", "number", "date", "duration", "tuple", "other", "mixed").
  ``closed`` marks columns whose transformer stops at categories that fit never saw: there, they are cells that cannot
  be read.
- ``"boolean"``: true or false, also as 1 and 0 or as text. ``texts`` are those of false and true, if fit had texts.
- ``"date"``, ``"duration"``: dates and lengths of time, also as text in ISO 8601; ``dtype`` is their type in fit.
- ``"tags"``: lists of texts, read as tuples; ``known`` holds the tags of fit.
- ``"censored"``: numbers, of which some say only a limit, such as ``<0.5``; read as tuples of the number, and 0 or 1
  for a true one below and above it.
- ``"numbers"``: several numbers in each cell, such as ``5x6x7 cm``; read as tuples.
- ``"text"``: texts. A number among them becomes its text.
- ``"object"``: anything else, such as pictures or arrays. These cells pass as they are.

Numbers, booleans, dates and tags that fit saw written as text have a ``format``, as `ensemblefuse.column_formats` finds
it, and ``seen``, which says in words what it is. Files of before have none. A `ensemblefuse.TableTransformer` gives the
formats that were found in the whole table; the others are found in the table of fit.
"""

from ensemblefuse.schema._category_key import category_key
from ensemblefuse.schema._cells import CellPolicy, Fault, Reading, Schema, Unseen
from ensemblefuse.schema._check import checked_schema
from ensemblefuse.schema._far_numbers import FarNumbers, far_numbers, far_text, limits_of
from ensemblefuse.schema._learn import learn_schema
from ensemblefuse.schema._read import (
    UnseenCounts,
    read_by_schema,
    read_or_raise,
    schema_of,
    unseen_counts,
    unseen_text,
    unseen_told_once,
    warn_of_far_numbers,
)
from ensemblefuse.schema._written import find_form, given_form

__all__ = [
    "CellPolicy",
    "FarNumbers",
    "Fault",
    "Reading",
    "Schema",
    "Unseen",
    "UnseenCounts",
    "category_key",
    "checked_schema",
    "far_numbers",
    "far_text",
    "find_form",
    "given_form",
    "learn_schema",
    "limits_of",
    "read_by_schema",
    "read_or_raise",
    "schema_of",
    "unseen_counts",
    "unseen_text",
    "unseen_told_once",
    "warn_of_far_numbers",
]
