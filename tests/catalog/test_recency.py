"""Weights of seeds by recency."""

from __future__ import annotations

import math

import numpy as np
import pytest

from catalog.recency import Recency

AGES = np.array([0, 1, 3, 8])


@pytest.mark.parametrize(
    ("power", "expected"),
    [
        (0.0, [1, 1, 1, 1]),
        (0.5, [1, 0.5**0.5, 0.5, 1 / 3]),
        (1.0, [1, 1 / 2, 1 / 4, 1 / 9]),
        (math.inf, [1, 0, 0, 0]),
    ],
)
def test_weights_fall_by_a_power_of_the_age(power: float, expected: list[float]) -> None:
    np.testing.assert_allclose(Recency(power).weights(AGES), expected)


def test_an_infinite_power_leaves_the_most_recent_seed_at_any_age() -> None:
    np.testing.assert_array_equal(Recency(math.inf).weights(np.array([5, 7])), [1, 0])


@pytest.mark.parametrize("recency", [Recency(1.0), Recency(math.inf), Recency(decay=0.5)])
def test_no_seeds_have_no_weights(recency: Recency) -> None:
    assert recency.weights(np.array([], np.int64)).shape == (0,)


def test_powers_do_not_depend_on_the_other_seeds() -> None:
    np.testing.assert_allclose(Recency(1.0).weights(np.array([1, 3])), [1 / 2, 1 / 4])


def test_weights_of_format_2_decay_from_the_most_recent_seed() -> None:
    np.testing.assert_allclose(Recency(decay=0.5).weights(AGES + 3_000), [1, 1 / 2, 1 / 8, 1 / 256])
    np.testing.assert_array_equal(Recency(decay=0.0).weights(AGES), [1, 0, 0, 0])


def test_sparse_and_dense_queries_have_separate_recency() -> None:
    parameters = {"recency": 1.25, "dense_recency": 0}
    assert Recency.of_sparse(parameters) == Recency(1.25)
    assert Recency.of_dense(parameters) == Recency(0.0)
    old = {"query_decay": 0.9, "cooccurrence_decay": 0.95}
    assert Recency.of_sparse(old) == Recency(decay=0.95)
    assert Recency.of_dense(old) == Recency(decay=0.9)
    assert Recency.of_sparse({"query_decay": 0.9}) == Recency(decay=0.9)
