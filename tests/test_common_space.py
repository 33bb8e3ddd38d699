"""Blocks in one space: known canonical correlations, the defining equations, sums, retrieval, no leakage."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from ensemblefuse import CommonSpaceProjector

AB = {"a": slice(0, 3), "b": slice(3, 6)}


def correlated(correlations=(0.9, 0.6, 0.0), n=20_000, seed=0):
    """Two blocks whose canonical correlations are known, each turned by a random invertible matrix."""
    rng = np.random.default_rng(seed)
    r, width = np.array(correlations), len(correlations)
    a, e = rng.normal(size=(2, n, width))
    return np.hstack(
        [a @ rng.normal(size=(width, width)), (r * a + np.sqrt(1 - r**2) * e) @ rng.normal(size=(width, 3))]
    )


def shared(n, widths, size=2, noise=0.5, seed=0):
    """Blocks that all show one signal, and the signal."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(n, size))
    parts = [signal @ rng.normal(size=(size, w)) + noise * rng.normal(size=(n, w)) for w in widths]
    ends = np.cumsum(widths)
    blocks = {f"m{i}": slice(end - part.shape[1], end) for i, (part, end) in enumerate(zip(parts, ends, strict=True))}
    return np.hstack(parts), blocks, signal


@pytest.mark.parametrize("method", ["cca", "gcca", "mcca"])
def test_known_canonical_correlations_are_found(method):
    """Their standard error is (1 - r^2) / sqrt(n), at most 0.007 at n = 20 000; the tolerance is four of them."""
    X = correlated()
    model = CommonSpaceProjector(3, method=method, reg=1e-9, blocks=AB).fit(X)
    assert_allclose(model.correlations_, [0.9, 0.6, 0.0], atol=0.028)
    a, b = model.transform_block(X[:, :3], "a"), model.transform_block(X[:, 3:], "b")
    assert_allclose([np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(3)], model.correlations_, atol=1e-9)


def test_two_block_methods_agree_on_the_first_direction():
    X = correlated(n=500)
    scores = [
        CommonSpaceProjector(1, method=m, reg=1e-9, blocks=AB).fit(X).transform_block(X[:, 3:], "b").ravel()
        for m in ("cca", "gcca", "mcca")
    ]
    assert_allclose(np.corrcoef(scores), 1, atol=1e-6)  # the same sign, too


def test_cca_scores_have_unit_variance_and_cross_only_with_their_partner():
    X = correlated(n=400)
    model = CommonSpaceProjector(3, method="cca", reg=0.0, blocks=AB).fit(X)
    a, b = model.transform_block(X[:, :3], "a"), model.transform_block(X[:, 3:], "b")
    assert_allclose(a.T @ a / len(X), np.eye(3), atol=1e-8)
    assert_allclose(a.T @ b / len(X), np.diag(model.correlations_), atol=1e-8)


def ridged(X, reg):
    C = X.T @ X
    return C + reg * np.trace(C) / len(C) * np.eye(len(C))


@pytest.mark.parametrize("n", [60, 8])  # more rows than columns, and fewer
def test_gcca_solves_its_equation(n):
    X, blocks, _ = shared(n, [6, 4, 5])
    model = CommonSpaceProjector(2, reg=0.2, blocks=blocks).fit(X)
    parts = {name: X[:, span] - X[:, span].mean(axis=0) for name, span in blocks.items()}
    maps = {name: np.linalg.solve(ridged(P, 0.2), P.T) for name, P in parts.items()}
    vectors = np.linalg.eigh(sum(P @ maps[name] for name, P in parts.items()))[1][:, ::-1][:, :2]
    for name, P in parts.items():
        Z, expected = P @ model.projections_[name], np.sqrt(n) * P @ maps[name] @ vectors
        assert_allclose(abs(Z), abs(expected), atol=1e-8)


def test_mcca_solves_its_equation():
    X, blocks, _ = shared(60, [6, 4, 5])
    model = CommonSpaceProjector(2, method="mcca", reg=0.2, blocks=blocks).fit(X)
    X = X - X.mean(axis=0)
    D = np.zeros((15, 15))
    for span in blocks.values():
        D[span, span] = ridged(X[:, span], 0.2)
    values = np.sort(np.linalg.eigvals(np.linalg.solve(D, X.T @ X)).real)[::-1]
    W = np.vstack(list(model.projections_.values()))
    assert_allclose(X.T @ X @ W, D @ W * values[:2], atol=1e-6)


