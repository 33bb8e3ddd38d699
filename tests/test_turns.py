"""Parameters that take turns in the fast tests: each has a turn, and each test runs every day."""

import itertools

from conftest import TURNS, has_its_turn


def test_every_parameter_has_a_turn_and_every_turn_a_parameter():
    for n in range(1, 20):
        days = [[i for i in range(n) if has_its_turn(i, n, turn)] for turn in range(TURNS)]
        assert all(days)
        assert sorted(set(itertools.chain(*days))) == list(range(n))
        assert n < TURNS or sum(map(len, days)) == n  # the slow tests run what is left, so none runs twice
        assert max(map(len, days)) <= n / min(n, TURNS) + 1


def test_two_parameters_meet_one_another_in_every_turn():
    pairs = list(itertools.product("abc", range(3)))
    for turn in range(TURNS):
        there = [pair for i, pair in enumerate(pairs) if has_its_turn(i, len(pairs), turn)]
        assert {a for a, _ in there} == set("abc") and {b for _, b in there} == set(range(3))
