"""scikit-learn's own checks on every public estimator, found through the packages' ``__all__``."""

import numpy as np
import pytest
from conftest import with_checks
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.ensemble import StackingClassifier, StackingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import estimator_checks_generator
from test_model_transport import CHEAP
from xgboost import XGBClassifier

import ensemblefuse.features
import ensemblefuse.fusion
from ensemblefuse.features import BlockScaler
from ensemblefuse.fusion import (
    CascadeFusionClassifier,
    ConformalFusionClassifier,
    ConformalFusionRegressor,
    CooperativeClassifier,
    CrossModalDistiller,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    FusionSearchCV,
    KernelFusionClassifier,
    NeuralFusionClassifier,
    NeuralFusionRegressor,
    _default_trees,
)
from ensemblefuse.testing import _FusionChecks, check_fusion

# scikit-learn's check of an infinite y casts it to an integer.
pytestmark = [
    pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning"),
    # All its tables are arrays.
    pytest.mark.filterwarnings("ignore:.*X is an array without names of columns"),
]

# Every fusion as it comes, and with heads that are fitted some nine times faster. The checks of the first are slow.
APART = {
    "LogTargetRegressor",  # a part, see test_log_target
    "NeuralFusionMultiTask",  # neither classifier nor regressor, see test_neural_multitask
}
NAMES = [name for name in ensemblefuse.fusion.__all__ if name not in APART]
FUSIONS = [getattr(ensemblefuse.fusion, name)() for name in NAMES]
QUICK = [getattr(ensemblefuse.fusion, name)(*CHEAP.get(name, [])) for name in NAMES]
for fusion in QUICK:
    if isinstance(fusion, CooperativeClassifier):
        fusion.set_params(rho=(0.0, 0.2), alpha=(10.0,), cv=3)
    elif isinstance(fusion, (FusionSearchCV, KernelFusionClassifier)):
        fusion.set_params(cv=3)
    elif isinstance(fusion, (NeuralFusionClassifier, NeuralFusionRegressor)):
        fusion.set_params(hidden=8, n_members=2, max_epochs=12, batch_size=64, learning_rate=0.1)
FULL = [full for full, quick in zip(FUSIONS, QUICK, strict=True) if repr(full) != repr(quick)]
for fusion in FULL:  # the folds are no part of what the checks ask
    if "cv" in fusion.get_params(deep=False):
        fusion.set_params(cv=3)
ALL = [*(pytest.param(fusion, marks=pytest.mark.slow) for fusion in FULL), *QUICK]

# With heads that take weights exactly the check passes: see EXACT.
CLASSIFIER_HEADS = "the default heads include libsvm's, which stops at 1e-3, and one that is tried without weights only"
REGRESSOR_HEADS = "the default heads choose a penalty by leave-one-out error and scale y, both without weights"
# scikit-learn's check hands the folds to a `cv` of the estimator itself, and fails for every random splitter without.
INNER_FOLDS = "the folds of the fusion within are drawn by row: a row of weight 2 lies in one, two such rows in two"
# In full batches without dropout the two are equal: see test_neural_fusion.
BATCHES = "a row of weight 2 is in one batch of an epoch, and two such rows may be in two"
WEIGHTS = "check_sample_weight_equivalence_on_dense_data"
CLASSIFIERS = [
    CascadeFusionClassifier,
    ConformalFusionClassifier,
    DecisionFusionClassifier,
    FeatureFusionClassifier,
    FusionSearchCV,
]
NEURAL = [NeuralFusionClassifier, NeuralFusionRegressor]
REGRESSORS = [ConformalFusionRegressor, DecisionFusionRegressor, FeatureFusionRegressor]
EXPECTED_FAILURES = {
    **{fusion: {WEIGHTS: CLASSIFIER_HEADS} for fusion in CLASSIFIERS},
    **{fusion: {WEIGHTS: REGRESSOR_HEADS} for fusion in REGRESSORS},
    **{fusion: {WEIGHTS: BATCHES} for fusion in [*NEURAL, CrossModalDistiller]},
}
QUICK_FAILURES = {
    **{fusion: {WEIGHTS: INNER_FOLDS} for fusion in (ConformalFusionClassifier, ConformalFusionRegressor)},
    **{fusion: {WEIGHTS: BATCHES} for fusion in NEURAL},
}


LR = LogisticRegression()
EXACT = [
    CascadeFusionClassifier(LR),
    ConformalFusionClassifier(FeatureFusionClassifier(LR)),
    ConformalFusionRegressor(FeatureFusionRegressor(Ridge())),
    DecisionFusionClassifier(LR),
    DecisionFusionClassifier([LR, LogisticRegression(C=0.01)], refit=False, class_weight="balanced"),
    DecisionFusionRegressor(Ridge()),
    FeatureFusionClassifier(LR),
    FeatureFusionRegressor(Ridge()),
    FusionSearchCV({"late": DecisionFusionClassifier(LR, joint=False), "early": FeatureFusionClassifier(LR)}),
]


def expected_failures(estimator):
    return EXPECTED_FAILURES.get(type(estimator), {})


def test_all_fusions_were_found():
    assert len(FUSIONS) >= 4
    assert all(isinstance(fusion, BaseEstimator) for fusion in FUSIONS)