@pytest.mark.parametrize("method", ["gcca", "mcca"])
def test_a_signal_that_three_blocks_share_is_recovered(method):
    X, blocks, signal = shared(2000, [10, 8, 6])
    Z = CommonSpaceProjector(2, method=method, blocks=blocks).fit_transform(X)
    residual = signal - Z @ np.linalg.lstsq(Z, signal, rcond=None)[0]
    assert residual.var() < 0.1 * signal.var()


def test_pca_is_scikit_learns():
    X, _ = make_blocks()
    Z = CommonSpaceProjector(3, method="pca", combine="concat").fit_transform(X)
    expected = [PCA(3).fit_transform(X.filter(like=name)) for name in ("image", "text", "audio")]
    assert_allclose(Z, np.hstack(expected), atol=1e-8)


def test_pls_starts_with_the_covariance_with_y():
    X, _ = make_blocks()
    y = X["text__0"].to_numpy() ** 2 + 0.5
    W = CommonSpaceProjector(1, method="pls").fit(X, y).projections_["image"].ravel()
    direction = X.filter(like="image").to_numpy().T @ (y - y.mean())
    assert_allclose(W, direction / np.linalg.norm(direction), atol=1e-8)


def gaps(X):
    X = X.copy()
    X.loc[0, X.columns.str.startswith("image")] = np.nan
    X.loc[1, ~X.columns.str.startswith("audio")] = np.nan
    X.loc[2] = np.nan
    return X


def test_the_sum_is_over_the_blocks_that_are_there():
    X, _ = make_blocks()
    X = gaps(X)
    model = CommonSpaceProjector(2, weights={"image": 1.0, "text": 2.0, "audio": 5.0}).fit(X)
    assert model.weights_ == {"image": 1 / 8, "text": 2 / 8, "audio": 5 / 8}
    image, text, audio = (
        (X.filter(like=name).to_numpy() - model.means_[name]) @ model.projections_[name]
        for name in ("image", "text", "audio")
    )
    Z = model.transform(X)
    assert_allclose(Z[0], (2 * text[0] + 5 * audio[0]) / 7)
    assert_allclose(Z[1], audio[1])
    assert np.isnan(Z[2]).all()
    assert_allclose(Z[3:], ((image + 2 * text + 5 * audio) / 8)[3:])
    assert model.get_feature_names_out().tolist() == ["common__0", "common__1"]


def test_one_block_with_all_the_weight_is_that_block_alone():
    X, _ = make_blocks()
    X = gaps(X)
    model = CommonSpaceProjector(2, weights={"image": 0, "audio": 0}).fit(X)
    assert_allclose(model.transform(X), model.transform_block(X.filter(like="text"), "text"))


def test_canonical_methods_learn_from_complete_rows():
    X, _ = make_blocks()
    holes = gaps(X)
    full = CommonSpaceProjector(2).fit(X.iloc[3:])
    assert_allclose(CommonSpaceProjector(2).fit(holes).transform(X), full.transform(X), atol=1e-9)


def test_learned_weights_are_kernel_alignments():
    """Cortes, Mohri and Rostamizadeh, 2012, with the kernels written out."""
    X, y = make_blocks()
    X["noise__0"], X["noise__1"] = np.random.default_rng(1).normal(size=(2, len(X)))
    model = CommonSpaceProjector(2, weights="learned").fit(X, y)
    H = np.eye(len(X)) - 1 / len(X)
    same = H @ (y[:, None] == y[None, :]) @ H
    raw = {}
    for name in model.blocks_:
        Z = model.transform_block(X.filter(like=name), name)
        K = H @ Z @ Z.T @ H
        raw[name] = (K * same).sum() / np.linalg.norm(K) / np.linalg.norm(same)
    assert_allclose(list(model.weights_.values()), np.array(list(raw.values())) / sum(raw.values()))
    assert model.weights_["noise"] < 0.05 and sum(model.weights_.values()) == pytest.approx(1)


@pytest.mark.parametrize("method", ["gcca", "mcca", "cca"])
def test_the_partner_of_a_row_is_found_in_the_other_modality(method):
    X, blocks, _ = shared(600, [20, 15], size=8, noise=0.3)
    model = CommonSpaceProjector(8, method=method, blocks=blocks).fit(X[:500])
    scores = model.similarity(X[500:, :20], X[500:, 20:], block_a="m0", block_b="m1")
    assert scores.shape == (100, 100) and np.mean(scores.argmax(axis=1) == np.arange(100)) > 0.95
    assert_allclose(model.similarity(X[500:, 20:], X[500:, :20], block_a="m1", block_b="m0"), scores.T)


