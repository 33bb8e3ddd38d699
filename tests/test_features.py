"""Transformers of blocks."""

import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import pdist
from sklearn.base import clone
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from ensemblefuse import BlockNystroem, BlockPCA, BlockScaler, ModalityDropout, PresentRows, StringFeatures
from ensemblefuse.exceptions import MissingModalityWarning


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


def test_unit_takes_the_cells_that_are_there():
    X, _ = make_blocks()
    X.iloc[0, 0] = np.nan
    Z = BlockScaler("unit").fit_transform(X)
    assert np.isnan(Z[0, 0]) and np.isnan(Z).sum() == 1
    assert np.linalg.norm(Z[0, 1:6]) == pytest.approx(1)


@pytest.mark.parametrize("method", ["mfa", "frobenius"])
def test_a_block_without_a_complete_row_counts_with_the_cells_that_it_has(method):
    X, _ = make_blocks()
    full = BlockScaler(method).fit(X)
    X.iloc[::2, 0] = np.nan
    X.iloc[1::2, 1] = np.nan
    X["lost__0"] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        holes = BlockScaler(method).fit(X)
    assert holes.scale_["text"] == pytest.approx(full.scale_["text"]) and holes.scale_["lost"] == 1
    image = np.nan_to_num(holes.transform(X)[:, :6])
    norm = np.linalg.norm(image) if method == "frobenius" else np.linalg.norm(image, 2) / np.sqrt(len(X))
    assert norm == pytest.approx(1)


@pytest.mark.parametrize("dtype, noise", [(np.float64, 1e-12), (np.float32, 1e-7)])
def test_a_column_that_is_constant_but_for_rounding_is_not_blown_up(dtype, noise):
    rng = np.random.default_rng(0)
    X = np.column_stack([1 + noise * rng.normal(size=50), rng.normal(size=50)]).astype(dtype)
    scaler = BlockScaler(None).fit(X)
    assert scaler.transform(np.array([[1.001, 0]], dtype=dtype))[0, 0] == pytest.approx(0.001, rel=1e-2)
    stamps = 1.7e9 + 86400.0 * np.arange(50)[:, None]  # varies by a millionth of its mean
    small = 1e-12 * rng.normal(size=(50, 1))
    for column in (stamps, small):
        assert BlockScaler(None).fit_transform(column).std() == pytest.approx(1)


@pytest.mark.parametrize("as_frame", [False, True])
@pytest.mark.parametrize("method", ["equal", "mfa", "frobenius", "unit", None])
def test_transform_allocates_one_table(method, as_frame):
    X = np.random.default_rng(0).normal(size=(20_000, 60))  # beside which other memory of the process is little
    scaler = BlockScaler(method, blocks={"a": slice(0, 40), "b": slice(40, 60)})
    table = pd.DataFrame(dict(enumerate(X.T))) if as_frame else X
    scaler.fit(table)
    tracemalloc.start()
    scaler.transform(table)
    peak = tracemalloc.get_traced_memory()[1] / X.nbytes
    tracemalloc.stop()
    assert peak < 1.2


def test_equal_makes_no_scaled_copy_in_fit(monkeypatch):
    X, _ = make_blocks()
    monkeypatch.setattr("sklearn.preprocessing.StandardScaler.transform", None)
    BlockScaler().fit(X)


