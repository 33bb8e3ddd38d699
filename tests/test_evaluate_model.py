"""Scores of one model with intervals: overall, per class, per slice, per set of modalities."""

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as metrics
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from ensemblefuse import (
    ConformalFusionClassifier,
    ConformalFusionRegressor,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FunctionEncoder,
    FusionSearchCV,
    KernelFusionClassifier,
    MeanPool,
    ModelEvaluationDisplay,
    evaluate_model,
    evaluate_predictions,
    expected_calibration_error,
    make_fusion_pipeline,
)

HEAD = LogisticRegression()


@pytest.fixture(scope="module")
def gaps():
    X, y = make_blocks(n=120)
    X.loc[:19, [c for c in X if c.startswith("text")]] = np.nan
    X.loc[:4, :] = np.nan
    return X, y


@pytest.fixture(scope="module")
def fitted(gaps):
    return DecisionFusionClassifier(HEAD, cv=3).fit(*gaps)


def predictions(n=300, n_classes=4, random_state=0):
    """Labels that are drawn with the probabilities that are said of them."""
    rng = np.random.default_rng(random_state)
    P = rng.dirichlet(np.ones(n_classes), size=n).round(2) + 1e-3  # rounded: some are equal
    P /= P.sum(axis=1, keepdims=True)
    labels = np.array(["cat", "dog", "emu", "fox"][:n_classes])
    return labels[(rng.random(n)[:, None] > P.cumsum(axis=1)).sum(axis=1)], P, labels


# ---------------------------------------------------------------------- scores


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_score_is_that_of_scikit_learn(n_classes, weighted):
    y, P, labels = predictions(n_classes=n_classes)
    w = np.random.default_rng(1).uniform(0.1, 3, len(y)) if weighted else None
    result = evaluate_predictions(y, P, sample_weight=w, n_resamples=10)
    said = labels[P.argmax(axis=1)]
    macro = {"average": "macro", "sample_weight": w}
    expected = {
        "accuracy": metrics.accuracy_score(y, said, sample_weight=w),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, said, sample_weight=w),
        "macro_recall": metrics.recall_score(y, said, **macro),
        "macro_precision": metrics.precision_score(y, said, **macro),
        "macro_f1": metrics.f1_score(y, said, **macro),
        "roc_auc": metrics.roc_auc_score(y, P[:, 1] if n_classes == 2 else P, multi_class="ovr", **macro),
        "log_loss": metrics.log_loss(y, P, sample_weight=w),
        "brier": metrics.brier_score_loss(y, P, sample_weight=w, scale_by_half=False),
        "ece": expected_calibration_error(y, P, sample_weight=w),
    }
    assert result.overall.index.tolist() == list(expected)
    assert_allclose(result.overall["score"], list(expected.values()))
    per_class = metrics.precision_recall_fscore_support(y, said, sample_weight=w)
    assert_allclose(result.per_class[["precision", "recall", "f1"]].T, per_class[:3])
    assert result.per_class["support"].tolist() == [(y == label).sum() for label in labels]


@pytest.mark.parametrize("weighted", [False, True])
def test_numbers_are_scored_as_scikit_learn_scores_them(weighted):
    rng = np.random.default_rng(0)
    y = rng.normal(1e6, 2.0, 90)  # far from 0, where sums of squares lose digits
    said, w = y + rng.normal(size=90), rng.uniform(0.1, 3, 90) if weighted else None
    score = evaluate_predictions(y, said, sample_weight=w, n_resamples=10).overall["score"]
    expected = [metrics.r2_score, metrics.mean_absolute_error, metrics.root_mean_squared_error]
    assert_allclose(score, [f(y, said, sample_weight=w) for f in expected], rtol=1e-6)
    assert score.index.tolist() == ["r2", "mae", "rmse"]


