"""A missing modality filled from the others: known maps, formulas by hand, patterns never seen."""

import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from ensemblefuse import CrossModalImputer
from ensemblefuse.exceptions import MissingModalityWarning

STRATEGIES = ["gaussian", "ridge", "knn", "mean"]


def lose(X, rows, *names):
    X = X.copy()
    X.loc[rows, [c for c in X if c.split("__")[0] in names]] = np.nan
    return X


def linear(n, noise=0.1, seed=0):
    """z = x A + noise in two blocks, and A."""
    rng = np.random.default_rng(seed)
    A, x = rng.normal(size=(3, 2)), rng.normal(size=(n, 3))
    z = x @ A + noise * rng.normal(size=(n, 2))
    return pd.DataFrame(np.hstack([x, z]), columns=["x__0", "x__1", "x__2", "z__0", "z__1"]), A


def test_t21_a_linear_map_is_recovered():
    """Least squares errs by noise / sqrt(n) a coefficient; shrinking the covariance by s, by the share s of it."""
    X, A = linear(20_000)
    model = CrossModalImputer().fit(X)
    probe = pd.DataFrame(np.full((4, 5), np.nan), columns=X.columns)
    probe.iloc[:, :3] = np.vstack([np.zeros(3), np.eye(3)])
    z = model.transform(probe)[:, 3:]
    shrinkage = model.covariance_.shrinkage_
    assert shrinkage < 0.001
    assert abs(z[1:] - z[0] - A).max() < 5 * 0.1 / np.sqrt(20_000) + 2 * shrinkage * abs(A).max()


def test_the_gaussian_fill_is_the_conditional_mean_for_every_pattern():
    """By hand; the last two patterns do not occur in fit."""
    X, _ = make_blocks(300)
    model = CrossModalImputer().fit(lose(X, range(50), "image"))
    scaler = {
        name: StandardScaler().fit(X.iloc[(50 if name == "image" else 0) :].filter(like=name)) for name in model.blocks_
    }
    Z = np.hstack([scaler[name].transform(X.filter(like=name)) for name in model.blocks_])
    cov, mean = model.covariance_.covariance_, model.covariance_.location_
    assert_allclose(mean, Z[50:].mean(axis=0), atol=1e-12)
    groups = np.repeat(["image", "text", "audio"], [6, 4, 3])
    for lost in (["image"], ["text"], ["text", "audio"]):
        m = np.isin(groups, lost)
        expected = mean[m] + (Z[:, ~m] - mean[~m]) @ np.linalg.solve(cov[np.ix_(~m, ~m)], cov[np.ix_(~m, m)])
        filled = pd.DataFrame(model.transform(lose(X, X.index, *lost)), columns=X.columns)
        back = np.hstack([scaler[name].transform(filled.filter(like=name)) for name in lost])
        assert_allclose(back, expected, atol=1e-8)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_there_stays_and_what_is_not_is_filled(strategy):
    X, _ = make_blocks()
    gone = {"image": range(0, 20), "text": range(15, 30), "audio": range(19, 22)}
    holes = X
    for name, rows in gone.items():
        holes = lose(holes, rows, name)
    model = CrossModalImputer(strategy).fit(holes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Z = model.transform(holes)
        new = model.transform(lose(X, range(100, 110), "image", "audio"))  # a pattern that is new
    there = holes.notna().to_numpy()
    assert_array_equal(Z[there], holes.to_numpy()[there])
    assert np.isfinite(Z).all() and np.isfinite(new).all()
    assert_allclose(Z[19], holes.mean())  # no block at all


@pytest.mark.parametrize("strategy", ["gaussian", "ridge", "knn"])
@pytest.mark.parametrize("n_components", [100, 3])
def test_blocks_that_share_a_signal_fill_each_other(strategy, n_components):
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(600, 3))
    X = np.hstack([signal @ rng.normal(size=(3, w)) + 0.3 * rng.normal(size=(600, w)) for w in (30, 20)])
    X = pd.DataFrame(X, columns=[f"{'image' if i < 30 else 'text'}__{i}" for i in range(50)])
    holes = lose(X, range(100), "text")
    errors = {
        s: ((CrossModalImputer(s, n_components=n_components).fit(holes).transform(holes) - X)[:100] ** 2)
        .to_numpy()
        .sum()
        for s in (strategy, "mean")
    }
    assert errors[strategy] < 0.35 * errors["mean"]