def holes(n=150):
    X, y = make_blocks(n)
    X.loc[: n // 3, X.columns.str.startswith("image")] = np.nan
    return X, y


def test_block_pca_is_scikit_learns_on_the_present_rows():
    X, _ = holes()
    Z = BlockPCA({"image": 2, "text": 0.5, "audio": None}).fit_transform(X)
    there = X["image__0"].notna().to_numpy()
    image, text, audio = (X.filter(like=name) for name in ("image", "text", "audio"))
    assert_allclose(Z[there, :2], PCA(2).fit_transform(image[there]), atol=1e-12)
    assert np.isnan(Z[~there, :2]).all()
    assert_allclose(Z[:, 2:], np.hstack([PCA(0.5).fit_transform(text), PCA().fit_transform(audio)]), atol=1e-12)


def test_block_pca_never_has_more_components_than_rows_or_columns():
    X, _ = make_blocks()
    assert BlockPCA(100).fit_transform(X).shape == (150, 13)
    assert BlockPCA(100).fit_transform(X.iloc[:3]).shape == (3, 6)  # three rows differ in two directions
    assert BlockPCA().fit_transform(X * 0).shape == (150, 3)  # nothing varies


@pytest.mark.parametrize("model", [BlockPCA(2), BlockNystroem(2)])
def test_a_block_that_hardly_any_row_holds_is_named(model):
    X, _ = make_blocks()
    X.iloc[1:, :6] = np.nan
    with pytest.warns(MissingModalityWarning, match=r"fewer than 2 rows \(block: rows\) \{'image': 1\}"):
        model.fit(X)
    Z = model.transform(make_blocks()[0])
    assert Z.shape == (150, 5) and np.isnan(Z[:, 0]).all() and np.isfinite(Z[:, 1:]).all()
    with pytest.raises(ValueError, match=r"present in at least 2 rows; .*'text': 1"):
        model.fit(X.iloc[:1])


def test_nystroem_on_all_rows_is_the_kernel_itself():
    X, _ = make_blocks(60, widths={"image": 6, "text": 4})
    model = BlockNystroem(60, gamma={"image": 0.2, "text": 0.3}).fit(X)
    Z = model.transform(X)
    for name, part, gamma in (("image", Z[:, :60], 0.2), ("text", Z[:, 60:], 0.3)):
        kernel = rbf_kernel(X.filter(like=name).to_numpy(), gamma=gamma)
        assert_allclose(part @ part.T, model.scale_[name] ** 2 * kernel, atol=1e-6)
        assert part.var(axis=0).sum() == pytest.approx(60)  # as BlockScaler("equal") gives 60 columns


def test_gamma_is_one_over_the_median_squared_distance():
    X, _ = holes()
    model = BlockNystroem(10, random_state=0).fit(X)
    assert model.gamma_["text"] == pytest.approx(1 / np.median(pdist(X.filter(like="text"), "sqeuclidean")))
    rare = pd.get_dummies(pd.Series(["a"] * 90 + ["b"] * 10), prefix="c_", dtype=float)  # most pairs are alike
    assert BlockNystroem(5).fit(rare).gamma_["c"] == pytest.approx(1 / pdist(rare, "sqeuclidean").mean())
    assert np.isfinite(BlockNystroem(5).fit_transform(rare * 0)).all()


def test_nystroem_lets_a_linear_model_see_a_circle():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(400, 4)), columns=["a__0", "a__1", "b__0", "b__1"])
    y = (X["a__0"] ** 2 + X["a__1"] ** 2 > 1.4).astype(int)
    head = LogisticRegression(max_iter=500)
    assert cross_val_score(head, X, y).mean() < 0.65
    assert cross_val_score(make_pipeline(BlockNystroem(100, random_state=0), head), X, y).mean() > 0.85


@pytest.mark.parametrize(
    "model, message",
    [
        (BlockPCA(0), "n_components must be a whole number from 1, a share"),
        (BlockPCA(1.0), "n_components must be a whole number from 1, a share"),
        (BlockPCA({"sound": 3}), r"n_components names unknown blocks \['sound'\]"),
        (BlockNystroem(0), "n_components must be a whole number from 1"),
        (BlockNystroem(gamma=0), "gamma must be .*above 0; got 0"),
        (BlockNystroem(gamma={"text": "scale"}), "gamma must be .*'scale'"),
    ],
)
def test_bad_parameters_of_blocks_are_named(model, message):
    with pytest.raises(ValueError, match=message):
        model.fit(make_blocks()[0])


def test_a_partly_missing_row_is_named():
    X, _ = make_blocks()
    X.index = [f"row {i}" for i in range(len(X))]
    X.iloc[4, 0] = np.nan
    for model in (BlockPCA(), BlockNystroem(5)):
        with pytest.raises(ValueError, match=r"Block 'image' is partly NaN in 1 row: \['row 4'\]"):
            model.fit(X)


def test_modality_dropout_keeps_the_rows_and_their_weight():
    X, y = holes()
    weight = np.random.default_rng(0).uniform(size=len(X))
    model = ModalityDropout(0.4, n_copies=3, random_state=0)
    X_more, y_more, weight_more = model.fit_resample(X, y, weight)
    rows = model.sample_indices_
    pd.testing.assert_frame_equal(X_more.iloc[: len(X)], X)
    assert_array_equal(y_more, y[rows])
    assert_allclose(np.bincount(rows, weight_more), weight)
    kept = X_more.notna().to_numpy()
    assert_array_equal(X_more.to_numpy()[kept], X.iloc[rows].to_numpy()[kept])
    assert X_more.index.tolist() == X.index[rows].tolist()
    again = ModalityDropout(0.4, n_copies=3, random_state=0).fit_resample(X, y, weight)[0]
    pd.testing.assert_frame_equal(again, X_more)


