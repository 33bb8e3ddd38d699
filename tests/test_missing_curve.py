"""What happens when modalities go missing: what is drawn, what it costs the score, and that nothing is fitted."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, log_loss

from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FunctionEncoder,
    MissingModalityCurveDisplay,
    config_context,
    make_fusion_pipeline,
    missing_modality_curve,
    simulate_missing,
)

HEAD = LogisticRegression()


@pytest.fixture(scope="module")
def data():
    """Two modalities that carry the label, and one of noise."""
    X, y = make_blocks(150, widths={"image": 6, "text": 4})
    noise = np.random.default_rng(1).normal(size=(150, 3))
    return X.assign(**{f"noise__{i}": noise[:, i] for i in range(3)}), y


@pytest.fixture(scope="module")
def fitted(data):
    return DecisionFusionClassifier(HEAD, cv=3).fit(*data)


@pytest.fixture(scope="module")
def curve(fitted):
    return missing_modality_curve(fitted, rates=(0, 0.3, 0.6, 1))


def part_of(curve, mechanism, modality="any"):
    return curve.table.query("mechanism == @mechanism and modality == @modality").set_index("rate")


# ---------------------------------------------------------------------- what is drawn

EVERY = np.ones((3, 4000), dtype=bool)


@pytest.mark.parametrize("rate", [0, 0.02, 0.3, 0.5, 0.9, 1])
@pytest.mark.parametrize("mechanism", ["random", "by_value", "column"])
def test_the_rate_is_the_mean_share_of_each_modality(mechanism, rate):
    kept = simulate_missing(EVERY, rate, mechanism, values=np.arange(4000))
    tolerance = 0 if mechanism == "column" or rate in (0, 1) else 4 * np.sqrt(rate * (1 - rate) / 4000)
    assert_allclose(1 - kept.mean(axis=1), rate, atol=tolerance + 1e-12)


def test_at_random_modalities_go_independently_of_each_other():
    kept = simulate_missing(EVERY, 0.4, "random")
    assert (~kept).all(axis=0).mean() == pytest.approx(0.4**3, abs=0.015)


def test_by_value_the_largest_go_first_and_equal_ones_are_equally_likely():
    values = np.random.default_rng(0).permutation(4000)
    lost = ~simulate_missing(EVERY, 0.3, "by_value", values=values)
    by_rank = lost[:, np.argsort(values)].reshape(3, 4, 1000).mean(axis=(0, 2))
    assert (np.diff(by_rank) > 0).all()
    assert by_rank[0] < 0.1 and by_rank[-1] > 0.65
    ties = ~simulate_missing(EVERY, 0.3, "by_value", values=np.arange(4000) >= 2000)
    halves = ties.reshape(3, 2, 2, 1000).mean(axis=(0, 3))
    assert_allclose(halves[1, 0], halves[1, 1], atol=0.04)
    assert_allclose(ties.mean(), 0.3, atol=0.02)


def test_what_goes_at_one_rate_is_gone_at_every_higher_rate():
    for mechanism in ("random", "by_value", "column"):
        kept = [simulate_missing(EVERY, rate, mechanism, values=np.arange(4000)) for rate in (0.1, 0.3, 0.5, 0.9)]
        for more, fewer in pairwise(kept):
            assert not (fewer & ~more).any()


def test_what_a_row_never_held_stays_missing_and_does_not_count():
    present = EVERY.copy()
    present[0, :3000] = False
    kept = simulate_missing(present, 0.5, "column", modalities=[0])
    assert kept[0].sum() == 500 and not kept[0, :3000].any()
    assert kept[1:].all()
    assert present[0].sum() == 1000  # the caller's array is untouched


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"rate": 1.5}, "shares from 0 to 1; got \\[1.5\\]"),
        ({"rate": np.nan}, "shares from 0 to 1"),
        ({"mechanism": "burned"}, "mechanisms must be among .*burned"),
        ({"mechanism": "by_value"}, "needs values"),
        ({"mechanism": "by_value", "values": [1.0]}, "4000 finite numbers, one per row; got shape \\(1,\\)"),
        ({"mechanism": "by_value", "values": np.full(4000, np.nan)}, "NaN or infinite"),
        ({"present": [True]}, "shape \\(n_modalities, n_rows\\)"),
    ],
)
def test_a_wrong_draw_says_what_is_wanted(params, message):
    with pytest.raises(ValueError, match=message):
        simulate_missing(**{"present": EVERY, "rate": 0.5, **params})


# ---------------------------------------------------------------------- what it costs


def test_there_is_a_curve_for_each_mechanism_and_for_each_column(curve):
    labels = curve.table[["mechanism", "modality"]].drop_duplicates().to_numpy().tolist()
    columns = [["column", name] for name in ("image", "text", "noise")]
    assert labels == [["random", "any"], ["by_value", "any"], *columns]
    assert len(curve.table) == 5 * 4


def test_at_rate_0_every_curve_has_the_complete_score(curve, fitted, data):
    assert curve.table.query("rate == 0")["score"].nunique() == 1
    new = missing_modality_curve(fitted, *data, rates=[0], n_repeats=1)
    assert_allclose(new.table["score"], -log_loss(data[1], fitted.predict_proba(data[0])))


def test_at_rate_1_of_all_the_answer_is_the_prior(curve):
    for mechanism in ("random", "by_value"):
        assert part_of(curve, mechanism).loc[1, "score"] == pytest.approx(curve.prior_score)
        assert part_of(curve, mechanism).loc[1, "share_empty"] == 1
    assert curve.prior_score == pytest.approx(-np.log(3), abs=0.05)


def test_at_rate_1_of_a_column_the_score_is_that_without_the_modality(fitted, data):
    X, y = data
    curve = missing_modality_curve(fitted, X, y, rates=[1], mechanisms="column", metric="accuracy")
    hidden = X.copy()
    hidden[[c for c in X if c.startswith("image")]] = np.nan
    assert part_of(curve, "column", "image").loc[1, "score"] == accuracy_score(y, fitted.predict(hidden))


def test_between_them_rows_answer_with_what_they_still_hold(fitted, data):
    """The same as hiding the drawn cells from the model, one draw."""
    X, y = data
    curve = missing_modality_curve(fitted, X, y, rates=[0.5], mechanisms="random", n_repeats=1, random_state=3)
    seed = np.random.RandomState(3).randint(np.iinfo(np.int32).max)
    kept = simulate_missing(np.ones((3, len(X)), dtype=bool), 0.5, "random", random_state=seed)
    hidden = X.copy()
    for name, there in zip(fitted.blocks_, kept, strict=True):
        hidden.loc[~there, [c for c in X if c.startswith(name)]] = np.nan
    assert curve.table["score"][0] == pytest.approx(-log_loss(y, fitted.predict_proba(hidden)))
    assert curve.table["share_empty"][0] == pytest.approx(1 - kept.any(axis=0).mean())


def test_a_strong_modality_is_missed_more_the_rarer_it_is_and_noise_is_not(curve):
    image, noise = part_of(curve, "column", "image")["score"], part_of(curve, "column", "noise")["score"]
    assert (np.diff(image) < 0).all()
    assert abs(noise[1] - noise[0]) < 0.1 * (image[0] - image[1])
    assert (np.diff(part_of(curve, "random")["score"]) < 0).all()


def test_intervals_hold_the_score(curve):
    assert (curve.table["low"] < curve.table["score"]).all()
    assert (curve.table["score"] < curve.table["high"]).all()


def test_references_are_the_prior_and_the_best_modality_alone(curve, fitted):
    assert curve.best_single == "image"
    assert curve.single_scores["image"] > curve.single_scores["noise"]
    only = missing_modality_curve(fitted, modalities=["text", "noise"], rates=[1], mechanisms="random")
    assert only.table["score"][0] == pytest.approx(curve.single_scores["image"])


def test_values_choose_the_rows(fitted, data):
    first = np.arange(150) < 75
    chosen = missing_modality_curve(fitted, mechanisms="by_value", values=first, rates=[0.5], n_repeats=2)
    assert any("of large values" in note for note in chosen.notes)
    sure = missing_modality_curve(fitted, mechanisms="by_value", rates=[0.5], n_repeats=2)
    assert any("least sure" in note for note in sure.notes)
    assert sure.table["score"][0] != chosen.table["score"][0]


def test_the_same_seed_gives_the_same_curve(fitted):
    def ask(seed):
        return missing_modality_curve(fitted, rates=[0.5], n_repeats=2, random_state=seed).table

    pd.testing.assert_frame_equal(ask(0), ask(0))
    assert not ask(0).equals(ask(1))


def test_rows_that_lose_everything_are_told(curve):
    assert any("class frequencies: up to 100% of the rows" in note for note in curve.notes)


# ---------------------------------------------------------------------- what it takes


def test_nothing_is_fitted(fitted, data, monkeypatch):
    feature = FeatureFusionClassifier(HEAD).fit(*data)
    monkeypatch.setattr(LogisticRegression, "fit", lambda *_, **__: pytest.fail("a head was fitted"))
    missing_modality_curve(fitted, n_repeats=1)
    missing_modality_curve(feature, *data, n_repeats=1)


def test_cells_are_encoded_once():
    encoded = []

    def length(title):
        encoded.append(title)
        return [len(title)]

    df = pd.DataFrame({"title": ["a" * (i % 7 + 1) + str(i) for i in range(40)], "price": np.arange(40) % 5.0})
    y = np.arange(40) % 2
    modalities = [("text", FunctionEncoder(length), "title"), ("tabular", "passthrough", ["price"])]
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier({"text": HEAD, "tabular": HEAD}, cv=2)).fit(df, y)
    encoded.clear()
    with config_context(cache=None):
        missing_modality_curve(model, df, y, n_repeats=2)
    assert len(encoded) == 40
    encoded.clear()
    missing_modality_curve(model, n_repeats=2)
    with pytest.raises(ValueError, match="X has 40 rows and y 39"):
        missing_modality_curve(model, df, y[:-1])
    assert not encoded


def test_regression(data):
    X, _ = data
    y = X["image__0"].to_numpy() + 0.2 * X["text__0"].to_numpy()
    model = DecisionFusionRegressor(Ridge(), cv=3).fit(X, y)
    curve = missing_modality_curve(model, rates=(0, 0.5, 1), n_repeats=2)
    assert curve.metric == "neg_mean_squared_error"
    assert (np.diff(part_of(curve, "column", "image")["score"]) < 0).all()
    assert curve.prior_score == pytest.approx(-y.var(), rel=0.1)
    assert any("of large predictions" in note for note in curve.notes)


def test_weights_of_rows_of_fit_count(data):
    X, y = data
    weight = np.where(y == "class 0", 5.0, 1.0)
    model = DecisionFusionClassifier(HEAD, cv=3, joint=False, calibration=None).fit(X, y, sample_weight=weight)
    curve = missing_modality_curve(model, rates=[0], mechanisms="random", metric="accuracy")
    right = model.classes_[model.oof_proba_.argmax(1)] == y
    assert curve.table["score"][0] == pytest.approx(np.average(right, weights=weight), abs=0.02)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"rates": [0.5, 30]}, "shares from 0 to 1; got \\[30.0\\]"),
        ({"rates": []}, "got none"),
        ({"mechanisms": ["burned"]}, "mechanisms must be among"),
        ({"modalities": ["smell"]}, "no modality \\['smell'\\]; it has \\['image', 'text', 'noise'\\]"),
        ({"modalities": []}, "an empty list"),
        ({"metric": "r2"}, "metric must be one of"),
        ({"values": [1, 2]}, "values must hold 150 finite numbers"),
        ({"groups": [1, 2]}, "groups must hold one value for each of the 150 rows of fit; got shape \\(2,\\)"),
        ({"n_repeats": 0}, "at least 1"),
        ({"X": [[1]]}, "X and y belong together"),
    ],
)
def test_a_wrong_question_says_what_is_wanted(fitted, params, message):
    with pytest.raises(ValueError, match=message):
        missing_modality_curve(fitted, **params)


def test_intervals_are_over_groups_where_rows_belong_together(fitted, data):
    """Each row four times over: one group a row says no more than the rows once; taken as rows they claim to."""
    X, y = data
    params = {"rates": [0, 0.5], "mechanisms": "column", "modalities": ["image"], "n_repeats": 1}
    often = np.repeat(np.arange(len(X)), 4)
    once = missing_modality_curve(fitted, X, y, **params).table
    rows, grouped = (
        missing_modality_curve(fitted, X.iloc[often], y[often], groups=groups, **params) for groups in (None, often)
    )
    assert_allclose(grouped.table["score"], rows.table["score"])

    def width(table):
        return (table["high"] - table["low"])[0]

    assert width(grouped.table) == pytest.approx(width(once), rel=0.1)
    assert width(rows.table) == pytest.approx(width(once) / 2, rel=0.2)
    assert "intervals over groups of rows" in grouped.caption and "intervals over rows" in rows.caption


def test_groups_are_those_of_the_rows_of_fit_where_the_ledger_is_asked(fitted, data):
    one = missing_modality_curve(fitted, rates=[0], groups=np.zeros(len(data[1])), n_repeats=1).table
    assert_allclose(one["high"], one["low"])  # a single group: nothing can be drawn but all of it


def test_a_model_without_a_ledger_says_what_to_pass(data):
    with pytest.raises(ValueError, match="Give X and y: rows that the model was not fitted on"):
        missing_modality_curve(FeatureFusionClassifier(HEAD).fit(*data))


def test_a_modality_may_be_called_any(data):
    pytest.importorskip("matplotlib")
    X, y = data
    model = DecisionFusionClassifier(HEAD, cv=3, joint=False)
    plain = missing_modality_curve(model.fit(X, y), rates=(0, 1), n_repeats=1)
    model.fit(X.rename(columns=lambda c: c.replace("image", "any")), y)
    curve = missing_modality_curve(model, rates=(0, 1), n_repeats=1)
    pd.testing.assert_frame_equal(curve.table.drop(columns="modality"), plain.table.drop(columns="modality"))
    wide = curve.table.pivot(index="rate", columns=["mechanism", "modality"], values="score")
    assert wide["column"].columns.tolist() == ["any", "text", "noise"] and wide["random"].columns.tolist() == ["any"]
    labels = [text.get_text() for text in curve.plot().ax_.get_legend().get_texts()]
    assert labels[:3] == ["any, at random", "any, by value", "any missing"]


def test_the_picture_has_a_line_for_each_curve_and_two_references(curve, fitted):
    pytest.importorskip("matplotlib")
    display = curve.plot()
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    expected = ["any, at random", "any, by value", "image missing", "text missing", "noise missing"]
    assert labels == [*expected, "image alone", "no modality"]
    assert_array_equal(display.ax_.lines[2].get_ydata(), part_of(curve, "column", "image")["score"])
    assert_array_equal(display.ax_.lines[-1].get_ydata(), curve.prior_score)
    own = MissingModalityCurveDisplay.from_estimator(fitted, n_repeats=1, mechanisms="column", ax=display.ax_)
    assert own.ax_ is display.ax_
    assert "neg_log_loss" in curve._repr_html_()
