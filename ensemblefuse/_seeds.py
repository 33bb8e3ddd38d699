"""Seeds of the library's own draws, so that they share no random numbers with the user's table."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

__all__ = ["fit_seed", "own_seed"]

# Fits of networks are repeatable without a seed, as those of XGBoost are.
_SEED = 748_190
_LIBRARY = int.from_bytes(b"ensemblefuse", "big")


def own_seed(random_state: Any) -> Any:
    """Return the seed that the library uses for the seed of a user.

    A table is often drawn from the generator of seed 0 or 42. Labels, masks or permutations from the same generator
    would be the same numbers, and so reveal what they must not.

    Parameters
    ----------
    random_state : int, RandomState, Generator or None

    Returns
    -------
    int, RandomState, Generator or None
        Another int for each int. Anything else is returned as it is.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse._seeds import own_seed
    >>> ours, yours = np.random.default_rng(own_seed(0)).random(3), np.random.default_rng(0).random(3)
    >>> bool((ours == yours).any())
    False
    """
    if not isinstance(random_state, Integral) or isinstance(random_state, bool):
        return random_state
    return int(np.random.SeedSequence([_LIBRARY, int(random_state)]).generate_state(1)[0])


def fit_seed(random_state: Any) -> int:
    """Return the seed of a fit, to which some may be added for its parts: a fixed one for None."""
    if random_state is None:
        return _SEED
    return int(check_random_state(own_seed(random_state)).randint(2**31 - 16))