def test_modality_dropout_drops_whole_blocks_at_its_rate_and_never_all():
    """With one block of three always kept, a block goes in r - r^3 / 3 of the copies; five standard errors."""
    X, y = make_blocks(2000)
    lost = ModalityDropout(0.5, n_copies=2, random_state=0).fit_resample(X, y)[0].isna().to_numpy()[2000:]
    assert (lost[:, :6].all(axis=1) == lost[:, :6].any(axis=1)).all()
    assert not lost.all(axis=1).any()
    expected = 0.5 - 0.5**3 / 3
    assert_allclose(lost[:, [0, 6, 10]].mean(axis=0), expected, atol=5 * 0.5 / np.sqrt(4000))


def test_modality_dropout_takes_arrays_raw_cells_and_rows_without_a_block():
    X = np.array([[1, 2], [np.nan, 2], [np.nan, np.nan]])
    blocks = {"a": [0], "b": [1]}
    more, y, weight = ModalityDropout(0.9, n_copies=20, blocks=blocks, random_state=0).fit_resample(X, [1, 2, 3])
    assert isinstance(more, np.ndarray) and len(more) == len(y) == len(weight) == 63
    assert (more[1::3, 1] == 2).all() and np.isnan(more[2::3]).all() and np.isnan(more[0::3]).sum(axis=1).max() == 1
    raw = pd.DataFrame({"text__title": ["red", None, "blue"], "price__eur": [1, 2, 3]}, index=["x", "y", "y"])
    more, _, _ = ModalityDropout(0.9, n_copies=5, random_state=0).fit_resample(raw, pd.Series([1, 2, 3]))
    assert more.columns.tolist() == ["text__title", "price__eur"] and more.isna().any().all()
    assert (more["price__eur"].notna() | more["text__title"].notna()).all()


def test_modality_dropout_teaches_a_model_to_do_without():
    """Both blocks hold the label, image the more clearly; a linear model leans on it unless it was ever missing."""
    X, y = make_blocks(600, n_classes=2, widths={"image": 4, "text": 4})
    X["image__0"] += 4.0 * (y == "class 1")
    lost = X.assign(**{c: np.nan for c in X.filter(like="image")})
    head = make_pipeline(BlockScaler(), SimpleImputer(strategy="constant", fill_value=0.0), LogisticRegression())
    plain = clone(head).fit(X, y).predict_proba(lost)
    more, labels, weight = ModalityDropout(0.4, random_state=0).fit_resample(X, y)
    taught = clone(head).fit(more, labels, logisticregression__sample_weight=weight).predict_proba(lost)
    right = np.arange(len(y)), (y == "class 1").astype(int)
    assert -np.log(taught[right]).mean() < -np.log(plain[right]).mean()


@pytest.mark.parametrize("params", [{"rate": 1.0}, {"rate": -0.1}, {"n_copies": -1}, {"n_copies": 1.5}])
def test_bad_parameters_of_dropout_are_named(params):
    with pytest.raises(ValueError, match=next(iter(params))):
        ModalityDropout(**params).fit_resample(np.ones((3, 1)), [1, 2, 3])


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_components_are_directions_in_which_the_rows_differ(dtype):
    # 12 centred rows differ in 11 directions at most; these, of rank 4, in 4.
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 20))
    low = (1e3 + rng.normal(size=(12, 4)) @ rng.normal(size=(4, 20))).astype(dtype)
    X = pd.DataFrame(np.hstack([X.astype(dtype), low]), columns=[f"{b}__{i}" for b in "ab" for i in range(20)])
    pca = BlockPCA(15).fit(X)
    assert pca.pcas_["a"].n_components_ == 11
    assert pca.pcas_["b"].n_components_ == 4
    assert (pca.transform(X).std(axis=0) > 1e-3).all()


def test_components_of_small_columns_beside_large_ones_stay():
    # Milliseconds since 1970, and a rate: float64 holds both exactly enough.
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"t__ms": 1.6e12 + rng.integers(0, 10**10, 40), "t__rate": rng.normal(0.5, 0.01, 40)})
    assert BlockPCA(None).fit(X).pcas_["t"].n_components_ == 2


def test_strings_have_no_component_that_only_new_strings_fill():
    # Only the pieces of "ab" stand in two rows, so these five cells differ in two directions, not in three.
    fitted = pd.DataFrame({"name": ["ab", "ab", "cd", "ef", "gh"]})
    features = StringFeatures().fit(fitted)
    spread = features.transform(fitted).std(axis=0)
    assert (spread > 1e-3).all()
    new = features.transform(pd.DataFrame({"name": ["a", "b", "aab", "bab", "zzz"]}))
    assert np.abs(new / spread).max() < 100
