"""Dates and lists of tags as numbers: right values, gaps, and the contract of transformers."""

import datetime
import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from ensemblefuse import (
    DateFeatures,
    FeatureFusionClassifier,
    PresentRows,
    TagFeatures,
    load_model,
    make_fusion_pipeline,
    save_model,
)

DAYS = pd.DataFrame(
    {
        "sold": pd.to_datetime(["2023-12-31", "2024-02-29 12:30", None, "2024-01-01 06:00"], format="mixed"),
        "made": [datetime.date(2020, 5, 1), datetime.date(2020, 5, 3), datetime.date(2020, 5, 8), None],
    }
)
TAGS = pd.DataFrame(
    {
        "genre": [["war", "drama"], ("drama",), None, ["war", "noir"], {"drama"}],
        "seen": [["a"], ["a"], ["b"], [], np.array(["b", "c"], dtype=object)],
    }
)
CASES = [
    (DateFeatures(), DAYS),
    (DateFeatures(cyclic=False), DAYS),
    (TagFeatures(), TAGS),
    (TagFeatures(max_tags=1), TAGS),
]
by_case = pytest.mark.parametrize(("transformer", "X"), CASES, ids=lambda value: repr(value)[:40])


def frame(transformer, X, later=None):
    return transformer.set_output(transform="pandas").fit(X).transform(X if later is None else later)


def test_the_numbers_of_dates():
    Z = frame(DateFeatures(), DAYS[["sold"]])
    assert Z.loc[1, ["sold_year", "sold_month", "sold_day", "sold_weekday", "sold_hour"]].tolist() == [
        2024,
        2,
        29,
        3,
        12.5,
    ]
    assert Z["sold_elapsed"].tolist() == [0, 60 + 12.5 / 24, pytest.approx(Z["sold_elapsed"][[0, 1, 3]].mean()), 1.25]
    assert Z["sold_missing"].tolist() == [0, 0, 1, 0]
    assert_allclose(Z.loc[2].drop("sold_missing"), Z.loc[[0, 1, 3]].drop(columns="sold_missing").mean())
    december, january = (Z.loc[i, ["sold_month_sin", "sold_month_cos"]].astype(float) for i in (0, 3))
    assert np.linalg.norm(december - january) == pytest.approx(2 * np.sin(np.pi / 12)), "neighbours, as any two months"


def test_parts_that_never_differ_are_left_out():
    assert list(frame(DateFeatures(cyclic=False), DAYS[["made"]])) == [
        "made_day",
        "made_weekday",
        "made_elapsed",
        "made_missing",
    ]
    times = pd.DataFrame({"opens": pd.to_datetime(["1970-01-01 08:00", "1970-01-01 09:30"])})
    assert frame(DateFeatures(cyclic=False), times)["opens_hour"].tolist() == [8, 9.5]
    assert list(frame(DateFeatures(cyclic=False), times)) == ["opens_hour"]
    one = pd.DataFrame({"day": pd.to_datetime(["2024-01-01"] * 3)})
    assert frame(DateFeatures(), one).to_dict("list") == {"day_elapsed": [0, 0, 0]}
    none = pd.DataFrame({"day": pd.Series([pd.NaT] * 3, dtype="datetime64[ns]")})
    assert frame(DateFeatures(), none, one).to_dict("list") == {"day_elapsed": [0, 0, 0], "day_missing": [0, 0, 0]}


def test_dates_with_a_zone_have_the_hours_of_their_zone():
    hours = pd.DataFrame({"at": pd.date_range("2024-06-01", periods=3, freq="h", tz="Asia/Tokyo")})
    Z = frame(DateFeatures(cyclic=False), hours)
    assert Z["at_hour"].tolist() == [0, 1, 2]


def test_later_dates_lie_before_and_after():
    later = pd.DataFrame({"sold": pd.to_datetime(["2023-12-30", "2025-01-01"])})
    assert frame(DateFeatures(), DAYS[["sold"]], later)["sold_elapsed"].tolist() == [-1, 367]


@pytest.mark.parametrize("cell", ["2024-01-01", 5, 5.5, [1]])
def test_what_is_no_date_is_named(cell):
    with pytest.raises(TypeError, match=r"Column 'made' holds .* in row 2, which is no date; .*to_datetime"):
        DateFeatures().fit(DAYS.assign(made=pd.Series([None, None, cell, None], dtype=object)))


def test_zones_are_not_mixed():
    mixed = [datetime.datetime(2024, 1, 1), datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)]
    with pytest.raises(TypeError, match="with and without a time zone"):
        DateFeatures().fit(pd.DataFrame({"at": pd.Series(mixed, dtype=object)}))


def test_cyclic_parts_help_a_linear_model():
    rng = np.random.default_rng(0)
    days = pd.DataFrame({"day": pd.Timestamp("2015-01-01") + pd.to_timedelta(rng.integers(0, 3650, 600), unit="D")})
    y = np.cos(days["day"].dt.month * np.pi / 6) + rng.normal(size=600) / 5
    scores = [
        make_pipeline(DateFeatures(cyclic=cyclic), StandardScaler(), Ridge())
        .fit(days[:400], y[:400])
        .score(days[400:], y[400:])
        for cyclic in (False, True)
    ]
    assert scores[0] < 0.3 and scores[1] > 0.85


