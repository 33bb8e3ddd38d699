"""scikit-learn's own checks on every public estimator, found through the packages' ``__all__``."""

import warnings

import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import StackingClassifier, StackingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks
from xgboost import XGBClassifier

import ensemblefuse.features
import ensemblefuse.fusion
from ensemblefuse.features import BlockScaler
from ensemblefuse.fusion import (
    CascadeFusionClassifier,
    ConformalFusionClassifier,
    ConformalFusionRegressor,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
)
from ensemblefuse.testing import check_fusion

FUSIONS = [getattr(ensemblefuse.fusion, name)() for name in ensemblefuse.fusion.__all__]

EXPECTED_FAILURES = {
    CascadeFusionClassifier: {
        "check_sample_weight_equivalence_on_dense_data": "the smoothing of the default heads' temperatures counts rows;"
        " with a plain head the check passes, see tests/test_cascade_fusion.py",
    },
    ConformalFusionClassifier: {
        "check_sample_weight_equivalence_on_dense_data": "the temperatures of the default fusion are smoothed by "
        "1 / (number of rows + 2), for which a row of weight 2 is not the same as two rows",
    },
    ConformalFusionRegressor: {
        "check_sample_weight_equivalence_on_dense_data": "the default fusion tries a support vector regression, whose "
        "target is scaled without weights",
    },
    FeatureFusionRegressor: {
        "check_sample_weight_equivalence_on_dense_data": "RidgeCV, the default head, chooses its penalty by "
        "leave-one-out error, for which a row of weight 2 is not the same as two rows",
    },
}


def expected_failures(estimator):
    return EXPECTED_FAILURES.get(type(estimator), {})


def test_all_fusions_were_found():
    assert len(FUSIONS) >= 4
    assert all(isinstance(fusion, BaseEstimator) for fusion in FUSIONS)


@parametrize_with_checks(
    [*FUSIONS, BlockScaler(), FeatureFusionClassifier(XGBClassifier(n_estimators=5), missing="native")],
    expected_failed_checks=expected_failures,
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda f: type(f).__name__)
def test_as_many_checks_run_as_for_scikit_learns_stacking(fusion):
    stacking = (
        StackingClassifier([("lr", LogisticRegression())])
        if hasattr(fusion, "predict_proba") or "Classifier" in type(fusion).__name__
        else StackingRegressor([("ridge", Ridge())])
    )
    count = lambda estimator: sum(
        result["status"] in ("passed", "xfail")
        for result in check_estimator(
            estimator, on_fail=None, on_skip=None, expected_failed_checks=expected_failures(estimator)
        )
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks themselves warn
        assert count(fusion) >= count(stacking)


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda f: type(f).__name__)
def test_checks_that_scikit_learn_defines_but_never_yields(fusion):
    name = type(fusion).__name__
    estimator_checks.check_dataframe_column_names_consistency(name, clone(fusion))
    estimator_checks.check_estimators_overwrite_params(name, clone(fusion))


@pytest.mark.parametrize("check", ["check_set_output_transform", "check_set_output_transform_pandas"])
def test_block_scaler_obeys_set_output(check):
    getattr(estimator_checks, check)("BlockScaler", BlockScaler())


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda f: type(f).__name__)
def test_the_librarys_own_contract(fusion):
    assert len(check_fusion(fusion)) >= 4
