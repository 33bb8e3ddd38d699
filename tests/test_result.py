"""What all results share."""

import html
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ensemblefuse.inspection import ModelChecks, NearDuplicates
from ensemblefuse.scoring.result import TableResult

HOSTILE = "<img src=x onerror=alert(1)>"


class Hostile:
    def __str__(self):
        return HOSTILE

    __repr__ = __str__


LABELS = [HOSTILE, (HOSTILE, 1), Hostile(), frozenset([HOSTILE])]


@pytest.mark.parametrize("label", LABELS, ids=["text", "tuple", "object", "set"])
def test_nothing_that_users_name_is_html(label):
    column = pd.Index([label], dtype=object, name=HOSTILE, tupleize_cols=False)
    table = pd.DataFrame([[label], [[label]]], index=column.repeat(2), columns=column, dtype=object)
    for one in (table, table.T, table.set_index([table.index, table.index])):
        page = TableResult(one, HOSTILE, [HOSTILE])._repr_html_()
        assert "<img" not in page and page.count(html.escape(HOSTILE)) >= 2 * one.size + 3


def test_figures_have_three_decimals_and_gaps_a_dash():
    table = pd.DataFrame({"score": [0.12345, np.nan], "n": [3, 4], "text": ["x" * 90, None]}, index=["a", "b"])
    page = TableResult(table, "caption")._repr_html_()
    cells = re.findall("<t[dh]>(.*?)</t[dh]>", page)
    assert cells == ["", "score", "n", "text", "a", "0.123", "3", "x" * 90, "b", "–", "4", "–"]
    assert "<caption>caption</caption>" in page


def test_the_same_result_is_the_same_page():
    table = pd.DataFrame({"score": [0.5]})
    assert TableResult(table, "one")._repr_html_() == TableResult(table, "one")._repr_html_()


def test_a_result_without_a_picture_has_no_plot():
    table = pd.DataFrame({"score": [0.5]})
    for result in (TableResult(table, "one"), NearDuplicates(table, "two"), ModelChecks([], "three")):
        assert not hasattr(result, "plot")

    class Drawn(TableResult):
        def _display_class(self):
            return lambda result: SimpleNamespace(plot=lambda ax: (result.caption, ax))

    assert Drawn(table, "four").plot(ax="there") == ("four", "there")
