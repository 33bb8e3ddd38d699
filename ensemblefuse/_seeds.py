"""Seeds of the library's own draws, so that they share no random numbers with the user's table."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

__all__ = ["own_seed"]

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