def test_the_numbers_of_tags():
    Z = frame(TagFeatures(), TAGS)
    assert Z.to_dict("list") == {
        "genre=drama": [1, 1, 0, 0, 1],
        "genre=war": [1, 0, 0, 1, 0],
        "genre_n_rare": [0, 0, 0, 1, 0],
        "genre_n_tags": [2, 1, 0, 2, 1],
        "genre_missing": [0, 0, 1, 0, 0],
        "seen=a": [1, 1, 0, 0, 0],
        "seen=b": [0, 0, 1, 0, 1],
        "seen_n_rare": [0, 0, 0, 0, 1],
        "seen_n_tags": [1, 1, 1, 0, 2],
    }
    later = pd.DataFrame({"genre": [["drama", "new", "noir", "drama"]], "seen": [None]})
    assert frame(TagFeatures(), TAGS, later).iloc[0].tolist() == [1, 0, 1, 3, 0, 0, 0, 0, 0]


def test_how_frequent_a_tag_must_be():
    assert list(frame(TagFeatures(min_frequency=3), TAGS[["genre"]])) == [
        *("genre=drama", "genre_n_rare", "genre_n_tags", "genre_missing")
    ]
    assert next(iter(frame(TagFeatures(min_frequency=0.5), TAGS[["genre"]]))) == "genre=drama"
    assert list(frame(TagFeatures(min_frequency=1), TAGS[["seen"]])) == ["seen=a", "seen=b", "seen=c", "seen_n_tags"]
    assert next(iter(frame(TagFeatures(max_tags=1, min_frequency=1), TAGS[["genre"]]))) == "genre=drama"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"min_frequency": 0}, "min_frequency must be a whole number from 1, or a share between 0 and 1; got 0"),
        ({"min_frequency": 1.5}, "got 1.5"),
        ({"min_frequency": True}, "got True"),
        ({"max_tags": 0}, "max_tags must be a whole number from 1, or None; got 0"),
    ],
)
def test_parameters_of_tags(params, message):
    with pytest.raises(ValueError, match=message):
        TagFeatures(**params).fit(TAGS)


@pytest.mark.parametrize("cell", ["war|drama", 5, [1], {"war": 1}])
def test_what_is_no_list_of_tags_is_named(cell):
    with pytest.raises(TypeError, match=r"Column 'seen' holds .* in row 1, which is no list of texts; .*split"):
        TagFeatures().fit(TAGS.assign(seen=pd.Series([None, cell, None, None, None], dtype=object)))


@by_case
def test_a_row_of_the_output_depends_on_its_row_alone(transformer, X):
    model = clone(transformer).fit(X)
    Z, order = model.transform(X), np.random.default_rng(0).permutation(len(X))
    assert not np.isnan(Z).any()
    assert_array_equal(model.transform(X.iloc[order]), Z[order])
    assert_array_equal(model.transform(X.iloc[2:3]), Z[2:3])
    assert model.transform(X.iloc[:0]).shape == (0, Z.shape[1])
    assert_array_equal(clone(transformer).fit(X.to_numpy(dtype=object)).transform(X.to_numpy(dtype=object)), Z)


@by_case
def test_contract(transformer, X):
    name = type(transformer).__name__
    for check in (
        "check_parameters_default_constructible",
        "check_get_params_invariance",
        "check_set_params",
        "check_no_attributes_set_in_init",
    ):
        getattr(estimator_checks, check)(name, clone(transformer))
    before, params = X.copy(deep=True), transformer.get_params()
    model = clone(transformer)
    assert model.fit(X) is model and model.get_params() == params
    pd.testing.assert_frame_equal(X, before)
    assert model.n_features_in_ == 2 and list(model.feature_names_in_) == list(X)
    names = model.get_feature_names_out()
    assert len(set(names)) == len(names) == model.transform(X).shape[1]
    assert model.get_feature_names_out(list(X)).tolist() == names.tolist()
    with pytest.raises(ValueError, match="input_features is not equal"):
        model.get_feature_names_out(["a", "b"])
    with pytest.raises(ValueError, match="feature names"):
        model.transform(X[list(X)[::-1]])
    with pytest.raises(ValueError, match="fit needs at least one"):
        clone(transformer).fit(X.iloc[:0])
    with pytest.raises(ValueError, match="not fitted yet"):
        clone(transformer).transform(X)
    assert list(clone(transformer).set_output(transform="polars").fit_transform(X).columns) == names.tolist()


@by_case
def test_saved_and_loaded_it_gives_the_same(transformer, X, tmp_path):
    model = clone(transformer).fit(X)
    assert_array_equal(load_model(save_model(model, tmp_path / "model")).transform(X), model.transform(X))
    assert_array_equal(pickle.loads(pickle.dumps(model)).transform(X), model.transform(X))


def test_rows_without_a_modality_stay_missing():
    guarded = PresentRows(DateFeatures()).fit(DAYS[["sold"]])
    assert np.isnan(guarded.transform(DAYS[["sold"]])).all(axis=1).tolist() == [False, False, True, False]


def test_in_a_fused_model(tmp_path):
    X = pd.concat([DAYS[:3].reset_index(drop=True), TAGS[:3]], axis=1)
    X = pd.concat([X] * 8, ignore_index=True)
    y = np.arange(len(X)) % 3 == 1
    dates = make_pipeline(DateFeatures(), StandardScaler())
    columns = make_column_transformer((dates, ["sold", "made"]), (TagFeatures(), ["genre", "seen"]))
    model = make_fusion_pipeline([("tabular", columns, list(X))], FeatureFusionClassifier(LogisticRegression())).fit(
        X, y
    )
    assert model.score(X, y) == 1
    again = load_model(save_model(model, tmp_path / "model"))
    assert_array_equal(again.predict_proba(X), model.predict_proba(X))