def test_a_class_that_is_never_predicted_and_one_that_is_predicted_but_absent():
    y = np.array(["a", "a", "b", "b"])
    P = np.array([[0.6, 0.0, 0.4], [0.2, 0.1, 0.7], [0.9, 0.1, 0.0], [0.8, 0.1, 0.1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = evaluate_predictions(y, P, classes=["a", "b", "c"], n_resamples=50)
    said = np.array(["a", "c", "a", "a"])
    for name, score in [("recall", metrics.recall_score), ("precision", metrics.precision_score)]:
        assert_allclose(result.overall.loc[f"macro_{name}", "score"], score(y, said, average="macro", zero_division=0))
    assert_allclose(result.overall.loc["balanced_accuracy", "score"], 0.25)  # over a and b
    assert np.isnan(result.overall.loc["roc_auc", "score"])
    assert result.per_class.loc["c"].isna().tolist() == [True, True, True, False]
    assert result.per_class.loc["b", "precision"] == 0
    assert any(note == "These classes have no rows: c." for note in result.notes)
    assert any("ROC AUC is not defined where a class is absent" in note for note in result.notes)


def test_a_certain_mistake_costs_what_scikit_learn_says():
    score = evaluate_predictions([0, 1], [[1.0, 0.0], [1.0, 0.0]], n_resamples=5).overall["score"]
    assert_allclose(score["log_loss"], metrics.log_loss([0, 1], [[1.0, 0.0], [1.0, 0.0]]))
    assert score["brier"] == 1 and score["ece"] == 0.5


# ---------------------------------------------------------------------- calibration error


def test_the_calibration_error_of_what_is_known():
    assert_allclose(expected_calibration_error([1, 1, 1, 0], [0.9] * 4), 0.15)
    # Two bins: half the rows right at 0.6, all right at 0.8.
    P = [[0.6, 0.4], [0.6, 0.4], [0.8, 0.2], [0.8, 0.2]]
    assert_allclose(expected_calibration_error(["a", "b", "a", "a"], P), (0.1 + 0.2) / 2)
    assert_allclose(expected_calibration_error(["a", "b", "a", "a"], P, n_bins=1), 0.75 - 0.7)
    assert_allclose(expected_calibration_error(["a", "b", "a", "a"], P, sample_weight=[1, 1, 3, 3]), (0.2 + 1.2) / 8)
    assert expected_calibration_error([0, 1], [[1.0, 0.0], [0.0, 1.0]]) == 0


def test_bins_of_equal_weight_are_those_of_repeated_rows():
    y, P, _ = predictions(200)
    w = np.random.default_rng(0).integers(1, 4, 200)
    repeated = expected_calibration_error(np.repeat(y, w), np.repeat(P, w, axis=0), strategy="quantile", n_bins=5)
    assert_allclose(expected_calibration_error(y, P, strategy="quantile", n_bins=5, sample_weight=w), repeated)
    # Four rows, four bins: each row is its own.
    four = expected_calibration_error([1, 1, 1, 0], [0.6, 0.7, 0.8, 0.9], strategy="quantile", n_bins=4)
    assert_allclose(four, (0.4 + 0.3 + 0.2 + 0.9) / 4)


def test_a_calibrated_model_has_little_error_and_an_overconfident_one_much():
    y, P, _ = predictions(20_000)
    assert expected_calibration_error(y, P) < 0.02
    sharp = P**3 / (P**3).sum(axis=1, keepdims=True)
    assert expected_calibration_error(y, sharp) > 0.15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategy": "odd"}, "strategy must be"),
        ({"n_bins": 0}, "n_bins must be at least 1"),
        ({"labels": ["cat"]}, "pass labels="),
        ({"labels": ["cat", "cow", "emu", "fox"]}, r"y_true holds \['dog'\]"),
    ],
)
def test_a_calibration_error_that_cannot_be_told(arguments, message):
    y, P, _ = predictions(20)
    with pytest.raises(ValueError, match=message):
        expected_calibration_error(y, P, **arguments)


# ---------------------------------------------------------------------- intervals


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = []
    for seed in range(150):
        y = rng.random(100) < 0.7
        P = np.tile([0.2, 0.8], (100, 1))  # right in 70 % of rows
        _, low, high = evaluate_predictions(
            y, P, classes=[False, True], n_resamples=100, confidence_level=0.9, random_state=seed
        ).overall.loc["accuracy"]
        held.append(low <= 0.7 <= high)
    assert 0.84 < np.mean(held) < 0.96


def width(result, metric="accuracy"):
    return float(np.ptp(result.overall.loc[metric, ["low", "high"]]))


def test_more_rows_narrow_the_interval_and_groups_widen_it():
    few, many = (evaluate_predictions(*predictions(n)[:2], n_resamples=300) for n in (100, 1600))
    assert_allclose(width(few) / width(many), 4, rtol=0.25)
    y, P, _ = predictions(100)
    y, P, patient = np.repeat(y, 4), np.repeat(P, 4, axis=0), np.repeat(np.arange(100), 4)
    free, grouped = (evaluate_predictions(y, P, groups=g, n_resamples=300) for g in (None, patient))
    assert_allclose(width(grouped) / width(free), 2, rtol=0.25)
    assert_allclose(grouped.overall["score"], free.overall["score"])
    assert "of 100 groups" in grouped.caption


def test_the_same_seed_gives_the_same_intervals_however_the_draws_are_cut(monkeypatch):
    y, P, _ = predictions(60)
    first = evaluate_predictions(y, P, n_resamples=50).table
    monkeypatch.setattr("ensemblefuse.evaluation._evaluate_model._CELLS", 60 * 7)
    pd.testing.assert_frame_equal(evaluate_predictions(y, P, n_resamples=50).table, first)
    assert not evaluate_predictions(y, P, n_resamples=50, random_state=1).table.equals(first)


def test_integer_weights_are_repeated_rows():
    y, P, _ = predictions(60)
    w = np.random.default_rng(0).integers(0, 3, 60)
    weighted = evaluate_predictions(y, P, sample_weight=w, n_resamples=5)
    repeated = evaluate_predictions(np.repeat(y, w), np.repeat(P, w, axis=0), n_resamples=5)
    assert_allclose(weighted.overall["score"], repeated.overall["score"])
    assert weighted.notes == [f"{(w == 0).sum()} of 60 rows are left out: they have weight 0."]


# ---------------------------------------------------------------------- slices


def test_slices_are_the_scores_of_their_rows():
    y, P, labels = predictions(120)
    site = np.array(["north", "south", None] * 40, dtype=object)
    result = evaluate_predictions(y, P, by={"site": site}, n_resamples=50)
    cut = result.of("site")
    assert cut.index.tolist() == ["north", "south", "missing"]  # which is last
    rows = site == "south"
    assert cut.loc["south", "accuracy"] == (labels[P.argmax(axis=1)] == y)[rows].mean()
    assert_allclose(cut.loc["south", "log_loss"], metrics.log_loss(y[rows], P[rows], labels=labels))
    assert cut["n_rows"].sum() == 120


def test_rows_of_each_set_of_modalities_add_up(fitted, gaps):
    result = evaluate_model(fitted, n_resamples=20)
    cut = result.of("modalities")
    assert cut["n_rows"].to_dict() == {"image + text + audio": 100, "image + audio": 15}
    assert result.notes == ["5 of 120 rows are left out: they have no out-of-fold prediction."]  # nor any modality
    assert_allclose(
        (cut["accuracy"] * cut["n_rows"]).sum() / cut["n_rows"].sum(), result.overall.loc["accuracy", "score"]
    )
    there = {"image": np.arange(4) < 3, "text": np.arange(4) < 2}
    said = evaluate_predictions([0, 1, 0, 1], np.full((4, 2), 0.5), present=there, n_resamples=5)
    assert said.of("modalities")["n_rows"].to_dict() == {"image + text": 2, "image": 1, "none": 1}


def test_a_slice_of_one_row_has_no_interval_and_no_warning():
    y, P, _ = predictions(30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = evaluate_predictions(y, P, by={"site": ["alone"] + ["many"] * 29}, n_resamples=20)
        numbers = evaluate_predictions(np.arange(4.0), np.ones(4), by={"site": [0, 1, 1, 1]}, n_resamples=20)
    one = result.table[result.table["value"] == "alone"].set_index("metric")
    assert one[["low", "high"]].isna().all(axis=None) and one.loc["accuracy", "score"] in (0, 1)
    assert "No interval where a slice holds only one row: site alone." in result.notes
    assert np.isnan(numbers.of("site").loc[0, "r2"])
    assert "R2 is not defined where all targets are equal: site 0." in numbers.notes


# ---------------------------------------------------------------------- models


def test_without_rows_the_out_of_fold_predictions_are_scored(fitted, gaps):
    result = evaluate_model(fitted, n_resamples=20)
    _, y = gaps
    assert_allclose(result.predictions, fitted.oof_proba_[5:])
    proba = result.predictions / result.predictions.sum(axis=1, keepdims=True)  # rounded to float32
    assert_allclose(result.overall.loc["log_loss", "score"], metrics.log_loss(y[5:], proba), rtol=1e-6)
    assert (result.y_true == y[5:]).all()
    assert result.caption == "Out-of-fold scores on 115 rows of fit, 95% intervals of 20 bootstrap resamples"
    pd.testing.assert_frame_equal(evaluate_model(fitted, y=y, n_resamples=20).table, result.table)


def test_labels_that_mean_nothing_score_as_chance_out_of_fold():
    X, _ = make_blocks(n=300)
    y = np.random.default_rng(0).integers(0, 2, 300)
    model = DecisionFusionClassifier(DecisionTreeClassifier(random_state=0), combiner=MeanPool(), cv=3).fit(X, y)
    own = evaluate_model(model, n_resamples=200).overall
    assert own.loc["accuracy", "low"] < 0.5 < own.loc["accuracy", "high"]
    assert own.loc["roc_auc", "low"] < 0.5 < own.loc["roc_auc", "high"]
    assert evaluate_model(model, X, y, n_resamples=20).overall.loc["accuracy", "score"] == 1  # in-sample


def test_new_rows_are_encoded_and_cut_by_their_columns():
    df = pd.DataFrame({"title": ["a", "bb", None, "bb"] * 20, "price": np.tile([1.0, 5.0], 40)})
    y = np.tile(["low", "high"], 40)
    text = FunctionEncoder(lambda title: [len(title)])
    modalities = [("text", text, "title"), ("tabular", "passthrough", ["price"])]
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(HEAD, cv=2)).fit(df, y)
    new = {"title": ["a", None], "price": [1.0, 5.0]}
    result = evaluate_model(model, new, ["low", "high"], by="price", n_resamples=9)
    assert result.of("price")["accuracy"].to_dict() == {1.0: 1.0, 5.0: 1.0}
    assert result.of("modalities")["n_rows"].to_dict() == {"text + tabular": 1, "tabular": 1}
    assert "which must be new to the model" in result.caption
    assert_allclose(result.proba_of("low"), model.predict_proba(new)[:, 1])


def test_fusions_that_keep_no_target_take_it_and_searches_say_that_they_chose(gaps):
    X, y = gaps
    kernel = KernelFusionClassifier(C=1.0, cv=3).fit(X[5:], y[5:])
    with pytest.raises(ValueError, match=r"KernelFusionClassifier keeps .* without their target; pass y"):
        evaluate_model(kernel)
    assert evaluate_model(kernel, y=y[5:], n_resamples=5).overall.loc["accuracy", "score"] > 0.5
    late = DecisionFusionClassifier(HEAD, cv=2, joint=False)
    search = FusionSearchCV({"late": late}, cv=2).fit(X, y)
    grid = GridSearchCV(late, {"cv": [2]}, cv=2).fit(X, y)
    for model in (search, grid, ConformalFusionClassifier(FusionSearchCV(search.candidates, cv=2)).fit(X, y)):
        assert any("chosen among others on these rows" in note for note in evaluate_model(model, n_resamples=5).notes)


def test_weights_of_fit_count_unless_others_are_given():
    X, y = make_blocks(n=90)
    w = np.tile([0.0, 1.0, 2.0], 30)
    model = DecisionFusionClassifier(HEAD, cv=3, class_weight="balanced").fit(X, y, sample_weight=w)
    own = evaluate_model(model, n_resamples=5)
    assert len(own.y_true) == 60 and "Rows have their weights of fit" in own.notes[0]
    alike = evaluate_model(model, sample_weight=np.ones(90), n_resamples=5)
    assert_allclose(
        alike.overall.loc["accuracy", "score"], (model.classes_[model.oof_proba_.argmax(axis=1)] == y).mean()
    )


def test_a_modality_may_be_called_none():
    X, y = make_blocks(n=90, widths={"none": 3, "text": 3})
    model = DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, y)
    X.iloc[:10, 3:], X.iloc[10:15] = np.nan, np.nan
    slices = evaluate_model(model, X, y, n_resamples=5).of("modalities")
    assert slices.index.tolist() == ["none + text", "none", "no modality"]


