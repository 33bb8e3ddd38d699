"""Old names: they work as the new ones do, and warn by name."""

import inspect
import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted, validate_data

from ensemblefuse._deprecation import read_renamed, renamed, renamed_parameter


class Stretch(TransformerMixin, BaseEstimator):
    """Its parameter `factor` was once called `scale`."""

    def __init__(self, factor=1.0, scale="deprecated"):
        self.factor = factor
        self.scale = scale

    def fit(self, X, y=None):
        validate_data(self, X)
        self.factor_ = read_renamed(self, "scale", "factor", removal="0.4")
        return self

    def transform(self, X):
        check_is_fitted(self)
        return validate_data(self, X, reset=False) * self.factor_


@renamed("Stretch", removal="0.4")
class Enlarge(Stretch):
    """The old name of `Stretch`."""


@renamed("double", removal="0.4")
def twice(number):
    """The old name of `double`."""
    return 2 * number


@renamed_parameter("rounds", "n_rounds", removal="0.4")
def search(X, n_rounds=10, *, seed=0):
    """A function with a renamed parameter."""
    return X, n_rounds, seed


class Searcher:
    @renamed_parameter("rounds", "n_rounds", removal="0.4")
    def search(self, n_rounds=10):
        return self, n_rounds


X = np.arange(12.0).reshape(6, 2)
MESSAGE = "{} is deprecated; use {} instead. ensemblefuse 0.4 removes it."


def one_warning(caught):
    """Text of the only warning, of the class that Python shows to users."""
    assert [warning.category for warning in caught] == [FutureWarning]
    return str(caught[0].message)


def test_a_renamed_function_works_and_warns_with_both_names_and_the_version():
    with pytest.warns(FutureWarning) as caught:
        assert twice(3) == 6
    assert one_warning(caught) == MESSAGE.format("Function twice", "double")
    assert (twice.__name__, twice.__doc__) == ("twice", "The old name of `double`.")


def test_a_renamed_class_is_the_new_one_and_warns():
    with pytest.warns(FutureWarning) as caught:
        old = Enlarge(factor=2.0)
    assert one_warning(caught) == MESSAGE.format("Class Enlarge", "Stretch")
    assert isinstance(old, Stretch)
    assert inspect.signature(Enlarge) == inspect.signature(Stretch)
    for copy in (clone, lambda model: pickle.loads(pickle.dumps(model))):
        with pytest.warns(FutureWarning, match="use Stretch"):
            assert copy(old).get_params() == {"factor": 2.0, "scale": "deprecated"}


@pytest.mark.filterwarnings("error")
def test_the_class_under_its_new_name_does_not_warn():
    assert Stretch(factor=2.0).factor == 2.0


def test_a_renamed_parameter_of_a_function_warns_where_it_is_called():
    with pytest.warns(FutureWarning) as caught:
        assert search(1, rounds=3, seed=5) == (1, 3, 5)
    assert one_warning(caught) == MESSAGE.format("Parameter rounds of search", "n_rounds")
    assert caught[0].filename == __file__


def test_a_renamed_parameter_of_a_method_warns():
    searcher = Searcher()
    with pytest.warns(FutureWarning) as caught:
        assert searcher.search(rounds=3) == (searcher, 3)
    assert one_warning(caught) == MESSAGE.format("Parameter rounds of search", "n_rounds")


@pytest.mark.filterwarnings("error")
def test_the_new_parameter_does_not_warn_by_name_or_by_position():
    assert search(1) == (1, 10, 0)
    assert search(1, 3) == search(1, n_rounds=3) == (1, 3, 0)
    assert list(inspect.signature(search).parameters) == ["X", "n_rounds", "seed"]


@pytest.mark.filterwarnings("ignore:Parameter rounds:FutureWarning")
def test_both_parameters_of_a_function_are_an_error():
    with pytest.raises(TypeError, match="search takes n_rounds or its old name rounds, not both"):
        search(1, rounds=3, n_rounds=3)
    with pytest.raises(TypeError, match="n_rounds"):
        search(1, 3, rounds=3)


def test_a_renamed_parameter_of_an_estimator_warns_in_fit_alone():
    with warnings.catch_warnings(action="error"):
        old = Stretch(scale=3.0)
    with pytest.warns(FutureWarning) as caught:
        fitted = old.fit(X)
    assert one_warning(caught) == MESSAGE.format("Parameter scale of Stretch", "factor")
    with warnings.catch_warnings(action="error"):
        np.testing.assert_array_equal(fitted.transform(X), Stretch(factor=3.0).fit_transform(X))


@pytest.mark.filterwarnings("error")
def test_an_estimator_with_a_renamed_parameter_does_not_warn_unless_the_old_one_is_set():
    assert Stretch().fit(X).factor_ == 1.0
    assert Stretch(factor=3.0).fit(X).factor_ == 3.0


@pytest.mark.filterwarnings("ignore:Skipping check")
def test_an_estimator_with_a_renamed_parameter_keeps_the_contract_of_scikit_learn():
    check_estimator(Stretch())


def test_clone_set_params_and_searches_take_the_old_name():
    old = clone(Stretch(scale=3.0))
    assert old.get_params() == {"factor": 1.0, "scale": 3.0}
    with pytest.warns(FutureWarning, match="use factor"):
        assert old.set_params(scale=4.0).fit(X).factor_ == 4.0
    grid = GridSearchCV(make_pipeline(Stretch(), Ridge()), {"stretch__scale": [0.0, 2.0]}, cv=2)
    with pytest.warns(FutureWarning, match="use factor"):
        assert grid.fit(X, X[:, 0]).best_estimator_[0].factor_ == 2.0


def test_an_array_may_be_the_value_of_a_renamed_parameter():
    with pytest.warns(FutureWarning, match="use factor"):
        np.testing.assert_array_equal(Stretch(scale=np.array([1.0, 2.0])).fit(X).factor_, [1.0, 2.0])
    with pytest.raises(ValueError, match="not both"):
        Stretch(factor=np.array([1.0, 2.0]), scale=2.0).fit(X)


@pytest.mark.filterwarnings("error")
def test_both_parameters_of_an_estimator_are_an_error():
    with pytest.raises(ValueError, match="Stretch takes factor or its old name scale, not both"):
        Stretch(factor=2.0, scale=3.0).fit(X)
