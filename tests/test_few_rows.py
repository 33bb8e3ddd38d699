"""Members asked for few rows give the numbers that scikit-learn's own methods give, to the last bit."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FunctionEncoder,
    TextEncoder,
    infer_modalities,
    make_fusion_pipeline,
)
from ensemblefuse.compose._modality_transformer import _block
from ensemblefuse.features import few_rows
from ensemblefuse.features.word_features import count_terms
from ensemblefuse.fusion._block_preparation import make_preparation
from ensemblefuse.fusion._default_heads import default_search
from ensemblefuse.fusion._default_trees import forest_search, joint_trees, tree_search
from ensemblefuse.fusion._default_words import words_search
from ensemblefuse.fusion._log_target import LogTargetRegressor, on_both_scales
from ensemblefuse.fusion.members import Member, fit_one, member_scores

WIDTH, ROWS = 12, 260


class LengthEncoder(TextEncoder):
    """An encoder of texts without a network, whose words are read too."""

    def prepare(self):
        pass

    def load(self, cell):
        return cell

    def encode_batch(self, items):
        return np.array([[len(text), text.count("e")] for text in items], dtype=np.float32)

    def recipe(self):
        return None

    def weights_sources(self):
        return []


def _data(n_classes, dtype, gaps=False, width=WIDTH):
    rng = np.random.default_rng(0)
    code = rng.integers(0, n_classes or 3, ROWS)
    X = (rng.normal(size=(ROWS, width)) + code[:, None] * rng.normal(size=width)).astype(dtype)
    if gaps:
        X[::7, :4] = np.nan
        X[3::11, 4:] = np.nan
        X[~np.isfinite(X).any(axis=1), :4] = 0.5
    return X, (code if n_classes else np.exp(code + rng.normal(size=ROWS)))


def _searches(n_classes, large):
    """The default candidates of a block, as few rows get them and as many rows get them."""
    shape = (100_000, WIDTH) if large else (ROWS, WIDTH)
    search = default_search(WIDTH, shape, n_classes)
    for head in search.heads if large else ():
        if hasattr(head, "steps"):
            head.steps[0][1].n_components = 100
    return search


def _fitted(search, X, y, n_classes):
    """Every candidate of a member, fitted; the first 200 rows."""
    member = Member("a", search, X, np.ones(ROWS, dtype=bool))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = fit_one(
            member, range(len(search.heads)), y, None, np.arange(200), np.arange(0), [str(i) for i in range(n_classes)]
        )
    return fit.estimators, fit.classes, search.by_value


def _plainly(monkeypatch, ask):
    with monkeypatch.context() as patch:
        patch.setattr(few_rows, "_MOST_ROWS", 0)
        return ask()


def _check_equal(monkeypatch, fits, X, n_classes):
    estimators, classes, by_value = fits
    for estimator in estimators:
        for rows in (X[200:201], X[201:203], X[200:217], X[:64], X[:150]):
            both = (rows,) if not isinstance(rows, np.ndarray) else (rows, np.asfortranarray(rows))
            for table in both:
                ask = lambda e=estimator, t=table: member_scores(e, classes, t, n_classes, by_value)
                lean, plain = ask(), _plainly(monkeypatch, ask)
                assert lean.dtype == plain.dtype
                np.testing.assert_array_equal(lean, plain, err_msg=repr(estimator))


def _refuse(*args, **kwargs):
    raise AssertionError("asked in the slow way")


@pytest.mark.by_turns
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("n_classes", [0, 2, 3])
def test_heads_of_a_block(monkeypatch, n_classes, large, dtype):
    X, y = _data(n_classes, dtype)
    search = _searches(n_classes, large)
    search = search if n_classes else on_both_scales(search, y, None)
    fits = _fitted(search, X, y, n_classes)
    assert n_classes or any(isinstance(fit.steps[-1][1], LogTargetRegressor) for fit in fits[0])
    _check_equal(monkeypatch, fits, X, n_classes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [0, 2, 3])
def test_trees_and_words(monkeypatch, n_classes, dtype):
    X, y = _data(n_classes, dtype, gaps=True)
    trees = tree_search(WIDTH, n_classes)
    _check_equal(monkeypatch, _fitted(trees, X, y, n_classes), X, n_classes)
    if not n_classes:
        _check_equal(monkeypatch, _fitted(forest_search(ROWS, 0, trees), X, y, 0), X, 0)
    counts = count_terms([f"red bird {int(number) % 5} {'old' if number > 1 else 'new'}" for number in y])
    _check_equal(monkeypatch, _fitted(words_search(n_classes), counts, y, n_classes), counts, n_classes)


@pytest.mark.by_turns
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [0, 3])
def test_joint_members_with_missing_blocks(monkeypatch, n_classes, dtype):
    X, y = _data(n_classes, dtype, gaps=True)
    spans = {"a": np.arange(4), "b": np.arange(4, WIDTH)}
    search = default_search(WIDTH / 2, X.shape, n_classes, prepare=make_preparation(spans))
    _check_equal(monkeypatch, _fitted(search, X, y, n_classes), X, n_classes)
    exact = X.astype(np.float64)
    _check_equal(monkeypatch, _fitted(joint_trees(spans, ["a"], n_classes), exact, y, n_classes), exact, n_classes)
    _check_equal(monkeypatch, _fitted(joint_trees(spans, ["a"], n_classes), exact, y, n_classes), X, n_classes)


def test_components_of_a_wide_kernel_come_in_the_same_chunks(monkeypatch):
    X, y = _data(3, np.float32, width=6000)
    search = _searches(3, True)
    search.heads = [head for head in search.heads if hasattr(head, "steps")]
    fits = _fitted(search, X, y, 3)
    kernel = fits[0][0].steps[1][1].steps[0][1]
    _check_equal(monkeypatch, fits, X, 3)
    assert len(few_rows._chunks_of(kernel, 1)) == 1
    monkeypatch.setattr(few_rows, "_chunk_size", lambda *shape: 30)
    assert [len(rows) for _, rows, _ in few_rows._chunks_of(kernel, 1)] == [30, 30, 30, 10]


def test_the_lean_way_is_taken(monkeypatch):
    """Otherwise the tests above would compare scikit-learn with itself."""
    X, y = _data(3, np.float32)
    fits = [fit for large in (False, True) for fit in _fitted(_searches(3, large), X, y, 3)[0]]
    prices = np.exp(X[:, 0].astype(float))
    searches = [_searches(0, False), _searches(0, True), forest_search(ROWS, 0, tree_search(WIDTH, 0))]
    values = [fit for search in searches for fit in _fitted(search, X, prices, 0)[0]]
    monkeypatch.setattr("sklearn.utils.validation._check_n_features", _refuse)
    for part in (StandardScaler, SimpleImputer, LogisticRegression, Ridge):
        with pytest.raises(AssertionError, match="slow way"):
            part().fit(X[:, :1], y)
    for fit in fits:
        member_scores(fit, np.arange(3), X[:1], 3, True)
    for fit in values:
        member_scores(fit, np.empty(0), X[:1], 0)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused_as_before(wrong):
    X, y = _data(3, np.float64)
    for fit in _fitted(_searches(3, True), X, y, 3)[0]:
        row = X[:1].copy()
        row[0, 2] = wrong
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            member_scores(fit, np.arange(3), row, 3, True)


def test_settings_that_change_what_a_step_returns_are_kept(monkeypatch):
    X, y = _data(3, np.float64, gaps=True)
    filled = np.nan_to_num(X)
    named = pd.DataFrame(filled, columns=[f"c{i}" for i in range(WIDTH)])
    with_names = FrozenEstimator(make_pipeline(StandardScaler(), LogisticRegression()).fit(named, y))
    with pytest.warns(UserWarning, match="feature names"):
        few_rows.transform(with_names.estimator.steps[0][1], filled[:1])
    steps = [
        StandardScaler(with_mean=False).fit(X),
        StandardScaler(with_std=False).fit(X),
        SimpleImputer(add_indicator=True, strategy="median").fit(X),
        SimpleImputer(missing_values=0.5, keep_empty_features=True).fit(filled),
        FunctionTransformer(np.arcsinh).fit(X),
        ColumnTransformer([("a", "passthrough", np.arange(2)), ("b", SimpleImputer(), np.arange(2, 5))]).fit(X),
        ColumnTransformer([("a", "drop", [0]), ("b", StandardScaler(), slice(2, 5))]).fit(X),
    ]
    for step in steps:
        table = filled if step is steps[3] else X
        for rows in (table[:1], table[:9], np.asfortranarray(table[:9])):
            ask = lambda s=step, r=rows: s.transform(r.copy(order="K"))
            found = few_rows.transform(step, rows)
            np.testing.assert_array_equal(found, ask())
            assert found.flags.f_contiguous == ask().flags.f_contiguous or len(rows) == 1
    before = X[:1].copy()
    few_rows.transform(steps[2], X[:1])
    np.testing.assert_array_equal(X[:1], before)


def _shop(n=240):
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, n)
    texts = np.array(["red bird", "old cat", "new fox"], dtype=object)[y]
    X = pd.DataFrame(
        {
            "title": [f"{text} number {i % 9}" for i, text in enumerate(texts)],
            "sound": list((rng.normal(size=(n, 8)) + y[:, None]).astype(np.float32)),
            "price": rng.normal(size=n) + y,
            "size": rng.integers(0, 9, n),
            "brand": rng.choice(["a", "b", "c"], n),
            "sold": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 500, n), "D"),
        }
    )
    X["title"] = X["title"].astype(object).mask(rng.random(n) < 0.1, None)
    X["sound"] = X["sound"].mask(rng.random(n) < 0.1, None)
    X.loc[rng.random(n) < 0.1, "price"] = np.nan
    return X, y


@pytest.mark.by_turns
@pytest.mark.parametrize("kind", [DecisionFusionClassifier, DecisionFusionRegressor])
def test_whole_model_row_by_row(monkeypatch, kind):
    X, y = _shop()
    table = next(m for m in infer_modalities(X[["price", "size", "brand", "sold"]], verbose=False))
    modalities = [
        ("text", LengthEncoder(), "title"),
        ("sound", FunctionEncoder(lambda cell: cell), "sound"),
        table,
    ]
    model = make_fusion_pipeline(modalities, kind(cv=2)).fit(X, y if kind._classify else np.exp(y + X["size"] / 9))
    assert {"tabular/trees", "joint", "joint/trees"} & set(model[-1].member_names_) >= {"tabular/trees", "joint"}
    ask = model.predict_proba if kind._classify else model.predict
    empty = X.iloc[:1].assign(title=None, sound=None)
    for rows in (*(X.iloc[[i]] for i in range(25)), empty, X.iloc[:40]):
        encoded, plain = model[:-1].transform(rows), _plainly(monkeypatch, lambda r=rows: model[:-1].transform(r))
        pd.testing.assert_frame_equal(encoded, plain, check_exact=True)
        np.testing.assert_array_equal(ask(rows), _plainly(monkeypatch, lambda r=rows: ask(r)))


def test_a_table_keeps_its_memory_layout():
    """Sums over rows that lie otherwise in memory may differ in the last bit."""
    X, _ = _shop()
    table = next(m for m in infer_modalities(X[["price", "size", "brand", "sold"]], verbose=False))
    encode = make_fusion_pipeline([table])[0].fit(X)
    _, fitted, columns = encode.transformers_[0]
    for rows in (X[columns].iloc[:1], X[columns].iloc[:9], X[columns]):
        ours, theirs = _block(fitted, rows).to_numpy(), fitted.transform(rows).to_numpy()
        np.testing.assert_array_equal(ours, theirs)
        assert ours.strides == theirs.strides


def test_blocks_of_one_row_are_those_of_two(monkeypatch):
    """One row of blocks of single and double precision is read by a way of its own."""
    X, y = _shop()
    wide = np.stack([np.zeros(8, np.float32) if cell is None else cell for cell in X["sound"]])
    frame = pd.DataFrame(wide, columns=[f"sound__{i}" for i in range(8)])
    frame["sound__words"] = X["title"]
    frame["table__price"] = X["price"].fillna(0.0)
    frame["table__size"] = X["size"].astype(float)
    frame = frame[[*[c for c in frame if c != "sound__words"], "sound__words"]]
    fusion = DecisionFusionClassifier(cv=2).fit(frame, y)
    one, two = fusion._read(frame.iloc[[5]], reset=False), fusion._read(frame.iloc[[5, 6]], reset=False)
    for name, block in one.data.items():
        assert block.dtype == two.data[name].dtype
        np.testing.assert_array_equal(block, two.data[name][:1])
    np.testing.assert_array_equal(one.present, two.present[:, :1])


def test_names_with_texts_are_one_object_a_model():
    X, y = _shop(60)
    model = make_fusion_pipeline([("text", LengthEncoder(), "title"), ("sound", FunctionEncoder(lambda c: c), "sound")])
    model.fit(X, y)
    first, again = model[:-1].transform(X.iloc[:1]), model[:-1].transform(X.iloc[5:9])
    assert first.columns.is_(again.columns)
    assert list(first.columns) == list(model[0].get_feature_names_out())
    assert first.columns[-1] == "text__words"
    model[0].word_columns_ = {}
    assert "text__words" not in model[:-1].transform(X.iloc[:1]).columns
