"""Networks on series and on sounds: unequal lengths, shifts, channels, bad cells, files, the house."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils import estimator_checks

from ensemblefuse import (
    AudioNetworkClassifier,
    AudioNetworkRegressor,
    DecisionFusionClassifier,
    EncodingError,
    FineTunedEncoder,
    MissingModalityWarning,
    SeriesNetworkClassifier,
    SeriesNetworkRegressor,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.networks._sound_reader import spec_augmented

SMALL = {"n_members": 1, "max_epochs": 2, "random_state": 0}
KINDS = [SeriesNetworkClassifier, SeriesNetworkRegressor, AudioNetworkClassifier, AudioNetworkRegressor]


def waves(n=24, seed=0):
    """Noisy waves of two channels and 20 to 40 samples, slow and fast ones."""
    rng = np.random.default_rng(seed)
    y = np.array(["slow", "fast"])[np.arange(n) % 2]
    speeds = np.where(y == "slow", 0.3, 1.5)
    times = [np.arange(rng.integers(20, 40)) for _ in y]
    cells = [np.stack([np.sin(rng.uniform(0, 6) + t * s), t + 0.0]) for t, s in zip(times, speeds, strict=True)]
    return [cell + 0.1 * rng.normal(size=cell.shape) for cell in cells], y


def tones(n=16, seed=0):
    """Tones of an eighth to a fifth of a second, low and high ones."""
    rng = np.random.default_rng(seed)
    y = np.array(["low", "high"])[np.arange(n) % 2]
    pitches = np.where(y == "low", 300.0, 2000.0) * rng.uniform(0.8, 1.2, size=n)
    return [np.sin(2 * np.pi * pitch * np.arange(rng.integers(2000, 3200)) / 16000) for pitch in pitches], y


CASES = [(SeriesNetworkClassifier, waves()), (AudioNetworkClassifier, tones())]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "check",
    ["check_parameters_default_constructible", "check_no_attributes_set_in_init", "check_get_params_invariance"],
)
def test_checks_of_scikit_learn_that_ask_for_no_table(kind, check):
    """Those that do are run on the base of these classes: see test_cell_networks."""
    getattr(estimator_checks, check)(kind.__name__, kind())


@pytest.mark.parametrize(("kind", "data"), CASES)
def test_a_row_does_not_depend_on_the_lengths_beside_it(kind, data):
    cells, y = data
    model = kind(**{**SMALL, "max_epochs": 5}).fit(cells, y)
    assert model.score(cells, y) > 0.9
    alone = np.vstack([model.predict_proba([cell]) for cell in cells])
    longer = np.concatenate([cells[0]] * 3, axis=-1)
    assert_allclose(model.predict_proba([*cells, longer])[:-1], alone, rtol=0, atol=1e-12)


def test_a_series_that_is_shifted_in_a_circle_has_the_same_prediction():
    cells, y = waves()
    model = SeriesNetworkClassifier(**SMALL).fit(cells, y)
    shifted = [np.roll(cell, 7, axis=1) for cell in cells]
    assert_allclose(model.transform(shifted), model.transform(cells), rtol=0, atol=1e-10)
    assert not np.allclose(model.transform([cells[0][:, ::-1]]), model.transform([cells[0]]))


def test_units_of_channels_and_gaps():
    cells, y = waves()
    model = SeriesNetworkClassifier(augment="none", **SMALL).fit(cells, y)
    large = [cell * np.array([[1e200], [1e-3]]) + 5.0 for cell in cells]
    assert_allclose(clone(model).fit(large, y).predict_proba(large), model.predict_proba(cells), atol=1e-4)
    gap = cells[0].copy()
    gap[0, 3] = np.nan
    with pytest.raises(EncodingError, match=r"1 of its .* values are NaN or infinite"):
        model.predict([gap])
    assert clone(model).set_params(gaps="interpolate").fit([gap, *cells[1:]], y).predict([gap]).shape == (1,)
    short = clone(model).set_params(max_length=10).fit(cells, y)
    assert 5 < short._reader().load(cells[0]).shape[1] <= 10


def test_columns_of_numbers_are_series():
    rng = np.random.default_rng(0)
    y = np.arange(24) % 2
    table = pd.DataFrame(np.sin(np.arange(20) * np.where(y, 1.5, 0.3)[:, None]) + 0.1 * rng.normal(size=(24, 20)))
    table.columns = [f"t{i}" for i in range(20)]
    table.iloc[3] = np.nan
    model = SeriesNetworkClassifier(**SMALL).fit(table, y)
    assert_array_equal(model.predict_proba(table)[3], model.prior_)


def test_numbers_are_learned():
    heights = np.linspace(1, 3, 24)
    cells = [height * np.sin(np.arange(30) * 0.5) for height in heights]
    assert (
        SeriesNetworkRegressor(augment="none", **{**SMALL, "max_epochs": 5}).fit(cells, heights).score(cells, heights)
        > 0.9
    )


@pytest.mark.parametrize(
    ("kind", "data", "bad", "reason"),
    [
        (*CASES[0], np.zeros((3, 9)), "the number of channels is 3, and it is 2 in the first series"),
        (*CASES[0], "wave", "expected a series of numbers, got str"),
        (*CASES[1], "gone.wav", "no such file"),
    ],
)
def test_bad_cells_are_told_by_row_and_column_or_become_missing(kind, data, bad, reason):
    cells, y = data
    table = pd.DataFrame({"cell": pd.Series(list(cells), dtype=object)}).set_axis([f"r{i}" for i in range(len(y))])
    table.at["r3", "cell"] = bad
    model = kind(**SMALL)
    with pytest.raises(EncodingError, match=rf"1 of {len(y)} cells:\n.*row 'r3'.*'cell'.*{reason}"):
        model.fit(table, y)
    lenient = clone(model).set_params(on_error="missing")
    with pytest.warns(MissingModalityWarning, match="cells as missing"):
        lenient.fit(table, y)
    with pytest.warns(MissingModalityWarning):
        assert_array_equal(lenient.predict_proba(table.iloc[[3]])[0], lenient.prior_)


@pytest.mark.parametrize(("kind", "data"), CASES)
def test_files_and_the_house(kind, data, tmp_path):
    cells, y = data
    model = kind(**SMALL).fit(cells, y)
    table = pd.DataFrame({"cell": pd.Series(list(cells), dtype=object), "price": np.arange(float(len(y)))})
    path = save_model(model, tmp_path / "m.fuse")
    assert_array_equal(load_model(path).predict_proba(cells), model.predict_proba(cells))
    modalities = [("cell", "passthrough", ["cell"]), ("tabular", "passthrough", ["price"])]
    estimators = {"cell": kind(**SMALL), "tabular": LogisticRegression()}
    fused = make_fusion_pipeline(modalities, DecisionFusionClassifier(estimators, joint=False, cv=3)).fit(table, y)
    assert fused["fuse"].member_names_ == ["cell", "tabular"] and fused.predict(table).shape == y.shape


def test_parts_of_a_spectrogram_are_set_to_its_mean():
    plain = np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32)
    made = [spec_augmented(plain, np.random.default_rng(seed), "strong") for seed in range(30)]
    hidden = [np.mean(one == plain.mean()) for one in made]
    assert 0.05 < np.mean(hidden) < 0.6 and max(hidden) > 0.1
    assert_array_equal(made[0], spec_augmented(plain, np.random.default_rng(0), "strong"))


def test_sounds_that_are_cut_are_counted():
    sounds, y = tones()
    model = AudioNetworkClassifier(max_seconds=0.9 * min(map(len, sounds)) / 16000, **SMALL)
    with pytest.warns(
        UserWarning, match=rf"cut {len(y)} cells of column '.*' at max_seconds=.*rest of them is ignored"
    ):
        model.fit(sounds, y)


def test_a_trained_network_encodes_the_rows_of_a_group_of_numbers():
    rows = np.random.default_rng(0).normal(size=(16, 12))
    network = SeriesNetworkClassifier(n_members=1, max_epochs=1).fit(pd.DataFrame(rows[:12]), [0, 1] * 6)
    others = pd.DataFrame(rows[12:])
    assert_allclose(FineTunedEncoder(network).fit_transform(others), network.transform(others), atol=1e-5)
    with pytest.raises(ValueError, match="was trained on 12 of the 16 cells"):
        FineTunedEncoder(network).fit(pd.DataFrame(rows))