def test_rows_without_an_out_of_fold_prediction_are_told():
    X, y = make_blocks(n=90)
    third = np.repeat(["first", "second", "third"], 30)
    splits = [(np.flatnonzero(third != name), np.flatnonzero(third == name)) for name in ("first", "second")]
    model = DecisionFusionClassifier(HEAD, cv=splits).fit(X, y)
    result = evaluate_model(model, by={"third": third}, n_resamples=5)
    assert result.notes == ["30 of 90 rows are left out: they have no out-of-fold prediction."]
    assert result.of("third").index.tolist() == ["first", "second"]


def test_coverage_of_conformal_sets_and_intervals():
    X, y = make_blocks(n=240)
    train, test = slice(0, 160), slice(160, 240)
    model = ConformalFusionClassifier(DecisionFusionClassifier(HEAD, cv=3), confidence_level=0.8).fit(
        X[train], y[train]
    )
    score = evaluate_model(model, X[test], y[test], n_resamples=50).overall
    sets = model.predict_set(X[test])
    assert_allclose(
        score.loc["coverage", "score"], sets[np.arange(80), np.searchsorted(model.classes_, y[test])].mean()
    )
    assert_allclose(score.loc["set_size", "score"], sets.sum(axis=1).mean())
    assert score.loc["coverage", "low"] < 0.8 < score.loc["coverage", "high"] + 0.1
    assert "coverage" not in evaluate_model(model, n_resamples=5).overall.index
    number = X["image__0"] + X["text__0"]
    model = ConformalFusionRegressor(DecisionFusionRegressor(Ridge(), cv=3)).fit(X[train], number[train])
    score = evaluate_model(model, X[test], number[test], n_resamples=50).overall["score"]
    low, high = model.predict_interval(X[test]).T
    assert_allclose(score["coverage"], ((low <= number[test]) & (number[test] <= high)).mean())
    assert_allclose(score["interval_width"], (high - low).mean())
    assert_allclose(score["r2"], metrics.r2_score(number[test], model.predict(X[test])))


