"""Table of the classes that can be written as ONNX, and of those that cannot."""

from __future__ import annotations

import pandas as pd

__all__ = ["onnx_support"]

# tests/test_onnx_export.py tries each line.
_WORKS = {
    "fusion": [
        *("DecisionFusionClassifier", "DecisionFusionRegressor", "FeatureFusionClassifier", "FeatureFusionRegressor"),
        *("NeuralFusionClassifier", "NeuralFusionRegressor"),
    ],
    "pool": ["DempsterShaferPool", "EntropyPool", "GreedyPool", "LogPool", "MeanPool", "StackingPool", "VotePool"],
    "transformer": [
        *("BlockNystroem", "BlockPCA", "BlockScaler", "FunctionTransformer", "IncrementalPCA", "KernelPCA"),
        *("MaxAbsScaler", "MinMaxScaler", "Normalizer", "Nystroem", "PCA", "PolynomialFeatures", "PowerTransformer"),
        *("QuantileTransformer", "RobustScaler", "SelectKBest", "SimpleImputer", "StandardScaler", "TruncatedSVD"),
        "VarianceThreshold",
    ],
    "classifier": [
        *("AdaBoostClassifier", "BaggingClassifier", "BernoulliNB", "CalibratedClassifierCV", "DecisionTreeClassifier"),
        *("ExtraTreesClassifier", "GaussianNB", "GradientBoostingClassifier", "GridSearchCV", "KNeighborsClassifier"),
        *("LinearDiscriminantAnalysis", "LinearSVC", "LogisticRegression", "LogisticRegressionCV", "MLPClassifier"),
        *("NuSVC", "OneVsRestClassifier", "Perceptron", "QuadraticDiscriminantAnalysis", "RandomForestClassifier"),
        *("RidgeClassifier", "RidgeClassifierCV", "SGDClassifier", "SVC", "VotingClassifier", "XGBClassifier"),
        "XGBRFClassifier",
    ],
    "regressor": [
        *("AdaBoostRegressor", "BaggingRegressor", "BayesianRidge", "DecisionTreeRegressor", "ElasticNet"),
        *("ExtraTreesRegressor", "GradientBoostingRegressor", "HuberRegressor", "KNeighborsRegressor", "Lasso"),
        *("LinearRegression", "LinearSVR", "LogTargetRegressor", "MLPRegressor", "NuSVR", "QuantileRegressor"),
        *("RandomForestRegressor", "Ridge", "RidgeCV", "SVR", "TransformedTargetRegressor", "VotingRegressor"),
        "XGBRegressor",
    ],
}
_NOTES = {
    "KNeighborsClassifier": "weights='uniform'",
    "SVC": "multiclass: also as OneVsRestClassifier(SVC())",
    "TransformedTargetRegressor": "transformer=StandardScaler()",
    "VotingClassifier": "voting='soft'",
}
_FAILS = {
    "fusion": {
        "CascadeFusionClassifier": "DecisionFusionClassifier",
        "CooperativeClassifier": "FeatureFusionClassifier",
        "CooperativeRegressor": "FeatureFusionRegressor",
        "KernelFusionClassifier": "FeatureFusionClassifier(transformer=BlockNystroem())",
        "KernelFusionRegressor": "FeatureFusionRegressor(transformer=BlockNystroem())",
        "NeuralFusionMultiTask": "single_task(target) of the model",
        "SequentialFusionClassifier": "DecisionFusionClassifier",
        "SequentialFusionRegressor": "DecisionFusionRegressor",
    },
    "transformer": {
        "CommonSpaceProjector": "BlockPCA",
        "CrossModalImputer": "missing='dropout'",
        "FastICA": "PCA",
        "KBinsDiscretizer": "StandardScaler",
        "KNNImputer": "SimpleImputer",
    },
    "classifier": {
        "GaussianProcessClassifier": "SVC",
        "HistGradientBoostingClassifier": "XGBClassifier",
        "NearestCentroid": "LinearDiscriminantAnalysis",
        "OneVsOneClassifier": "OneVsRestClassifier",
    },
    "regressor": {"GaussianProcessRegressor": "SVR", "HistGradientBoostingRegressor": "XGBRegressor"},
}


def onnx_support() -> pd.DataFrame:
    """Return a table of the classes that `export_onnx` can write, and of those that it cannot.

    All classes in it have been tried: heads as the estimator of each block and as the joint member, transformers in a
    pipeline before a head (transformers of blocks as ``transformer=`` of feature-level fusion). Other classes may work
    if skl2onnx converts them; pass an ``example``.

    Returns
    -------
    DataFrame
        One row per class, sorted: ``kind`` ("fusion", "pool", "transformer", "classifier" or "regressor"), ``name``,
        ``works`` (bool) and ``note`` (with which parameters, or what to use instead).

    See Also
    --------
    export_onnx

    Examples
    --------
    >>> from ensemblefuse import onnx_support
    >>> table = onnx_support().set_index("name")
    >>> bool(table.loc["LogPool", "works"]), table.loc["HistGradientBoostingClassifier", "note"]
    (True, 'use XGBClassifier')
    """
    rows = [(kind, name, True, _NOTES.get(name, "")) for kind, names in _WORKS.items() for name in names]
    rows += [(kind, name, False, f"use {other}") for kind, some in _FAILS.items() for name, other in some.items()]
    table = pd.DataFrame(rows, columns=["kind", "name", "works", "note"])
    return table.sort_values(["kind", "name"], ignore_index=True)
