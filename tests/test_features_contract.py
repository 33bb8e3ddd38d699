"""scikit-learn's own checks on every public transformer, found through ``__all__``, and what all of them promise."""

import pickle
import warnings
from inspect import Parameter, signature

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks, with_checks
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

import ensemblefuse.features
from ensemblefuse import (
    BlockNystroem,
    BlockPCA,
    CommonSpaceProjector,
    CrossModalImputer,
    CrossModalVAE,
    ModalityDropout,
    TableTransformer,
    load_model,
    save_model,
)
from ensemblefuse.blocks import find_blocks

PUBLIC = [getattr(ensemblefuse.features, name) for name in ensemblefuse.features.__all__]


def needs_no_argument(kind):
    return all(p.default is not Parameter.empty for p in signature(kind).parameters.values())


TRANSFORMERS = [kind() for kind in PUBLIC if hasattr(kind, "transform") and needs_no_argument(kind)]
TRANSFORMERS = [transformer for transformer in TRANSFORMERS if "blocks" in transformer.get_params()]
for transformer in TRANSFORMERS:
    if isinstance(transformer, CrossModalVAE):
        transformer.set_params(n_latent=2, hidden=4, max_epochs=2)
VARIANTS = [
    *TRANSFORMERS,
    BlockPCA(2),
    BlockNystroem(10, gamma=0.5),
    *(CommonSpaceProjector(4, method=method, combine="concat") for method in ("mcca", "pls", "pca")),
    CommonSpaceProjector(4, weights="learned"),
    # On this table, the first keeps the linear space that it starts from, and the second its networks.
    CommonSpaceProjector(2, method="contrastive", n_members=2, max_epochs=2),
    CommonSpaceProjector(2, method="deep_cca", hidden=4, n_members=1, max_epochs=2, combine="concat"),
    *(CrossModalImputer(strategy, add_indicator=True) for strategy in ("ridge", "knn", "mean")),
    *(CrossModalVAE(kind, n_latent=2, hidden=4, max_epochs=2) for kind in ("mixture", "conditional")),
]
WEIGHTS = "check_sample_weight_equivalence_on_dense_data"
BATCHES = "a row of weight 2 is in one batch of an epoch, and two such rows may be in two"
by_repr = pytest.mark.parametrize("transformer", VARIANTS, ids=repr)


OF_COLUMNS = {"CensoredFeatures", "DateFeatures", "NumberFeatures", "StringFeatures", "TableTransformer", "TagFeatures"}


def test_every_transformer_is_checked():
    left = {kind.__name__ for kind in PUBLIC} - {type(t).__name__ for t in TRANSFORMERS}
    # One needs a transformer, one is none. Other tests check those that know no blocks (test_embedding_noise.py,
    # test_words.py) or read no numbers (test_date_and_tag_features.py, test_infer_modalities.py,
    # test_tuples_of_numbers.py). The table is compared with its parent below.
    assert left == {"PresentRows", "ModalityDropout", "EmbeddingNoise", "WordFeatures", *OF_COLUMNS}


@pytest.mark.by_turns
@with_checks(
    VARIANTS,
    expected_failed_checks=lambda estimator: {WEIGHTS: BATCHES} if isinstance(estimator, CrossModalVAE) else {},
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.by_turns
@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=repr)
def test_as_many_checks_run_as_for_pca(transformer):
    count = lambda estimator: sum(
        result["status"] == "passed" for result in check_estimator(estimator, on_fail=None, on_skip=None)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks themselves warn
        # Where NaN counts as a number, scikit-learn yields no check that it is refused.
        assert count(transformer) >= count(PCA()) - transformer.__sklearn_tags__().input_tags.allow_nan


OF_NAMES = [
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_dataframe_column_names_consistency",
]


@pytest.mark.by_turns
@by_repr
@pytest.mark.parametrize("check", OF_NAMES)
@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names")  # the check fits an array, too
def test_names_of_the_output(transformer, check):
    getattr(estimator_checks, check)(type(transformer).__name__, clone(transformer))


def test_a_table_passes_the_checks_that_a_column_transformer_passes():
    def results(kind):
        return [
            (result["check_name"], result["status"])
            for result in check_estimator(kind([("n", StandardScaler(), [0])]), on_fail=None, on_skip=None)
        ]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks themselves warn
        expected, found = results(ColumnTransformer), results(TableTransformer)
    assert found == expected and sum(status == "passed" for _, status in found) >= 35


@pytest.mark.parametrize("check", OF_NAMES[:-1])  # it finds columns by name, in any order
@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names")  # the check fits an array, too
def test_names_of_the_output_of_a_table(check):
    table = TableTransformer([("n", StandardScaler(), [0]), ("p", "passthrough", [1])], remainder=StandardScaler())
    getattr(estimator_checks, check)("TableTransformer", table)


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_a_table_gives_the_frames_of_a_column_transformer(container):
    X = pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [0.5, 0.0, 0.0], "c": ["x", "y", "x"]}, index=[5, 7, 6])
    parts = [("n", StandardScaler(), ["b", "a"]), ("c", OneHotEncoder(sparse_output=False), ["c"])]
    frames = []
    for kind in (ColumnTransformer, TableTransformer):
        table = kind(parts, verbose_feature_names_out=False).set_output(transform=container)
        frames += [table.fit_transform(X), table.fit(X).transform(X)]
        assert list(table.get_feature_names_out()) == list(frames[-1].columns) == ["b", "a", "c_x", "c_y"]
    assert all(frame.equals(frames[0]) for frame in frames)


