"""The HTML diagram of a pipeline: modalities with their columns, members side by side."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils import estimator_html_repr

from ensemblefuse import (
    CascadeFusionClassifier,
    ConformalFusionClassifier,
    DecisionFusionClassifier,
    FeatureFusionClassifier,
    FunctionEncoder,
    FusionSearchCV,
    KernelFusionClassifier,
    LogPool,
    SequentialFusionClassifier,
    make_fusion_pipeline,
)

HEAD = LogisticRegression()


@pytest.fixture(scope="module")
def table():
    X = pd.DataFrame({"title<i>": ["ab", "b", "ba", "c"] * 15, "price": np.arange(60.0) % 7, "size": np.arange(60.0)})
    return X.assign(**{f"x{i}": X["price"] for i in range(4)}), np.arange(60) % 2


def pipeline(fusion=None):
    modalities = [
        ("text", FunctionEncoder(lambda text: [text.count("a"), text.count("b"), len(text), 1]), "title<i>"),
        ("tabular", StandardScaler(), ["price", "size"]),
        ("more", "passthrough", [f"x{i}" for i in range(4)]),
    ]
    return make_fusion_pipeline(modalities, fusion)


def diagram(model):
    """The page without style and scripts; text of labels and boxes in order."""
    page = re.sub(r"<(style|script)>.*?</\1>", "", estimator_html_repr(model), flags=re.DOTALL)
    return page, re.findall(r">([^<>]+)</(?:div|label)>", page)


@pytest.mark.parametrize("fitted", [False, True])
def test_modalities_stand_side_by_side_with_their_columns(table, fitted):
    model = pipeline(DecisionFusionClassifier(HEAD, cv=2))
    page, labels = diagram(model.fit(*table) if fitted else model)
    for label in ("text: title&lt;i&gt;", "tabular: price, size", "more: 4 columns"):
        assert label in labels
    assert "<i>" not in page and "<pre>[&#x27;x0&#x27;, &#x27;x1&#x27;, &#x27;x2&#x27;, &#x27;x3&#x27;]</pre>" in page
    encode = page[page.index("ModalityTransformer") : page.index("fuse: DecisionFusion")]
    assert encode.count('<div class="sk-parallel-item">') >= 3


def test_members_of_a_fitted_fusion_stand_side_by_side_over_the_combiner(table):
    page, labels = diagram(
        pipeline(DecisionFusionClassifier({"text": SVC(), "tabular": HEAD, "more": HEAD}, cv=2)).fit(*table)
    )
    at = labels.index("estimators: one per member")
    heads = ["text: 4 columns", "tabular: price, size", "more: 4 columns", "joint: all blocks"]
    assert [label for label in labels[at:] if label in heads] == heads
    fuse = page[page.index("estimators: one per member") :]
    assert fuse.index("SVC") < fuse.index("LogisticRegression") < fuse.index("LogPool")
    assert 'data-param-prefix="fuse__estimators__text__"' in fuse  # the path that set_params takes
    assert "4 columns: 0, 1, 2, 3" in fuse


def test_what_was_given_stands_in_a_fusion_that_is_not_fitted(table):
    given = {"text": [SVC(), HEAD], "tabular": None, "more": "drop"}
    labels = diagram(pipeline(DecisionFusionClassifier(given, combiner=LogPool())))[1]
    for label in ("text: 2 heads", "tabular: default", "more: drop", "LogPool"):
        assert label in labels
    assert "DecisionFusionClassifier" in diagram(pipeline())[1]


@pytest.mark.by_turns
@pytest.mark.parametrize(
    ("fusion", "expected"),
    [
        (FeatureFusionClassifier(HEAD), ["blocks: their contents", "tabular: price, size", "LogisticRegression"]),
        (KernelFusionClassifier(), ["blocks: their contents", "tabular: price, size"]),
        (DecisionFusionClassifier(HEAD, cv=2, refit=False), ["tabular: price, size (2 models)"]),
        (SequentialFusionClassifier(HEAD, cv=2), ["tabular: price, size"]),
        (CascadeFusionClassifier(HEAD, cv=2), ["estimators: one per member"]),
        (ConformalFusionClassifier(DecisionFusionClassifier(HEAD, cv=2)), ["estimators: one per member"]),
        (FusionSearchCV({"one": DecisionFusionClassifier(HEAD, cv=2)}, cv=2), ["estimators: one per member"]),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else "",
)
def test_every_fusion_draws_itself(table, fusion, expected):
    model = pipeline(fusion).fit(*table)
    model[-1]._sk_visual_block_()  # scikit-learn would hide an error
    assert diagram(model)[1].count("fuse: " + type(fusion).__name__) == 1
    assert set(expected) <= set(diagram(model)[1])


def test_a_fusion_of_an_array_names_positions():
    X = np.arange(40.0).reshape(10, 4) % 7
    model = FeatureFusionClassifier(HEAD, blocks={"left": [0, 1], "right": [2, 3]}).fit(X, np.arange(10) % 2)
    assert {"left: 0, 1", "right: 2, 3"} <= set(diagram(model)[1])
