"""The parameters of neural fusions: those that all of them have, and which values they take."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypedDict

from ensemblefuse.training.settings import check_training, require_number, require_one_of, require_whole

__all__ = [
    "FUSIONS",
    "NeuralParameters",
    "OnlyWithFolds",
    "SharedParameters",
    "check_parameters",
    "stops_early",
    "with_shared",
]

# As in `_neural_nets`, which imports torch.
FUSIONS = ("concat", "sum", "late", "gated", "lowrank", "attention", "cross_attention", "hybrid_encoder")
_WITH_HEADS = ("attention", "cross_attention")
# With early_stopping="auto", members hold out folds from this number of rows on. Below, a fixed number of epochs was as
# good, and a fit took a third of the time.
_ENOUGH_ROWS = 500


class NeuralParameters:
    """The parameters that all neural fusions have; `NeuralFusionClassifier` says what they mean."""

    def __init__(
        self,
        fusion="gated",
        *,
        hidden=64,
        n_layers=1,
        n_heads=4,
        rank=4,
        dropout=0.3,
        modality_dropout=0.0,
        auxiliary_weight=0.0,
        n_members=5,
        max_epochs=30,
        early_stopping="auto",
        cv=5,
        batch_size=32,
        learning_rate=2e-3,
        weight_decay=0.01,
        schedule="cosine",
        noise=0.0,
        mixup=0.0,
        time_limit=None,
        device="cpu",
        warm_start=False,
        random_state=None,
        blocks=None,
    ):
        self.fusion = fusion
        self.hidden = hidden
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.rank = rank
        self.dropout = dropout
        self.modality_dropout = modality_dropout
        self.auxiliary_weight = auxiliary_weight
        self.n_members = n_members
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.cv = cv
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.noise = noise
        self.mixup = mixup
        self.time_limit = time_limit
        self.device = device
        self.warm_start = warm_start
        self.random_state = random_state
        self.blocks = blocks


class SharedParameters(TypedDict, total=False):
    """Parameters of all neural fusions by keyword, for type checkers; the defaults are in `NeuralParameters`."""

    hidden: int
    n_layers: int
    n_heads: int
    rank: int
    dropout: float
    modality_dropout: float
    auxiliary_weight: float
    n_members: int
    max_epochs: int
    early_stopping: Any
    cv: Any
    batch_size: int
    learning_rate: float
    weight_decay: float
    schedule: str
    noise: float
    mixup: float
    time_limit: float | None
    device: str
    warm_start: bool
    random_state: Any
    blocks: Any


def with_shared(shared_init: Callable) -> Callable[[Callable], Callable]:
    """Decorate an ``__init__`` that takes ``**shared``: its signature names the parameters of another one in place.

    scikit-learn reads names and defaults of parameters from the signature, and so do editors and `help`.

    Examples
    --------
    >>> import inspect
    >>> from ensemblefuse.fusion._neural_parameters import with_shared
    >>> def base(self, fusion="gated", *, hidden=64): ...
    >>> @with_shared(base)
    ... def init(self, fusion="gated", *, tasks=None, **shared): ...
    >>> print(inspect.signature(init))
    (self, fusion='gated', *, tasks=None, hidden=64)
    """

    def decorate(init: Callable) -> Callable:
        own = inspect.signature(init)
        named = {name: p for name, p in own.parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD}
        more = {name: p for name, p in inspect.signature(shared_init).parameters.items() if name not in named}
        init.__signature__ = own.replace(parameters=[*named.values(), *more.values()])  # type: ignore[attr-defined]
        return init

    return decorate


def stops_early(fusion: Any, n_rows: int) -> bool:
    """Return whether the networks of a fit of so many rows hold out folds, and stop by them."""
    return n_rows >= _ENOUGH_ROWS if fusion.early_stopping == "auto" else bool(fusion.early_stopping)


class OnlyWithFolds:
    """An attribute that only a fit with folds has: without it, the error says how to get one.

    It is no data descriptor, so the value that `fit` sets comes first.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, fusion: Any, owner: type) -> Any:
        if fusion is None:
            return self
        told = f"{type(fusion).__name__!r} object has no attribute {self._name!r}"
        if not hasattr(fusion, "state_"):
            raise AttributeError(told)
        raise AttributeError(
            f"{told}: fit trained for a fixed number of epochs, so that no network held out a row "
            f'(early_stopping={fusion.early_stopping!r}; "auto" holds out folds from {_ENOUGH_ROWS} rows on). Fit with '
            "early_stopping=True, or use cross_val_predict."
        )


def check_parameters(fusion: Any) -> None:
    """Raise an error for a parameter of a neural fusion that is wrong; names of blocks are checked elsewhere."""
    require_one_of(fusion, "fusion", FUSIONS)
    for name in ("hidden", "n_layers", "n_heads", "rank"):
        require_whole(fusion, name)
    check_training(fusion)
    if fusion.fusion in _WITH_HEADS and fusion.hidden % fusion.n_heads:
        raise ValueError(
            f"hidden={fusion.hidden} cannot be divided among n_heads={fusion.n_heads}; pass a multiple, such as "
            f"hidden={fusion.n_heads * max(1, round(fusion.hidden / fusion.n_heads))}."
        )
    for name in ("dropout", "modality_dropout", "label_smoothing"):
        require_number(fusion, name, least=0, below=1)
    for name in ("auxiliary_weight", "noise", "mixup"):
        require_number(fusion, name, least=0)
