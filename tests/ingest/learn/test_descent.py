"""Coordinate descent, and the preference for simpler values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ingest.learn.descent import choose_simplest, descend
from ingest.learn.rank_metrics import clustered_error, standard_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def test_the_error_of_independent_values_is_the_standard_error() -> None:
    values = np.array([0.0, 1.0, 1.0, 3.0])
    assert clustered_error(values, np.arange(4)) == pytest.approx(standard_error(values))


def test_values_of_one_cluster_count_once() -> None:
    # The sums of the deviations in the two clusters are -0.5 and 0.5.
    values = np.array([0.0, 1.0, 1.0, 1.0, 0.0])[:4]
    clusters = np.array([7, 7, 3, 3])
    by_hand = (2 * ((-0.5) ** 2 + 0.5**2)) ** 0.5 / 4
    assert clustered_error(values, clusters) == pytest.approx(by_hand)
    assert clustered_error(values, np.zeros(4, np.int64)) == 0.0
    assert clustered_error(np.zeros(0), np.zeros(0, np.int64)) == 0.0


def ranks_of_cases(first: int, others: int, count: int = 100) -> NDArray[np.int64]:
    """Return the ranks of `count` cases: `first` at rank 1, `others` at rank 3, the rest misses."""
    return np.array([1] * first + [3] * others + [0] * (count - first - others))


def test_the_simplest_value_within_a_standard_error_is_chosen() -> None:
    clusters = np.arange(100)
    clear = {0.0: ranks_of_cases(0, 0), 0.5: ranks_of_cases(30, 0), 1.0: ranks_of_cases(31, 0)}
    assert choose_simplest(clear, clusters) == 0.5
    # If 1 of 100 cases is lost, the loss is 0.01, and the standard error is also 0.01.
    assert choose_simplest({0.0: ranks_of_cases(30, 0), 1.0: ranks_of_cases(31, 0)}, clusters) == 0
    # Twenty hits in a single playlist are not evidence that the value is better for others.
    twenty, two = ranks_of_cases(20, 0), ranks_of_cases(2, 0)[::-1]
    assert choose_simplest({0.0: two, 1.0: twenty}, clusters) == 1.0
    assert choose_simplest({0.0: two, 1.0: twenty}, np.repeat([0, 1, 2, 3], 25)) == 0.0


def test_a_loss_that_is_certain_is_never_accepted() -> None:
    same = np.full(100, 3)
    assert choose_simplest({0.0: same, 1.0: np.full(100, 1)}, np.arange(100)) == 1.0


def test_parameters_are_set_one_after_the_other_until_nothing_changes() -> None:
    asked: list[tuple[float, float]] = []

    def rank(values: Mapping[str, float]) -> NDArray[np.int64]:
        asked.append((values["a"], values["b"]))
        # The optimum is a = 2, b = 1. If b = 0, a = 1 is best.
        best = {0.0: 1.0, 1.0: 2.0}[values["b"]]
        loss = abs(values["a"] - best) + (2 if values["b"] == 0 else 0)
        return np.full(60, 1 + 5 * int(loss))

    result = descend({"a": (0.0, 1.0, 2.0), "b": (0.0, 1.0)}, rank, np.arange(60))
    assert result.values == {"a": 2.0, "b": 1.0}
    assert len(asked) == len({*asked})  # nothing is computed twice
    assert [(t.parameter, t.value) for t in result.trials if t.is_selected] == [("a", 2), ("b", 1)]
    assert [t.value for t in result.trials] == [0, 1, 2, 0, 1]
    # The trials of the second pass, in which b = 1, replace the trials of the first pass.
    assert result.trials[2].gain == 1.0
    assert (result.first == 1 + 5 * 3).all()
    assert (result.last == 1).all()


def test_a_parameter_with_one_value_is_not_tried() -> None:
    def rank(_values: Mapping[str, float]) -> NDArray[np.int64]:
        return np.arange(30)

    result = descend({"a": (0.7,)}, rank, np.arange(30))
    assert result.values == {"a": 0.7}
    assert result.trials == []
