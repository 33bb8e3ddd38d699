"""The leak canary: its bounds, what it takes, and what it says. What it finds stands in test_leakage.py."""

import numpy as np
import pandas as pd
import polars
import pytest
import sklearn
from scipy import stats
from sklearn.cluster import KMeans
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, RepeatedKFold
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from ensemblefuse import BaseEncoder, DecisionFusionClassifier, FeatureFusionClassifier, make_fusion_pipeline
from ensemblefuse.testing import (
    _equal_rows,
    _highest_accuracy,
    _highest_r2,
    check_encoder,
    check_fusion,
    check_no_leakage,
)

NOISE = pd.DataFrame(np.random.default_rng(0).normal(size=(120, 3)), columns=["a__0", "a__1", "b__0"])
CODES = np.arange(120) % 3


@pytest.mark.parametrize("chance", [0.05, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("guesses", [100, 400, 3000])
def test_fair_guesses_pass_the_bound_of_the_accuracy_less_than_once_in_ten_thousand_runs(chance, guesses):
    bound = _highest_accuracy(chance, np.log(1e4) / guesses)
    if bound == 1:
        assert chance**guesses > 1e-5  # even all hits would be no proof
        return
    assert stats.binom.sf(np.floor(bound * guesses), guesses, chance) < 1e-4
    exact = stats.binom.isf(1e-4, guesses, chance) / guesses
    assert bound - chance < 1.5 * (exact - chance)


def test_predictions_of_any_boldness_pass_the_bound_of_r2_less_than_once_in_ten_thousand_runs():
    n = 200
    heads = np.arange(n + 1)
    worst = 0
    for c in np.linspace(0.01, 1, 100):
        # n targets of -1 or 1, all predicted as c: how many are 1 alone decides.
        r2 = (n - heads * (1 - c) ** 2 - (n - heads) * (1 + c) ** 2) / n
        worst = max(worst, stats.binom.pmf(heads, n, 0.5)[r2 > _highest_r2(np.log(1e4) / n)].sum())
    assert 1e-6 < worst < 1e-4


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "y",
    [
        np.array(["cat", "dog", "elk"])[CODES],
        ["cat", "dog", "elk"] * 40,
        CODES,
        CODES > 1,
        pd.Series(CODES, index=np.arange(120)[::-1]),
        pd.Series(["cat", "dog", "elk"] * 40, dtype="category"),
        CODES.astype(float),
    ],
    ids=["strings", "list", "ints", "bools", "Series", "category", "floats"],
)
def test_labels_of_any_type(y):
    model = DecisionFusionClassifier(DecisionTreeClassifier(max_depth=2), joint=False, cv=2)
    assert len(check_no_leakage(model, NOISE, y)) == 4


@pytest.mark.parametrize(
    "X",
    [NOISE, NOISE.to_numpy(), polars.from_pandas(NOISE), {c: NOISE[c].tolist() for c in NOISE}],
    ids=["pandas", "array", "polars", "dict"],
)
@pytest.mark.parametrize("cv", [2, RepeatedKFold(n_splits=2, n_repeats=2, random_state=0)], ids=["number", "repeated"])
def test_tables_of_any_kind_and_repeated_folds(X, cv):
    assert check_no_leakage(DecisionTreeRegressor(), X, np.arange(120.0), cv=cv, n_draws=1) == ["cross_validation"]


@pytest.mark.parametrize("strategy", ["most_frequent", "prior", "stratified", "uniform"])
def test_models_that_know_only_frequencies_pass(strategy):
    rare = np.r_[np.zeros(117, dtype=int), 1, 1, 1]
    assert check_no_leakage(DummyClassifier(strategy=strategy, random_state=0), NOISE, rare) == ["cross_validation"]
    assert check_no_leakage(DummyRegressor(), NOISE, rare) == ["cross_validation"]


class Eavesdropper(DummyClassifier):
    """Takes groups and tells which it was given."""

    heard: list = []

    def fit(self, X, y, sample_weight=None, groups=None):
        self.heard.append((len(y), groups, y))
        return super().fit(X, y)


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_groups_share_a_label_stay_together_and_reach_the_model(routing, inside):
    Eavesdropper.heard.clear()
    groups = np.array([f"group {i}" for i in np.arange(120) % 40])
    model = Eavesdropper()
    if inside:
        model = make_fusion_pipeline([("a", "passthrough", ["a__0"])], model)
    with sklearn.config_context(enable_metadata_routing=routing):
        check_no_leakage(model, NOISE, CODES, groups, cv=GroupKFold(2))
    assert [n for n, _, _ in Eavesdropper.heard] == [120, 60, 60] * 2
    for _, given, y in Eavesdropper.heard:
        assert pd.Series(y).groupby(np.asarray(given)).agg(["nunique", "size"]).eq([1, 3]).all(axis=None)


def test_equal_rows_are_found_among_cells_of_any_kind_and_empty_rows_are_their_own():
    array = np.arange(4.0)
    X = pd.DataFrame({"n": [1.0, 1.0, np.nan, np.nan, 1.0], "s": ["a", "a", None, None, "b"]})
    X["o"] = [array, array + 0, None, None, array]
    a, b, c, d, e = _equal_rows(X)
    assert a == b and len({a, c, d, e}) == 4
    assert sorted({a, c, d, e}) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "model, X, y, groups, error, message",
    [
        (DecisionTreeClassifier(), NOISE[:12], CODES[:12] > 1, None, ValueError, "more rows or a greater n_draws"),
        (DecisionTreeRegressor(), NOISE, np.ones(120), None, ValueError, "y is 1.0 in every row"),
        (DecisionTreeClassifier(), NOISE, np.arange(120) / 7, None, ValueError, "continuous"),
        (DecisionTreeClassifier(), NOISE, None, None, ValueError, "y is None"),
        (DecisionTreeClassifier(), NOISE, CODES, CODES[:5], ValueError, "groups has 5 values for the 120 rows"),
        (DecisionTreeClassifier(), NOISE, CODES, CODES, ValueError, "in groups of up to 40"),
        (KMeans(), NOISE, CODES, None, TypeError, "must be a classifier or a regressor"),
    ],
)
def test_what_cannot_be_checked_is_refused_with_a_way_out(model, X, y, groups, error, message):
    with pytest.raises(error, match=message):
        check_no_leakage(model, X, y, groups)