@pytest.mark.by_turns
@with_checks(
    [*QUICK, BlockScaler()],
    expected_failed_checks=lambda estimator: QUICK_FAILURES.get(type(estimator), {}),
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


# What depends on the heads: what they learn from odd tables and labels, whether twice the same, what they keep. All
# other checks ask what a fusion does before its first head is fitted; those run above, and with low effort.
OF_HEADS = {
    "check_all_zero_sample_weights_error",
    "check_classifiers_classes",
    "check_classifiers_one_label",
    "check_classifiers_one_label_sample_weights",
    "check_classifiers_train",
    "check_decision_proba_consistency",
    "check_dict_unchanged",
    "check_dtype_object",
    "check_estimators_dtypes",
    "check_estimators_overwrite_params",
    "check_estimators_pickle",
    "check_f_contiguous_array_estimator",
    "check_fit2d_1feature",
    "check_fit2d_1sample",
    "check_fit_idempotent",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_readonly_memmap_input",
    "check_regressors_int",
    "check_regressors_train",
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weights_not_overwritten",
    "check_supervised_y_2d",
}


def only_of_heads(checks):
    """The same parameters without the checks of the rest, and each of them in its first form."""
    names, cases = checks.args
    check_of = lambda case: getattr(case, "values", case)[1]
    kept = [case for case in cases if check_of(case).func.__name__ in OF_HEADS and not check_of(case).keywords]
    known = {name for name in OF_HEADS if hasattr(estimator_checks, name)}  # older versions of scikit-learn lack some
    assert {check_of(case).func.__name__ for case in kept} == known and len(known) > 20
    return pytest.mark.parametrize(names, kept, **checks.kwargs)


@pytest.mark.slow
@only_of_heads(with_checks(FULL, expected_failed_checks=expected_failures))
def test_scikit_learns_checks_with_the_default_heads(estimator, check):
    check(estimator)


@pytest.mark.by_turns
@with_checks(
    [DecisionFusionClassifier(effort="low"), DecisionFusionRegressor(effort="low")],
    expected_failed_checks=lambda estimator: (
        {WEIGHTS: REGRESSOR_HEADS} if isinstance(estimator, DecisionFusionRegressor) else {}
    ),
)
def test_scikit_learns_checks_with_low_effort(estimator, check):
    check(estimator)


@pytest.fixture
def small_trees(monkeypatch):
    """Trees for small tables, and few of them: the checks ask how members are fitted, not how good they are."""
    monkeypatch.setattr(_default_trees, "_MIN_ROWS", 20)
    monkeypatch.setattr(_default_trees, "_ROUNDS", 5)
    for forest in ("_EXTRA", "_RANDOM"):
        monkeypatch.setattr(_default_trees, forest, {**getattr(_default_trees, forest), "n_estimators": 5})


HIGH = [DecisionFusionClassifier(effort="high", cv=3), DecisionFusionRegressor(effort="high", cv=3)]


@pytest.mark.slow
@with_checks(HIGH, expected_failed_checks=expected_failures)
def test_scikit_learns_checks_with_high_effort(estimator, check, small_trees):
    check(estimator)


@pytest.mark.slow
@pytest.mark.parametrize("fusion", HIGH, ids=lambda f: type(f).__name__)
def test_the_librarys_own_contract_with_high_effort(fusion, small_trees, monkeypatch):
    def blocks_in_any_order(checks):
        """Five trees draw columns by their positions, so that predictions differ by more than the check allows."""
        turned = checks.X[list(checks.X.columns[::-1])]
        again = clone(checks.subject).fit(turned, checks.y)
        gaps = np.abs(checks._predict(checks.fitted, checks.X) - checks._predict(again, turned))
        assert gaps.mean() <= 0.02 and gaps.max() <= 0.25

    monkeypatch.setattr(_FusionChecks, "check_blocks_in_any_order", blocks_in_any_order)
    assert len(check_fusion(fusion)) >= 4


@pytest.mark.by_turns
@with_checks(
    [
        FeatureFusionClassifier(XGBClassifier(n_estimators=5), missing="native"),
        FusionSearchCV({"late": DecisionFusionRegressor(Ridge(), joint=False)}, kind="regressor"),
    ],
    expected_failed_checks=lambda estimator: (
        {WEIGHTS: "XGBoost rounds to single precision, differently for a row of weight 2 and two rows"}
        if isinstance(estimator, FeatureFusionClassifier)
        else {}
    ),
)
def test_scikit_learns_checks_in_other_settings(estimator, check):
    check(estimator)


@pytest.mark.by_turns
@pytest.mark.parametrize("fusion", EXACT, ids=lambda f: type(f).__name__)
def test_a_row_of_weight_two_is_two_rows(fusion):
    estimator_checks.check_sample_weight_equivalence_on_dense_data(type(fusion).__name__, fusion)


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda f: type(f).__name__)
def test_as_many_checks_run_as_for_scikit_learns_stacking(fusion):
    stacking = StackingRegressor([("ridge", Ridge())])
    if is_classifier(fusion):
        stacking = StackingClassifier([("lr", LogisticRegression())])
    count = lambda estimator: len({getattr(c, "func", c).__name__ for _, c in estimator_checks_generator(estimator)})
    assert count(fusion) >= count(stacking)


@pytest.mark.by_turns
@pytest.mark.parametrize("fusion", ALL, ids=lambda f: type(f).__name__)
def test_checks_that_scikit_learn_defines_but_never_yields(fusion):
    name = type(fusion).__name__
    estimator_checks.check_dataframe_column_names_consistency(name, clone(fusion))
    estimator_checks.check_estimators_overwrite_params(name, clone(fusion))


@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names")  # the check fits an array, too
@pytest.mark.parametrize("check", ["check_set_output_transform", "check_set_output_transform_pandas"])
def test_block_scaler_obeys_set_output(check):
    getattr(estimator_checks, check)("BlockScaler", BlockScaler())


@pytest.mark.by_turns
@pytest.mark.parametrize("fusion", ALL, ids=lambda f: type(f).__name__)
def test_the_librarys_own_contract(fusion):
    assert len(check_fusion(fusion)) >= 4
