"""Transformers of blocks."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from ensemblefuse import BlockScaler, PresentRows


def parts(X, Z):
    return {name: Z[:, [c.startswith(name) for c in X.columns]] for name in ("image", "text", "audio")}


def test_equal_gives_every_block_the_mean_width_as_total_variance():
    X, _ = make_blocks()
    for block in parts(X, BlockScaler().fit_transform(X)).values():
        assert_allclose(block.var(axis=0).sum(), X.shape[1] / 3)


def test_mfa_frobenius_and_unit_do_as_their_names_say():
    X, _ = make_blocks()
    for block in parts(X, BlockScaler("mfa").fit_transform(X)).values():
        assert_allclose(np.linalg.norm(block, 2) / np.sqrt(len(X)), 1)
    for block in parts(X, BlockScaler("frobenius").fit_transform(X)).values():
        assert_allclose(np.linalg.norm(block), 1)
    for block in parts(X, BlockScaler("unit").fit_transform(X)).values():
        assert_allclose(np.linalg.norm(block, axis=1), 1)


def test_weights_multiply_the_gram_matrix_of_a_block():
    X, _ = make_blocks()
    plain = parts(X, BlockScaler(None).fit_transform(X))
    weighted = parts(X, BlockScaler(None, weights={"text": 3.0}).fit_transform(X))
    assert_allclose(weighted["text"] @ weighted["text"].T, 3 * plain["text"] @ plain["text"].T)
    assert_allclose(weighted["image"], plain["image"])


@pytest.mark.parametrize("method", ["equal", "mfa", "frobenius", "unit", None])
def test_missing_blocks_stay_missing_and_do_not_count(method):
    X, _ = make_blocks()
    X = pd.concat([X, X.iloc[:20]], ignore_index=True)
    X.iloc[-20:] = np.nan
    full, holes = BlockScaler(method).fit(X.iloc[:-20]), BlockScaler(method).fit(X)
    assert_allclose(holes.transform(X.iloc[:-20]), full.transform(X.iloc[:-20]))
    assert np.isnan(holes.transform(X)[-20:]).all()


@pytest.mark.parametrize("method", ["equal", "mfa", None])
def test_a_weight_of_two_is_a_row_twice(method):
    X, _ = make_blocks()
    weight = np.ones(len(X))
    weight[:30] = 2
    twice = BlockScaler(method).fit(pd.concat([X, X[:30]]))
    assert_allclose(BlockScaler(method).fit(X, sample_weight=weight).transform(X), twice.transform(X))


def test_present_rows_fits_a_pca_on_the_present_rows_alone():
    X, _ = make_blocks()
    X = X.filter(like="image__")
    holes = X.copy()
    holes.iloc[::3] = np.nan
    there = holes.notna().all(axis=1).to_numpy()
    out = PresentRows(PCA(2)).fit_transform(holes)
    assert_allclose(out[there], PCA(2).fit_transform(X[there]))
    assert np.isnan(out[~there]).all()
    model = PresentRows(PCA(2)).fit(holes)
    assert model.transform(holes[~there]).shape == ((~there).sum(), 2)
    assert model.get_feature_names_out().tolist() == ["pca0", "pca1"]


def test_present_rows_shows_the_parameters_of_what_it_holds():
    model = PresentRows(PCA(2)).set_params(n_components=1)
    assert model.get_params()["n_components"] == 1 and clone(model).transformer.n_components == 1
    assert model.set_params(transformer=PCA(3), whiten=True).transformer.whiten


def test_present_rows_takes_raw_cells_and_makes_sparse_output_dense():
    titles = pd.Series(["red bird", None, "blue bird"])
    out = PresentRows(TfidfVectorizer()).fit_transform(titles)
    assert isinstance(out, np.ndarray) and out.shape == (3, 3) and np.isnan(out[1]).all()
    colours = pd.DataFrame({"colour": ["red", None, "blue"]})
    assert PresentRows(OneHotEncoder()).fit(colours).transform(colours).shape == (3, 2)
    with pytest.raises(ValueError, match="all 2 rows are missing"):
        PresentRows(PCA()).fit(np.full((2, 3), np.nan))


def test_present_rows_holds_a_pipeline_and_shows_the_parameters_of_its_steps():
    titles = pd.Series(["red bird", None, "blue bird", "green fish"])
    model = PresentRows(make_pipeline(TfidfVectorizer(), TruncatedSVD(1))).set_params(truncatedsvd__n_components=2)
    out = clone(model).fit_transform(titles)
    assert out.shape == (4, 2) and np.isnan(out[1]).all() and np.isfinite(out[[0, 2, 3]]).all()
    assert model.fit(titles).get_feature_names_out().tolist() == ["truncatedsvd0", "truncatedsvd1"]