def test_ridge_is_one_regression_a_block_on_the_others_at_their_mean():
    X, _ = make_blocks()
    holes = lose(lose(X, range(20), "image"), range(10, 40), "text")
    scaled = StandardScaler().fit(holes)
    Z = np.nan_to_num(scaled.transform(holes))
    by_hand = RidgeCV(np.logspace(-2, 5, 15)).fit(Z[20:, 6:], Z[20:, :6]).predict(Z[:20, 6:])
    filled = CrossModalImputer("ridge").fit(holes).transform(holes)
    assert_allclose(scaled.transform(pd.DataFrame(filled, columns=X.columns))[:20, :6], by_hand, atol=1e-8)


def test_knn_takes_the_mean_of_the_nearest_rows_that_hold_the_block():
    X = pd.DataFrame({"a__0": [0.0, 1.0, 2.0, 10.0, 1.1], "b__0": [5.0, 7.0, np.nan, 90.0, np.nan]})
    model = CrossModalImputer("knn", n_neighbors=2).fit(X)
    assert_allclose(model.transform(X)[[2, 4], 1], [6.0, 6.0])
    far = pd.DataFrame({"a__0": [9.0], "b__0": [np.nan]})
    assert_allclose(model.transform(far)[0, 1], (90 + 7) / 2)


def test_knn_falls_back_to_the_mean_where_no_row_can_be_compared():
    X = pd.DataFrame({"a__0": [1.0, 2.0, np.nan, np.nan], "b__0": [np.nan, np.nan, 4.0, 8.0]})
    assert_allclose(CrossModalImputer("knn").fit_transform(X), [[1, 6], [2, 6], [1.5, 4], [1.5, 8]])


def test_an_indicator_a_block_says_what_was_missing():
    X, _ = make_blocks()
    frame = CrossModalImputer(add_indicator=True).set_output(transform="pandas").fit_transform(lose(X, [3, 5], "text"))
    assert frame.columns.tolist() == [*X.columns, "image__missing", "text__missing", "audio__missing"]
    assert frame.index[frame["text__missing"] == 1].tolist() == [3, 5] and not frame["image__missing"].any()
    array = CrossModalImputer(blocks={"left": [0, 1], "right": [2]}).fit(np.arange(12.0).reshape(4, 3))
    assert array.get_feature_names_out().tolist() == ["left__x0", "left__x1", "right__x2"]


def test_where_nothing_can_be_learned_a_warning_says_so():
    X, _ = make_blocks()
    apart = lose(lose(X, range(75), "image"), range(75, 150), "text")
    with pytest.warns(MissingModalityWarning, match=r"0 of 150 rows hold all blocks .*filled with means.*ridge"):
        filled = CrossModalImputer().fit_transform(apart)
    assert_allclose(filled[:75, :6], np.tile(apart.filter(like="image").mean(), (75, 1)))
    with pytest.warns(
        MissingModalityWarning, match=r"no row in fit holds the blocks \['text'\]; they are filled with 0"
    ):
        model = CrossModalImputer().fit(lose(X, X.index, "text"))
    assert not model.transform(lose(X, [0], "text"))[0, 6:10].any()
    assert_allclose(model.transform(lose(X, [0], "image"))[1:], X.iloc[1:])


def test_bad_input_is_named():
    X, _ = make_blocks()
    with pytest.raises(ValueError, match="every block is missing in every row"):
        CrossModalImputer().fit(X * np.nan)
    with pytest.raises(ValueError, match="strategy must be one of"):
        CrossModalImputer("median").fit(X)
    with pytest.raises(ValueError, match="n_neighbors must be a whole number from 1; got 0"):
        CrossModalImputer("knn", n_neighbors=0).fit(X)
    X.loc[7, "text__1"] = np.nan
    with pytest.raises(ValueError, match=r"Block 'text' is partly NaN in 1 row: \[7\]"):
        CrossModalImputer().fit(X)