def test_similarity_is_a_cosine_weighted_by_the_correlations():
    X, blocks, _ = shared(200, [5, 4])
    model = CommonSpaceProjector(3, method="cca", blocks=blocks).fit(X)
    A, B = X[:4, :5].copy(), X[:6, 5:]
    A[1] = np.nan
    a, b = model.transform_block(A, "m0"), model.transform_block(B, "m1")
    r, scores = model.correlations_, model.similarity(A, B, block_a="m0", block_b="m1")
    assert scores[2, 5] == pytest.approx((r * a[2] * b[5]).sum() / np.linalg.norm(a[2]) / np.linalg.norm(b[5]))
    assert np.isnan(scores[1]).all() and np.isfinite(scores[[0, 2, 3]]).all()


def test_pls_inside_the_fold_learns_nothing_from_permuted_labels():
    rng = np.random.default_rng(0)
    X, y = (
        pd.DataFrame(rng.normal(size=(200, 60)), columns=[f"{'ab'[i % 2]}__{i}" for i in range(60)]),
        np.arange(200) % 2,
    )
    y = rng.permutation(y)
    space, head = CommonSpaceProjector(3, method="pls", combine="concat"), LogisticRegression()
    inside = cross_val_score(make_pipeline(space, head), X, y, cv=10).mean()
    outside = cross_val_score(head, space.fit_transform(X, y), y, cv=10).mean()
    assert abs(inside - 0.5) < 3 * 0.5 / np.sqrt(200)  # three standard errors of chance
    assert outside > 0.65  # what it would claim if it had seen the labels of the fold


def test_labels_of_any_kind_give_the_same_space():
    X, y = make_blocks()
    spaces = [
        CommonSpaceProjector(2, method="pls").fit(X, labels).transform(X)
        for labels in (y, np.unique(y, return_inverse=True)[1], pd.Series(y, dtype="category"))
    ]
    assert_allclose(spaces[1], spaces[0])
    assert_allclose(spaces[2], spaces[0])


def test_too_few_rows_or_blocks_are_named():
    X, y = make_blocks()
    with pytest.raises(ValueError, match=r"exactly two blocks; X has 3: .*gcca"):
        CommonSpaceProjector(method="cca").fit(X)
    apart = X.copy()
    apart.iloc[:100, :6] = np.nan
    apart.iloc[99:, 6:] = np.nan
    with pytest.raises(ValueError, match=r"hold all blocks, and X has 0 of them .*'image': 50.*Leave out the rarest"):
        CommonSpaceProjector().fit(apart)
    Z = CommonSpaceProjector(2, method="pls").fit(apart, y).transform(apart)
    assert np.isfinite(Z[np.r_[:99, 100:150]]).all() and np.isnan(Z[99]).all()
    assert np.isnan(CommonSpaceProjector(2, method="pca").fit(apart).correlations_).all()


@pytest.mark.parametrize(
    "params, message",
    [
        ({"method": "dcca"}, "method must be one of"),
        ({"n_components": 0}, "n_components must be a whole number"),
        ({"reg": -1}, "reg must be a number from 0"),
        ({"combine": "product"}, "combine must be"),
        ({"combine": "concat", "weights": {"text": 2}}, "weights are for combine"),
        ({"weights": {"sound": 2}}, r"weights names unknown blocks \['sound'\]"),
        ({"weights": {"text": -1}}, "finite and at least 0"),
        ({"weights": {"text": 0, "image": 0, "audio": 0}}, "must not all be 0"),
        ({"weights": [1, 2, 3]}, "weights must be a dict"),
        ({"weights": "learned"}, "requires y to be passed"),
        ({"method": "pls"}, "requires y to be passed"),
    ],
)
def test_bad_parameters_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        CommonSpaceProjector(**params).fit(make_blocks()[0])


def test_bad_input_is_named():
    X, _ = make_blocks()
    model = CommonSpaceProjector(2).fit(X)
    with pytest.raises(ValueError, match=r"columns of block 'text': .*'text__0'"):
        model.transform_block(X.filter(like="image"), "text")
    with pytest.raises(ValueError, match="block 'text' has 4 columns; X has 6"):
        model.transform_block(X.filter(like="image").to_numpy(), "text")
    with pytest.raises(ValueError, match="block 'sound' is unknown"):
        model.transform_block(X, "sound")
    with pytest.raises(ValueError, match="only one value in the rows with block 'image'"):
        CommonSpaceProjector(method="pls").fit(X, np.zeros(len(X)))
    with pytest.raises(ValueError, match=r"finds no direction: the blocks .* are constant"):
        CommonSpaceProjector().fit(X * 0)
    X.iloc[4, 0] = np.nan
    with pytest.raises(ValueError, match=r"Block 'image' is partly NaN in 1 row: \[4\]"):
        model.transform(X)
