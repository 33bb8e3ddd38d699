"""The parameter `estimators` of decision-level fusion: one for all blocks, or a dict, several a block. Floor 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn.pipeline import _name_estimators

from ensemblefuse.fusion._base import BaseFusion, check_estimator_kind, takes_nan
from ensemblefuse.fusion._joint import JOINT

__all__ = ["EstimatorsFusion"]

DROP = "drop"


class EstimatorsFusion(BaseFusion):
    """Reads `estimators`, and makes what is in it reachable by `get_params` and `set_params`."""

    def get_params(self, deep=True):
        """Parameters; with ``deep=True`` also those of estimators in dicts and lists.

        Their names are ``estimators__<block>__<param>``, and ``estimators__<block>__<head>__<param>`` where a block has
        several heads.
        """
        params = super().get_params(deep=deep)
        if deep:
            for path, estimator in self._named():
                params[path] = estimator
                if hasattr(estimator, "get_params"):
                    params.update({f"{path}__{key}": value for key, value in estimator.get_params(deep=True).items()})
        return params

    def set_params(self, **params):
        """Set parameters; see `get_params`."""
        if "estimators" in params:
            self.estimators = params.pop("estimators")
        nested = {key: params.pop(key) for key in list(params) if key.startswith("estimators__")}
        if not isinstance(self.estimators, (Mapping, list)):
            return super().set_params(**params, **nested)
        for key, value in nested.items():
            self._set_nested(key, value)
        return super().set_params(**params)

    def _set_nested(self, key: str, value: Any) -> None:
        paths = [path for path, _ in self._named()]
        owner = max((p for p in paths if key == p or key.startswith(f"{p}__")), key=len, default=None)
        if owner is None:
            known = list(self.estimators) if isinstance(self.estimators, Mapping) else paths
            raise ValueError(f"Invalid parameter {key!r}: estimators names {known}.")
        if key != owner:
            dict(self._named())[owner].set_params(**{key.removeprefix(f"{owner}__"): value})
        else:
            self.estimators = _replaced(self.estimators, owner.split("__")[1:], value)

    def _named(self) -> list[tuple[str, Any]]:
        """Path and value of all that `estimators` holds."""
        if isinstance(self.estimators, Mapping):
            named: list[tuple[str, Any]] = []
            for block, given in self.estimators.items():
                named.append((f"estimators__{block}", given))
                if isinstance(given, list):
                    named += [(f"estimators__{block}__{head}", est) for head, est in name_heads(given)]
            return named
        if isinstance(self.estimators, list):
            return [(f"estimators__{head}", estimator) for head, estimator in name_heads(self.estimators)]
        return []

    def _given(self, name: str) -> Any:
        """What the user gave for a block, or for the joint member: None, an estimator, a list, or "drop"."""
        if isinstance(self.estimators, Mapping):
            return self.estimators.get(name)
        return self.estimators

    def _heads_of(self, name: str) -> list[tuple[str, Any]]:
        """Member name and estimator of each head; None for the default."""
        given = self._given(name)
        if isinstance(given, str) and given == DROP:
            return []
        if isinstance(given, list):
            return [(f"{name}/{head}", estimator) for head, estimator in name_heads(given)]
        return [(name, given)]

    def _used_blocks(self) -> list[str]:
        return [name for name in self.blocks_ if self._heads_of(name)]

    def _partial_blocks(self) -> frozenset[str]:
        """Blocks all of whose estimators take NaN beside numbers."""
        takers = []
        for name in self.blocks_:
            heads = [estimator for _, estimator in self._heads_of(name)]
            if all(estimator is not None and takes_nan(estimator) for estimator in heads):
                takers.append(name)
        return frozenset(takers)

    def _check_estimators(self) -> None:
        if JOINT in self.blocks_ and (self.joint or isinstance(self.estimators, Mapping)):
            raise ValueError(f"{JOINT!r} is the name of the member over all blocks; rename the block.")
        if isinstance(self.estimators, Mapping):
            self._require_blocks({k: v for k, v in self.estimators.items() if k != JOINT}, "estimators")
        for name in [*self.blocks_, JOINT]:
            if isinstance(self._given(name), list) and not self._given(name):
                raise ValueError(f"estimators holds an empty list for {name!r}; name an estimator, or 'drop'.")
            for _, estimator in self._heads_of(name):
                if estimator is not None:
                    check_estimator_kind(self, name, estimator, classify=self._classify)
        if not self._used_blocks():
            raise ValueError(f"estimators drops every block: {list(self.blocks_)}.")
        bare = [name for name in self.raw_blocks_ for _, estimator in self._heads_of(name) if estimator is None]
        if bare:
            raise ValueError(
                f"The blocks {bare} hold raw cells and have no estimator. Name one that takes them, as in "
                f"estimators={{{bare[0]!r}: make_pipeline(TfidfVectorizer(), LogisticRegression())}}, or encode them."
            )


def name_heads(given: list) -> list[tuple[str, Any]]:
    """Several heads of one block, under the names that the user gave them or under those of their classes."""
    if all(isinstance(item, tuple) and len(item) == 2 for item in given):
        names = [str(name) for name, _ in given]
        if len(set(names)) < len(names):
            raise ValueError(f"estimators names heads twice: {names}.")
        return [(str(name), estimator) for name, estimator in given]
    return _name_estimators(given)


def _replaced(given: Any, path: list[str], value: Any) -> Any:
    """`given` with one of its parts replaced, none of them changed in place."""
    if not path:
        return value
    if isinstance(given, Mapping):
        return {**given, path[0]: _replaced(given[path[0]], path[1:], value)}
    pairs = name_heads(given)
    new = [(name, value if name == path[0] else estimator) for name, estimator in pairs]
    return new if isinstance(given[0], tuple) else [estimator for _, estimator in new]