def test_a_fusion_without_out_of_fold_predictions_says_what_to_pass(gaps):
    X, y = make_blocks(n=60)
    model = FeatureFusionClassifier(HEAD).fit(X, y)
    with pytest.raises(ValueError, match=r"FeatureFusionClassifier keeps no out-of-fold .* cross_val_predict"):
        evaluate_model(model)
    proba = cross_val_predict(model, X, y, cv=StratifiedKFold(3), method="predict_proba")  # what the error says
    assert evaluate_predictions(y, proba, n_resamples=5).overall.loc["accuracy", "score"] > 0.5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"y": ["class 0"] * 120}, ValueError, "y must be the target in fit: the same 120 values in the same order"),
        ({"by": "site"}, ValueError, r"by='site' names columns of X, but X is not given; pass by=\{'site'"),
        ({"by": {"site": [1, 2]}}, ValueError, r"by\['site'\] must hold one value per row, 120 of them"),
        ({"by": {"class": np.arange(120)}}, ValueError, r"by names \['class'\], which are slices already"),
        ({"by": {"age": np.linspace(0, 1, 120)}}, ValueError, "by='age' holds 120 values.*pandas.cut"),
        ({"by": 3}, TypeError, "by must be a column name"),
        ({"sample_weight": -np.ones(120)}, ValueError, "sample_weight must hold finite numbers of at least 0"),
        ({"confidence_level": 95}, ValueError, "confidence_level must be between 0 and 1"),
        ({"n_resamples": 0}, ValueError, "n_resamples must be at least 1"),
    ],
)
def test_a_wrong_question_to_a_model_says_what_to_do(fitted, arguments, error, message):
    with pytest.raises(error, match=message):
        evaluate_model(fitted, **{"n_resamples": 5, **arguments})


