"""How much is tried where no estimator is named, and the table that says what it was worth."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, r2_score
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr

from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    DempsterShaferPool,
    EntropyPool,
    FusionSearchCV,
    GreedyPool,
    LogPool,
    MeanPool,
    StackingPool,
    VotePool,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.fusion._member_table import _second_level
from ensemblefuse.testing import check_no_leakage

DATA = Path(__file__).parent / "data"
LR = LogisticRegression()
EFFORTS = ["low", "medium", "high"]


def make_blocks(n=150, seed=0, width=4):
    """A table and a picture; the label depends on both, and on a product of two columns."""
    rng = np.random.default_rng(seed)
    table, photo = rng.normal(size=(n, 3)), rng.normal(size=(n, width))
    y = (table[:, 0] * table[:, 1] + photo[:, 0] + 0.5 * rng.normal(size=n) > 0).astype(int)
    columns = [f"table__{i}" for i in range(3)] + [f"photo__{i}" for i in range(width)]
    return pd.DataFrame(np.hstack([table, photo]), columns=columns), np.array(["no", "yes"])[y]


def make_numbers(n=150, seed=0):
    X, _ = make_blocks(n, seed)
    rng = np.random.default_rng(seed + 1)
    return X, (X["table__0"] * X["table__1"] + X["photo__0"] + 0.3 * rng.normal(size=n)).to_numpy()


def last_steps(model):
    return {name: fitted[-1] for name, fitted in model.estimators_.items() if hasattr(fitted, "steps")}


def probabilities(P):
    """The ledger in double precision, with sums of exactly 1."""
    return P.astype(float) / P.astype(float).sum(axis=1, keepdims=True)


# ---------------------------------------------------------------------- what is tried


def test_medium_is_the_default():
    X, y = make_blocks()
    plain, medium = DecisionFusionClassifier(cv=3).fit(X, y), DecisionFusionClassifier(cv=3, effort="medium").fit(X, y)
    assert plain.member_names_ == medium.member_names_ == ["table", "table/trees", "photo", "photo/trees", "joint"]
    assert_array_equal(plain.predict_proba(X), medium.predict_proba(X))
    assert plain.members_["n_tried"].tolist() == [8, 1, 8, 1, 8]  # five penalties, two machines, one discriminant


def test_low_has_one_linear_model_for_each_block_and_no_trees():
    X, y = make_blocks()
    model = DecisionFusionClassifier(cv=3, effort="low").fit(X, y)
    assert model.member_names_ == ["table", "photo", "joint"]
    assert {type(head) for head in last_steps(model).values()} == {LogisticRegression}
    assert model.members_["n_tried"].tolist() == [1, 1, 1]
    assert model.combiner_.weights == "learned"


def test_low_in_regression_is_ridge_regression():
    X, y = make_numbers()
    model = DecisionFusionRegressor(cv=3, effort="low").fit(X, y)
    assert model.member_names_ == ["table", "photo", "joint"]
    assert {type(head) for head in last_steps(model).values()} == {RidgeCV}
    skewed = DecisionFusionRegressor(cv=3, effort="low").fit(X, np.exp(X["table__0"] + X["photo__0"]))
    assert skewed.members_["n_tried"].tolist() == [2, 2, 2]  # and the log of y
    assert skewed.members_.loc["joint", "head"].endswith("of log y")


@pytest.mark.by_turns
@pytest.mark.parametrize("missing", ["impute", "dropout", "reduced"])
def test_low_has_one_linear_model_over_all_blocks_however_it_treats_gaps(missing):
    X, y = make_blocks()
    model = DecisionFusionClassifier(cv=2, effort="low", missing=missing).fit(X, y)
    joint = model.estimators_["joint"]
    assert model.members_.loc["joint", "n_tried"] == 1
    assert isinstance(joint[-1] if missing == "impute" else joint.estimator, LogisticRegression)


def test_words_have_one_penalty_with_low():
    titles = [f"{['red', 'blue', 'grey'][i % 3]} {['cat', 'dog'][i % 2]}" for i in range(60)]
    numbers = np.random.default_rng(0).normal(size=(60, 2))
    X = pd.DataFrame(numbers, columns=["text__0", "text__1"]).assign(text__words=titles)
    y = np.arange(60) % 2
    tried = {e: DecisionFusionClassifier(cv=3, effort=e).fit(X, y).members_["n_tried"] for e in ("low", "medium")}
    assert tried["low"].to_dict() == {"text": 1, "text/words": 1}
    assert tried["medium"].loc["text/words"] == 3


def test_high_adds_members_of_extra_trees_and_fits_several_trees_a_round():
    X, y = make_blocks(width=210)
    model = DecisionFusionClassifier({"photo": LR}, cv=2, effort="high").fit(X, y)
    trees = ["table", "table/trees", "table/forest", "photo", "joint", "joint/trees", "joint/forest"]
    assert model.member_names_ == trees
    assert model.member_blocks_ == [name.partition("/")[0] for name in trees]
    boosted = last_steps(model)["table/trees"]
    assert len(boosted.get_booster().get_dump()) == 4 * boosted.n_estimators
    assert "table/forest" in estimator_html_repr(model)
    X.loc[:9, [name for name in X if name.startswith("photo")]] = np.nan
    assert np.isfinite(model.predict_proba(X)).all()


def test_high_in_regression_tries_two_ways_of_boosting():
    X, y = make_numbers()
    model = DecisionFusionRegressor(cv=2, effort="high").fit(X, y)
    forests = ["table/forest", "photo/forest"]
    assert model.member_names_ == ["table", "table/trees", forests[0], "photo", "photo/trees", forests[1], "joint"]
    assert model.members_["n_tried"].loc[["table/trees", *forests]].to_list() == [2, 1, 1]


@pytest.mark.by_turns
@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize(
    ("kind", "make"), [(DecisionFusionClassifier, make_blocks), (DecisionFusionRegressor, make_numbers)]
)
def test_two_fits_are_equal(kind, make, effort):
    X, y = make(80)
    one, two = (kind(cv=2, effort=effort).fit(X, y) for _ in range(2))
    assert_array_equal(one.oof_predictions_, two.oof_predictions_)
    assert_array_equal(one.predict(X), two.predict(X))


@pytest.mark.parametrize("effort", ["low", "high"])
def test_named_estimators_stay_as_they_are(effort):
    X, y = make_blocks()
    medium, other = (DecisionFusionClassifier(LR, cv=3, effort=e).fit(X, y) for e in ("medium", effort))
    assert medium.member_names_ == other.member_names_ == ["table", "photo", "joint"]
    assert_array_equal(medium.predict_proba(X), other.predict_proba(X))


def test_a_named_block_keeps_its_estimator_beside_a_block_of_low_effort():
    X, y = make_blocks()
    model = DecisionFusionClassifier({"table": LogisticRegression(C=7.0)}, cv=2, effort="low").fit(X, y)
    assert model.estimators_["table"].C == 7.0
    assert model.estimators_["photo"][-1].C == 1.0


@pytest.mark.by_turns
@pytest.mark.parametrize("effort", ["low", "high"])
def test_nothing_leaks_out_of_a_fold(effort):
    X, y = make_blocks(120)
    check_no_leakage(DecisionFusionClassifier(cv=3, effort=effort), X, y)


@pytest.mark.parametrize("wrong", ["hight", None, 3, np.array(["low", "high"])])
def test_an_unknown_effort_is_told(wrong):
    X, y = make_blocks(30)
    with pytest.raises(ValueError, match=r"effort must be one of \('low', 'medium', 'high'\); got"):
        DecisionFusionClassifier(effort=wrong).fit(X, y)


@pytest.mark.parametrize("wrong", [2, -1, "yes", None, 0.5])
def test_an_unknown_verbose_is_told(wrong):
    X, y = make_numbers(30)
    with pytest.raises(ValueError, match=r"verbose must be 0 .* or 1 .*; got"):
        DecisionFusionRegressor(verbose=wrong).fit(X, y)


def test_effort_is_a_parameter_of_pipelines_and_searches():
    X, y = make_blocks(90)
    modalities = [("table", StandardScaler(), [f"table__{i}" for i in range(3)])]
    df = X.rename(columns=str)
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(cv=2))
    search = GridSearchCV(model, {"fuse__effort": ["low", "medium"]}, cv=2).fit(df, y)
    assert search.best_params_["fuse__effort"] in ("low", "medium")
    assert "effort='low'" in repr(DecisionFusionClassifier(effort="low"))


def test_a_search_gives_its_strategies_of_single_blocks_the_effort_of_its_candidates():
    X, y = make_blocks(120)
    candidates = {
        "late": DecisionFusionClassifier(joint=False, effort="low"),
        "hybrid": DecisionFusionClassifier(effort="low"),
    }
    search = FusionSearchCV(candidates, cv=2, refit="all").fit(X, y)
    assert search.estimators_["table alone"].member_names_ == ["table"]
    assert search.results_["n_members"].to_dict() == {"table alone": 1, "photo alone": 1, "late": 2, "hybrid": 3}


# ---------------------------------------------------------------------- the table of the members


def test_members_tell_the_scores_of_the_ledger():
    X, y = make_blocks()
    model = DecisionFusionClassifier(cv=3).fit(X, y)
    table = model.members_
    assert list(table.index) == model.member_names_
    for name, P in zip(model.member_names_, model.oof_predictions_, strict=True):
        assert table.loc[name, "log_loss"] == pytest.approx(log_loss(y, probabilities(P)), rel=1e-4)
        assert table.loc[name, "accuracy"] == pytest.approx(accuracy_score(y, model.classes_[P.argmax(axis=1)]))
    assert (table["n_rows"] == len(y)).all()
    assert (table["seconds"] > 0).all()


def test_members_in_regression_tell_r2():
    X, y = make_numbers()
    model = DecisionFusionRegressor(Ridge(), cv=3).fit(X, y)
    for name, P in zip(model.member_names_, model.oof_predictions_, strict=True):
        assert model.members_.loc[name, "r2"] == pytest.approx(r2_score(y, P))
        assert model.members_.loc[name, "rmse"] == pytest.approx(np.sqrt(mean_squared_error(y, P)))


@pytest.mark.by_turns
@pytest.mark.parametrize("cv", [3, TimeSeriesSplit(3)], ids=str)
def test_a_gain_is_what_the_score_loses_without_the_member(cv):
    """A mean of members without one of them is the mean of a model that never had it."""
    X, y = make_blocks()
    heads = {"table": [("a", LR), ("b", LogisticRegression(C=0.01))]}
    fit = lambda heads: DecisionFusionClassifier(heads, combiner=MeanPool(), joint=False, cv=cv).fit(X, y)
    loss = lambda model: model.expected_scores_["log_loss"].iloc[0]
    both = fit({"table": heads["table"], "photo": LR})
    without = {
        "table/a": fit({"table": [("b", LogisticRegression(C=0.01))], "photo": LR}),
        "table/b": fit({"table": [("a", LR)], "photo": LR}),
        "photo": fit({**heads, "photo": "drop"}),
    }
    gains = both.members_["gain"]
    for name, other in without.items():
        assert gains[name] == pytest.approx(loss(other) - loss(both), abs=2e-6)
    assert gains["photo"] > 0


def test_a_gain_counts_rows_that_only_the_member_knows():
    """Without the member these rows have the class frequencies of the training rows of their fold."""
    X, y = make_blocks()
    X.loc[:49, [name for name in X if name.startswith("table")]] = np.nan
    model = DecisionFusionClassifier(LR, combiner=MeanPool(), calibration=None, joint=False, cv=3).fit(X, y)
    rows = np.isfinite(model.oof_predictions_[0, :, 0])
    without = np.where(rows[:, None], probabilities(model.oof_predictions_[0]), np.nan)
    for _, test in _second_level(model).splits:
        rest = np.setdiff1d(np.arange(len(y)), test)
        empty = test[~rows[test]]
        without[empty] = [np.mean(y[rest] == label) for label in model.classes_]
    expected = log_loss(y, without) - log_loss(y, probabilities(model.oof_proba_))
    assert model.members_.loc["photo", "gain"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("cv", [4, TimeSeriesSplit(4)], ids=str)
def test_the_training_rows_of_the_combiner_are_known_after_fit(cv):
    X, y = make_blocks()
    model = DecisionFusionClassifier(LR, cv=cv, joint=False).fit(X, y)
    kept = _second_level(model).splits
    assert len(kept) == (4 if cv == 4 else 3)  # before the first test rows no combiner can be learned
    known = np.flatnonzero(np.isfinite(model.oof_predictions_[0, :, 0]))
    for train, test in kept:
        expected = np.setdiff1d(known, test) if cv == 4 else known[known < test.min()]
        assert_array_equal(train, expected)


POOLS = [
    LogPool("equal"),
    LogPool(),
    MeanPool("learned"),
    MeanPool([0.2, 0.3, 0.5]),
    MeanPool({"table": 1, "photo": 2, "joint": 3}),
]
POOLS += [VotePool(), GreedyPool(), StackingPool(), DempsterShaferPool(), EntropyPool()]


@pytest.mark.by_turns
@pytest.mark.parametrize("pool", POOLS, ids=repr)
def test_every_pool_has_gains(pool):
    X, y = make_blocks()
    gains = DecisionFusionClassifier(LR, combiner=pool, cv=3).fit(X, y).members_["gain"]
    assert np.isfinite(gains).all()
    assert gains.abs().max() > 0


@pytest.mark.by_turns
@pytest.mark.parametrize("pool", [None, LogPool("equal"), MeanPool(), GreedyPool(), StackingPool()], ids=repr)
def test_every_pool_of_numbers_has_gains(pool):
    X, y = make_numbers()
    gains = DecisionFusionRegressor(Ridge(), combiner=pool, cv=3).fit(X, y).members_["gain"]
    assert np.isfinite(gains).all()


def test_weights_of_classes_and_rows_count_in_gains():
    X, y = make_blocks()
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    model = DecisionFusionClassifier(LR, cv=3, class_weight={"no": 1.0, "yes": 3.0}).fit(X, y, sample_weight=weight)
    ledger = _second_level(model)
    assert_allclose(ledger.sample_weight, weight * np.where(y == "yes", 3.0, 1.0))
    P = probabilities(model.oof_predictions_[0])
    assert model.members_["log_loss"].iloc[0] == pytest.approx(log_loss(y, P, sample_weight=weight), rel=1e-4)


def test_the_gain_of_the_only_member_with_predictions_is_over_the_class_frequencies():
    X, y = make_blocks()
    model = DecisionFusionClassifier(LR, joint=False, cv=3).fit(X, y)
    model.oof_predictions_[0] = np.nan
    alone = model.members_.loc["photo"]
    assert 0.1 < alone["gain"] == pytest.approx(np.log(2) - alone["log_loss"], abs=0.03)


def test_one_member_has_no_gain():
    X, y = make_blocks()
    only = X[[name for name in X if name.startswith("table")]]
    assert DecisionFusionClassifier(LR, cv=3).fit(only, y).members_["gain"].isna().all()


def test_members_need_a_fit():
    with pytest.raises(AttributeError):
        DecisionFusionClassifier().members_  # noqa: B018


@pytest.mark.parametrize("refit", [True, False])
def test_members_are_in_model_files(tmp_path, refit):
    X, y = make_blocks(80)
    model = DecisionFusionClassifier(cv=2, effort="low", refit=refit).fit(X, y)
    save_model(model, tmp_path / "model.fuse")
    pd.testing.assert_frame_equal(load_model(tmp_path / "model.fuse").members_, model.members_)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_members_of_files_of_before_lack_what_these_files_do_not_hold(number):
    rows = pd.DataFrame(json.loads((DATA / "golden.json").read_text())["rows"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load_model(DATA / f"format{number}.fuse")
    fusion = model[-1] if hasattr(model, "steps") else model
    fusion = getattr(fusion, "best_estimator_", getattr(fusion, "fusion_", fusion))
    assert len(model.predict(rows)) == len(rows)
    assert (fusion.effort, fusion.verbose) == ("medium", 0)
    table = fusion.members_
    assert table["log_loss"].notna().any()
    assert table[["n_tried", "seconds", "gain"]].isna().all(axis=None)


# ---------------------------------------------------------------------- what is printed


def test_nothing_is_printed_by_default(capsys):
    DecisionFusionClassifier(LR, cv=2).fit(*make_blocks(60))
    assert capsys.readouterr().out == ""


@pytest.mark.by_turns
@pytest.mark.parametrize("effort", EFFORTS)
def test_the_members_are_printed_with_the_numbers_of_the_ledger(capsys, effort):
    X, y = make_blocks()
    model = DecisionFusionClassifier(cv=2, effort=effort, verbose=1).fit(X, y)
    first, headings, *lines, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"effort={effort!r} tries, where no estimator is named: ")
    assert ("no trees" in first) == (effort == "low")
    assert headings.split() == ["member", "head", "tried", "rows", "seconds", "log-loss", "accuracy", "gain"]
    assert [line.split()[0] for line in lines] == model.member_names_
    for line, row in zip(lines, model.members_.itertuples(), strict=True):
        shown = f"{row.n_tried} 150 {row.seconds:.2f} {row.log_loss:.4f} {row.accuracy:.4f} {row.gain:.4f}"
        assert line.split()[-6:] == shown.split()
        assert row.head in line
    whole = model.expected_scores_.iloc[0]
    assert last.endswith(f"150 rows: log-loss {whole['log_loss']:.4f}, accuracy {whole['accuracy']:.4f}")


def test_the_members_of_a_regression_are_printed_with_r2(capsys):
    X, y = make_numbers()
    model = DecisionFusionRegressor(Ridge(), cv=2, verbose=True).fit(X, y)
    _, headings, *lines, last = capsys.readouterr().out.splitlines()
    assert headings.split()[-3:] == ["rmse", "R2", "gain"]
    assert lines[0].split()[:2] == ["table", "Ridge(alpha=1)"]
    assert last.endswith(f"R2 {model.expected_scores_['r2'].iloc[0]:.4f}")


def test_a_search_prints_the_members_of_what_it_kept(capsys):
    X, y = make_blocks(80)
    FusionSearchCV({"late": DecisionFusionClassifier(LR, verbose=1)}, cv=2, refit="all").fit(X, y)
    assert capsys.readouterr().out.count("effort='medium' tries") == 1
