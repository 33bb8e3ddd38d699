"""Labels that mean nothing must score as chance, out of fold, whatever is fitted on them."""

import numpy as np
import pytest
from conftest import make_blocks
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from xgboost import XGBClassifier

from ensemblefuse import (
    DecisionFusionClassifier,
    FeatureFusionClassifier,
    LogPool,
    MeanPool,
    StackingPool,
    VotePool,
)

N = 400
# Four standard errors of the accuracy of fair guesses between two classes.
TOLERANCE = 4 * np.sqrt(0.25 / N)


def table(random_state):
    X, _ = make_blocks(n=N, widths={"image": 30, "text": 20}, random_state=random_state)
    rng = np.random.default_rng(random_state)
    # Every row has words of its own: a vectoriser and classifier that see them in training know them by heart.
    X["title__raw"] = [" ".join(f"w{w}" for w in rng.integers(0, 2000, 8)) for _ in range(N)]
    return X, rng.permutation(np.repeat(["cat", "dog"], N // 2))


TITLE = {"title": make_pipeline(TfidfVectorizer(), LogisticRegression(C=100))}
OVERFIT = {"image": RandomForestClassifier(20, random_state=0), **TITLE}

CASES = {
    "feature level": (FeatureFusionClassifier(RandomForestClassifier(20, random_state=0)), False),
    **{
        f"decision level, {name}": (DecisionFusionClassifier(OVERFIT, combiner=combiner, cv=3), True)
        for name, combiner in {
            "equal log pool": LogPool("equal"),
            "learned log pool": LogPool(alpha=0.0),
            "mean": MeanPool(),
            "accuracy-weighted mean": MeanPool("accuracy"),
            "learned mean": MeanPool("learned"),
            "hard vote": VotePool(),
            "Borda": VotePool("borda"),
            "logistic stacking": StackingPool(),
            "XGBoost stacking": StackingPool(XGBClassifier(n_estimators=20)),
        }.items()
    },
}


@pytest.mark.parametrize("case", CASES)
def test_permuted_labels_give_chance_accuracy_out_of_fold(case):
    fusion, raw = CASES[case]
    hits = []
    for seed in (0, 1):
        X, y = table(seed)
        X = X if raw else X.drop(columns="title__raw")
        hits.append(cross_val_predict(fusion, X, y, cv=3) == y)
    assert abs(np.mean(hits) - 0.5) < TOLERANCE


@pytest.mark.parametrize("case", [case for case in CASES if "decision" in case])
def test_the_ledger_itself_and_the_fused_out_of_fold_probabilities_are_at_chance(case):
    fusion, _ = CASES[case]
    X, y = table(2)
    model = fusion.fit(X, y)
    truth = (y == model.classes_[1]).astype(int)
    for member, proba in zip(model.member_names_, model.oof_predictions_, strict=True):
        assert abs((proba.argmax(axis=1) == truth).mean() - 0.5) < TOLERANCE, member
    assert abs((model.oof_proba_.argmax(axis=1) == truth).mean() - 0.5) < TOLERANCE
    # Calibrated out of fold on noise: no certainty is left, so the loss is close to that of a coin.
    loss = -np.log(model.oof_proba_[np.arange(N), truth]).mean()
    assert loss < np.log(2) + 0.01


def test_the_test_can_fail_a_stacker_fed_in_sample_predictions_is_far_from_chance():
    X, y = table(3)
    everything = [(np.arange(N), np.arange(N))]
    model = DecisionFusionClassifier(OVERFIT, cv=everything).fit(X, y)
    truth = (y == model.classes_[1]).astype(int)
    assert (model.oof_predictions_[0].argmax(axis=1) == truth).mean() > 0.9
