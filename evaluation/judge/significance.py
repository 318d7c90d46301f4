"""Paired tests: whether two systems that answered the same queries really differ.

Smucker, Allan and Carterette, "A comparison of statistical significance tests for information
retrieval evaluation", 2007.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import binomtest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FLIPS = 10_000
_CHUNK = 500

ALPHA = 0.05
"""Differences less likely than this by chance alone are called significant."""


def mcnemar(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The two-sided p-value of two arrays of hits (0 or 1) on the same queries, exact.

    Of the queries that one alone hits, how far their shares are from a half. McNemar, "Note on the
    sampling error of the difference between correlated proportions", 1947.
    """
    better = int(((first > 0) & (second <= 0)).sum())
    worse = int(((first <= 0) & (second > 0)).sum())
    if not better + worse:
        return 1.0
    # Thousands to none are fewer than the smallest number, and no p-value is 0.
    return max(float(binomtest(better, better + worse, 0.5).pvalue), sys.float_info.min)


def permutation(
    first: NDArray[np.float64], second: NDArray[np.float64], seed: int = 0, flips: int = FLIPS
) -> float:
    """The two-sided p-value of two arrays of figures of the same queries.

    How often the mean difference is at least as large when each query's two figures are swapped at
    random: never below 1 / (flips + 1). Queries where one has no figure are left out.
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


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, so raised that one false alarm among all is as unlikely.

    Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    order = np.argsort(p_values)
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, at in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[at]))
        adjusted[at] = highest
    return adjusted


def p_value(p: float) -> str:
    """Return a p-value as text: `.0123`, and `< .0001` for one that rounds to 0."""
    return "< .0001" if p < 0.0001 else f"{p:.4f}".removeprefix("0")


def p_equals(p: float) -> str:
    """Return a p-value as a part of a sentence: `p = .0123` or `p < .0001`."""
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"
