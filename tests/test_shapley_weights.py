"""Shapley values and interaction indices against worked games and their axioms."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ensemblefuse.fitted.subsets import all_subsets
from ensemblefuse.inspection._shapley_weights import interactions_of, shapley_of, shapley_values

# Accuracies with nothing, the one, the other, both; the values; the interaction.
GAMES = {
    "xor": ([0.5, 0.5, 0.5, 1.0], [0.25, 0.25], 0.5),
    "copy": ([0.5, 1.0, 1.0, 1.0], [0.25, 0.25], -0.5),
    "additive": ([0.5, 0.7, 0.6, 0.8], [0.2, 0.1], 0.0),
}


@pytest.mark.parametrize("game", GAMES)
def test_games_of_two(game):
    worth, values, interaction = GAMES[game]
    assert_allclose(shapley_of(np.array(worth), "ab"), values)
    assert_allclose(interactions_of(np.array(worth), "ab"), [interaction], atol=1e-15)


def test_the_glove_game():
    """One left glove and two right ones: a pair is worth 1; the values are 2/3, 1/6, 1/6."""
    worth = {frozenset(s): float("left" in s and len(s) > 1) for s in all_subsets(["left", "right", "right 2"])}
    assert shapley_values(worth) == pytest.approx({"left": 2 / 3, "right": 1 / 6, "right 2": 1 / 6})


def test_a_game_without_a_subset_is_refused():
    with pytest.raises(ValueError, match=r"worth lacks \[\(\)\]; it must hold all 4 subsets of \['a', 'b'\]"):
        shapley_values({("a",): 1.0, ("b",): 1.0, ("a", "b"): 1.0})


@st.composite
def games(draw):
    names = [f"m{i}" for i in range(draw(st.integers(2, 6)))]
    numbers = st.floats(-100, 100, width=32)
    return names, np.array(draw(st.lists(numbers, min_size=2 ** len(names), max_size=2 ** len(names))))


@settings(deadline=None)
@given(games())
def test_efficiency_what_the_whole_is_worth_is_shared_out(game):
    names, worth = game
    assert_allclose(shapley_of(worth, names).sum(), worth[-1] - worth[0], atol=1e-9)


@settings(deadline=None)
@given(games())
def test_symmetry_renamed_players_keep_their_values(game):
    names, worth = game
    given_ = {frozenset(s): v for s, v in zip(all_subsets(names), worth, strict=True)}
    turned = dict(zip(names, names[::-1], strict=True))
    renamed = shapley_values({frozenset(turned[m] for m in s): v for s, v in given_.items()})
    assert_allclose([renamed[turned[m]] for m in names], shapley_of(worth, names), atol=1e-9)


@settings(deadline=None)
@given(games())
def test_dummy_who_adds_nothing_gets_nothing_and_interacts_with_none(game):
    names, worth = game
    of = {frozenset(s): v for s, v in zip(all_subsets(names), worth, strict=True)}
    more = [*names, "dummy"]
    idle = np.array([of[frozenset(s) - {"dummy"}] for s in all_subsets(more)])
    assert_allclose(shapley_of(idle, more), [*shapley_of(worth, names), 0], atol=1e-9)
    of_pairs = dict(zip(combinations(more, 2), interactions_of(idle, more), strict=True))
    assert_allclose([v for pair, v in of_pairs.items() if "dummy" in pair], 0, atol=1e-9)


def test_many_games_at_once():
    worth = np.random.default_rng(0).normal(size=(8, 5, 2))
    assert_allclose(shapley_of(worth, "abc")[:, 3, 1], shapley_of(worth[:, 3, 1], "abc"))