def fitted(transformer, X, y):
    transformer = clone(transformer)
    if "random_state" in transformer.get_params():
        transformer.set_params(random_state=0)
    return transformer.fit(X, y)


def gappy(n=120):
    X, y = make_blocks(n)
    X.loc[3:9, X.columns.str.startswith("text")] = np.nan
    X.loc[8:14, X.columns.str.startswith("image")] = np.nan
    X.loc[20] = np.nan
    return X, y


@by_repr
def test_a_row_of_the_output_depends_on_its_row_alone(transformer):
    X, y = gappy()
    model = fitted(transformer, X, y)
    Z, order = model.transform(X), np.random.default_rng(0).permutation(len(X))
    assert_allclose(model.transform(X.iloc[order]), Z[order], atol=1e-9)
    assert_allclose(model.transform(X.iloc[8:9]), Z[8:9], atol=1e-9)


@by_repr
def test_the_order_of_the_blocks_does_not_matter(transformer):
    X, y = gappy()
    turned = X[sorted(X.columns, key=lambda c: ("text", "audio", "image").index(c.split("__")[0]))]
    frames = [fitted(transformer, T, y).set_output(transform="pandas").transform(T) for T in (X, turned)]
    assert set(frames[0].columns) == set(frames[1].columns)
    assert_allclose(frames[1][frames[0].columns], frames[0], atol=1e-6)


@by_repr
def test_a_later_estimator_still_sees_the_blocks(transformer):
    X, y = gappy()
    names = fitted(transformer, X, y).get_feature_names_out()
    common = isinstance(transformer, CommonSpaceProjector) and transformer.combine == "sum"
    expected = ["latent"] if isinstance(transformer, CrossModalVAE) else ["image", "text", "audio"]
    assert list(find_blocks(names)) == (["common"] if common else expected)


@by_repr
def test_saved_and_loaded_it_gives_the_same(transformer, tmp_path):
    X, y = gappy()
    model = fitted(transformer, X, y)
    assert_array_equal(load_model(save_model(model, tmp_path / "model")).transform(X), model.transform(X))
    assert_array_equal(pickle.loads(pickle.dumps(model)).transform(X), model.transform(X))


@by_repr
def test_float32_stays_and_X_is_not_changed(transformer):
    X, y = gappy()
    transformer = clone(transformer).set_params(blocks=find_blocks(X.columns))
    for table in (X.astype(np.float32), X.to_numpy(np.float32, copy=True)):
        before = table.copy()
        assert fitted(transformer, table, y).transform(table).dtype == np.float32
        assert_array_equal(np.asarray(table), np.asarray(before))


def test_modality_dropout_keeps_what_applies_of_the_contract():
    name, model = "ModalityDropout", ModalityDropout(0.5, n_copies=1, blocks={"a": [0]}, random_state=3)
    copy = clone(model)
    assert copy.get_params() == model.get_params() and copy is not model
    assert copy.set_params(rate=0.1).rate == 0.1
    for check in (
        "check_parameters_default_constructible",
        "check_get_params_invariance",
        "check_set_params",
        "check_no_attributes_set_in_init",
    ):
        getattr(estimator_checks, check)(name, ModalityDropout())
    X = np.ones((4, 1))
    model.fit_resample(X, np.arange(4))
    assert model.n_features_in_ == 1 and pickle.loads(pickle.dumps(model)).sample_indices_.tolist() == [*range(4)] * 2
