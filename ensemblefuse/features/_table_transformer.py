"""The columns of a table, with the written forms of their cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from sklearn.compose import ColumnTransformer
from sklearn.utils._param_validation import StrOptions

from ensemblefuse.features.forms import check_formats

__all__ = ["TableTransformer"]


class _Checked:
    """The `fit_transform` of `TableTransformer`, which `fit` calls, too.

    This class is not a subclass of a transformer: `set_output` wraps the methods of such classes, and would name all
    columns twice.
    """

    def fit_transform(self: Any, X: Any, y: Any = None, **params: Any) -> Any:
        """Check `formats`, fit all transformers and return their output; see `sklearn.compose.ColumnTransformer`."""
        check_formats(self.formats)
        return ColumnTransformer.fit_transform(self, X, y, **params)


class TableTransformer(_Checked, ColumnTransformer):
    """A `ColumnTransformer` that knows in which written form its columns hold numbers, dates, booleans and tags.

    `infer_modalities` makes one for the table. A `ModalityTransformer` around it reads its columns by these forms, so
    that a column is read alike in every fit on part of the table, as in cross-validation. It finds the form itself, in
    the rows of fit, where none is given. Alone, this transformer hands cells on as they are, and reads none.

    Parameters
    ----------
    transformers : list of (name, transformer, columns)
    formats : dict of column to dict, optional
        Written forms, as `infer_modalities` finds them: plain settings such as
        ``{"kind": "date", "formats": ["%d/%m/%Y"]}``. The kinds are ``"number"`` (``decimal``, ``thousands``,
        ``currency``, ``dimension``, ``unit``, ``ranges`` for the middle of ``5 - 10``), ``"date"`` (``formats``,
        ``utc``), ``"boolean"``, ``"tags"`` (``separator``), ``"censored"`` (as ``"number"``) and ``"numbers"`` (as
        ``"number"``, with ``sign`` and ``size``). ``missing`` lists words for missing cells, and ``seen`` says in words
        what the cells are. What is left out has its default. ``"category"`` and ``"text"`` keep cells from being read
        as booleans, dates or numbers where some of them alone look so. A form has no effect if no transformer in
        `transformers` reads its column so.
    on_error : {"raise", "missing"}, default="raise"
        What becomes of a cell that cannot be read as its column requires, such as ``"cheap"`` among numbers.
        ``"raise"`` stops with one list of all such cells. ``"missing"`` takes them as missing and warns once. In a
        fitted pipeline, ``model.set_params(encode__tabular__on_error="missing")`` takes effect at once.
    remainder, sparse_threshold, n_jobs, transformer_weights, verbose, verbose_feature_names_out
        As in `ColumnTransformer`.

    Raises
    ------
    TypeError
        In `fit`, if `formats` is no dict.
    ValueError
        In `fit`, if a form in `formats` is none.

    Notes
    -----
    A form is learned from the features alone, never from labels or from how well a model does. It says how a file was
    written, and not how its values are distributed.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import TableTransformer, infer_modalities
    >>> shop = pd.DataFrame({"sold": ["01/02/2021", "25/03/2021", "04/05/2021"], "paid": ["yes", "no", "n/a"]})
    >>> table = infer_modalities(shop, verbose=False)[0][1]
    >>> table.formats["sold"]
    {'kind': 'date', 'formats': ['%d/%m/%Y'], 'seen': 'dates as day/month/year'}
    >>> table.formats["paid"]
    {'kind': 'boolean', 'missing': ['n/a'], 'seen': 'yes or no'}
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **ColumnTransformer._parameter_constraints,
        "formats": [dict, None],
        "on_error": [StrOptions({"raise", "missing"})],
    }

    on_error = "raise"  # in files of before, which have no such parameter

    def __init__(
        self,
        transformers: list[tuple[str, Any, Any]],
        *,
        formats: dict[Any, dict[str, Any]] | None = None,
        on_error: str = "raise",
        remainder: Any = "drop",
        sparse_threshold: float = 0.3,
        n_jobs: int | None = None,
        transformer_weights: Mapping[str, float] | None = None,
        verbose: bool = False,
        verbose_feature_names_out: Any = True,
    ):
        super().__init__(
            transformers,
            remainder=remainder,
            sparse_threshold=sparse_threshold,
            n_jobs=n_jobs,
            transformer_weights=transformer_weights,
            verbose=verbose,
            verbose_feature_names_out=verbose_feature_names_out,
        )
        self.formats = formats
        self.on_error = on_error