def test_the_same_seed_gives_the_same_figures():
    leaky = lambda y: NOISE.assign(c=y + NOISE["b__0"])

    def message(seed):
        with pytest.raises(AssertionError, match=r"^cross_validation") as caught:
            check_no_leakage(LogisticRegression(), leaky, CODES, random_state=seed)
        return str(caught.value)

    assert message(0) == message(0) != message(1)


@pytest.mark.by_turns
@pytest.mark.parametrize("seed", [0, 1, 42])
def test_a_table_of_the_same_seed_as_the_canarys_is_no_leak(seed):
    """An author draws labels, and then columns that tell them, from the seed that the canary uses by default."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, 240)
    X = pd.DataFrame({f"{b}__{i}": 2 * (y == i) + rng.normal(size=240) for b in ("a", "b") for i in range(3)})
    model = DecisionFusionClassifier(LogisticRegression(), joint=False, cv=2)
    check_no_leakage(model, X, np.array(["a", "b", "c"])[y], random_state=seed)


class Plain(BaseEncoder):
    """Length of a text, with one fault."""

    def __init__(self, batch_size=32, on_error="raise"):
        self.batch_size = batch_size
        self.on_error = on_error

    def encode_batch(self, items):
        return np.array([[len(item), 1.0] for item in items])


class Random(Plain):
    def encode_batch(self, items):
        return super().encode_batch(items) + np.random.default_rng().normal(size=(len(items), 2))


class Centred(Plain):
    def encode_batch(self, items):
        return super().encode_batch(items) - np.mean([len(item) for item in items])


class Silent(Plain):
    def fit(self, X, y=None):
        super().fit(X, y)


class Broken(Plain):
    def transform(self, X):
        if len(X) == 1:
            raise RuntimeError("one row is not enough")
        return super().transform(X)


@pytest.mark.parametrize(
    "encoder, name",
    [
        (Random(), "check_fit_and_transform: two calls of transform on the same rows differ"),
        (Silent(), "check_fit_and_transform: fit must return the encoder itself"),
        (Centred(), "check_fit_does_not_learn_from_rows|check_subset"),
        (Broken(), "check_subset: RuntimeError: one row is not enough"),
        (Plain(batch_size=0), "check_fit_and_transform: ValueError: batch_size"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_check_that_an_encoder_fails_is_named(encoder, name):
    with pytest.raises(AssertionError, match=f"{type(encoder).__name__} fails ({name})"):
        check_encoder(encoder, {"title": ["a cat", "two big dogs", "owl", "a red fox"]})


class Faulty(DecisionFusionClassifier):
    def fit(self, X, y, sample_weight=None, groups=None):
        return super().fit(X, y)


class Shuffled(Faulty):
    def fit(self, X, y, sample_weight=None, groups=None):
        return super().fit(X, np.random.default_rng().permutation(y))


class NeedsAll(DecisionFusionClassifier):
    def predict(self, X):
        if pd.isna(X).any(axis=None):
            raise RuntimeError("no gaps please")
        return super().predict(X)


class Nothing(DecisionFusionClassifier):
    def fit(self, X, y, sample_weight=None, groups=None):
        super().fit(X, y, sample_weight, groups)


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "fusion, name",
    [
        (Shuffled, "check_fit_and_predict: accuracy .* chance is 0.33|check_repeatable"),
        (Nothing, "check_fit_and_predict: fit must return the fusion itself"),
        (NeedsAll, "check_missing_block: RuntimeError: no gaps please"),
        (Faulty, "check_weights_reach_the_fit"),
    ],
)
def test_the_check_that_a_fusion_fails_is_named(fusion, name):
    with pytest.raises(AssertionError, match=f"{fusion.__name__} fails ({name})"):
        check_fusion(fusion(LogisticRegression(), cv=2))


class FirstBlock(LogisticRegression):
    """Reads whatever stands in the first four columns."""

    def fit(self, X, y, sample_weight=None):
        return super().fit(np.nan_to_num(X.to_numpy()[:, :4]), y, sample_weight=sample_weight)

    def predict_proba(self, X):
        return super().predict_proba(np.nan_to_num(X.to_numpy()[:, :4]))

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def test_an_order_of_blocks_that_matters_is_told():
    with pytest.raises(AssertionError, match="FirstBlock fails check_blocks_in_any_order"):
        check_fusion(FirstBlock())


def test_two_fits_that_differ_are_not_told_as_an_order_of_blocks():
    forest = RandomForestClassifier(2, max_features=1)
    with pytest.raises(AssertionError, match="fails check_repeatable"):
        check_fusion(FeatureFusionClassifier(forest))