def test_new_rows_that_do_not_fit(fitted, gaps):
    X, y = gaps
    with pytest.raises(ValueError, match="y is None"):
        evaluate_model(fitted, X)
    with pytest.raises(ValueError, match="y has 3 values for the 120 rows"):
        evaluate_model(fitted, X, y[:3])
    with pytest.raises(ValueError, match=r"y holds \['class 9'\], which the model never saw"):
        evaluate_model(fitted, X, np.where(y == "class 0", "class 9", y))
    with pytest.raises(ValueError, match=r"by names columns that X lacks: \['site'\]"):
        evaluate_model(fitted, X, y, by=["site"])


@pytest.mark.parametrize(
    ("y", "P", "arguments", "message"),
    [
        (["a", "b", "c"], np.full((3, 2), 0.5), {}, "2.* for 3 labels of 3 classes; .* pass classes="),
        (["a", "b", "z"], np.full((3, 2), 0.5), {"classes": ["a", "b"]}, r"y_true holds \['z'\]"),
        (["a", "b"], [[0.5, 0.5], [2.0, 1.0]], {}, r"1 row does not, the first at position 1: \[2.0, 1.0\]"),
        (["a", "b"], [0.5, 0.5], {}, "must be probabilities of shape"),
        ([1.0, 2.0], [0.5], {}, r"shape \(2,\) and predictions \(1,\)"),
        ([1.0, np.nan], [0.5, 1.0], {}, "y_true is missing in 1 of 2 rows"),
        ([1.0, np.inf], [0.5, 1.0], {}, "y_true is infinite in 1 of 2 rows"),
        ([1.0, 2.0], [0.5, np.nan], {}, "predictions contains NaN"),
    ],
)
def test_predictions_that_cannot_be_scored(y, P, arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate_predictions(y, P, n_resamples=5, **arguments)


# ---------------------------------------------------------------------- the result


def test_the_result_reads_as_text_and_html_and_feeds_scikit_learns_pictures(fitted):
    result = evaluate_model(fitted, n_resamples=20)
    assert str(result).splitlines()[0] == result.caption and "macro_f1" in str(result)
    assert "<table" in result._repr_html_()
    assert result.y_pred.tolist() == fitted.classes_[fitted.oof_proba_[5:].argmax(axis=1)].tolist()
    pytest.importorskip("matplotlib", reason="matplotlib is an optional package")
    shown = metrics.ConfusionMatrixDisplay.from_predictions(result.y_true, result.y_pred)
    assert shown.confusion_matrix.sum() == 115
    with pytest.raises(ValueError, match="no class 'cow'"):
        result.proba_of("cow")
    with pytest.raises(ValueError, match=r"no slice 'site'; there are \['all', 'class', 'modalities'\]"):
        result.of("site")


def test_the_picture_shows_the_scores_of_all_slices(fitted, gaps):
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is an optional package")
    figure, ax = pyplot.subplots()
    result = evaluate_model(fitted, n_resamples=20)
    display = result.plot(ax=ax)
    assert display.ax_ is ax and display.figure_ is figure
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[0] == "all  (115)" and labels[-1] == "image + audio  (15)" and len(labels) == 6
    assert_allclose(display.errorbars_["class"].lines[0].get_xdata(), result.per_class["recall"])
    assert "115 rows of fit" in ax.get_title()
    display = ModelEvaluationDisplay.from_estimator(fitted, n_resamples=5, metric="log_loss")
    assert display.ax_.get_xlabel() == "log_loss (nats)" and "class" not in display.errorbars_
    with pytest.raises(ValueError, match="metric must be one of"):
        result.plot(metric="support")
    pyplot.close("all")


def test_zeros_and_ones_scored_as_numbers_are_told():
    notes = evaluate_predictions([0, 1, 1, 0], [0.2, 0.7, 0.9, 0.4], n_resamples=5).notes
    assert any("scored as numbers" in note for note in notes)
    with pytest.raises(ValueError, match="must be probabilities"):
        evaluate_predictions(np.array([False, True]), [0.2, 0.7])
