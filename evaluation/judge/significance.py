"""Paired significance tests of two systems on the same queries, and correction for multiple tests.

The permutation test is recommended by Smucker, Allan and Carterette, "A comparison of statistical
significance tests for information retrieval evaluation", 2007.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import binomtest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FLIPS = 10_000  # number of rounds in a permutation test
_CHUNK = 500  # number of rounds in memory at a time

ALPHA = 0.05
"""Significance level: a difference with a lower p-value is significant."""


def mcnemar_test(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the two-sided p-value of McNemar's exact test on two arrays of hits (0 or 1).

    McNemar, "Note on the sampling error of the difference between correlated proportions", 1947.
    """
    only_first = int(((first > 0) & (second <= 0)).sum())
    only_second = int(((first <= 0) & (second > 0)).sum())
    if not only_first + only_second:
        return 1.0
    # A p-value is above 0, but a very small p-value is rounded to 0.
    p = float(binomtest(only_first, only_first + only_second, 0.5).pvalue)
    return max(p, sys.float_info.min)


def permutation_test(
    first: NDArray[np.float64], second: NDArray[np.float64], seed: int = 0, flips: int = FLIPS
) -> float:
    """Return the two-sided p-value of a paired permutation test.

    `first` and `second` hold the figures of two systems on the same queries. In each of `flips`
    rounds, the two figures of a query are exchanged with probability 1/2. The p-value is the share
    of rounds in which the mean difference is at least as large as the observed difference, but
    never less than 1 / (flips + 1). Queries with NaN are left out.
    """
    difference = first - second
    difference = difference[np.isfinite(difference) & (difference != 0)]
    if not len(difference):
        return 1.0
    observed = abs(difference.sum())
    random = np.random.default_rng(seed)
    extreme = 0
    for start in range(0, flips, _CHUNK):
        rows = min(_CHUNK, flips - start)
        signs = random.integers(0, 2, size=(rows, len(difference)), dtype=np.int8)
        sums = 2.0 * (signs @ difference) - difference.sum()
        extreme += int((np.abs(sums) >= observed * (1 - 1e-12)).sum())
    return (extreme + 1) / (flips + 1)


def holm_correction(p_values: Sequence[float]) -> list[float]:
    """Return the p-values, corrected for the number of tests, in the same order.

    Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, test in enumerate(np.argsort(p_values)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[test]))
        corrected[test] = highest
    return corrected


def format_p_value(p: float) -> str:
    """Return a p-value as text, such as `.0123`, or `< .0001` if it is below 0.0001."""
    return "< .0001" if p < 0.0001 else f"{p:.4f}".removeprefix("0")


def format_p_equals(p: float) -> str:
    """Return a p-value as text for a sentence, such as `p = .0123` or `p < .0001`."""
    text = format_p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"
