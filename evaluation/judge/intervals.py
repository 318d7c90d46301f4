"""95% confidence intervals: Wilson's for shares such as hit rates, bootstrap for other means.

Bootstrap: Efron, "Bootstrap methods: another look at the jackknife", 1979. A bootstrap interval has
zero width if all values are equal, so 0 hits in 21 queries would seem to prove a hit rate of
exactly 0. Shares therefore use the interval of Wilson, "Probable inference, the law of succession,
and statistical inference", 1927. Paired differences of shares use the interval of Newcombe,
"Improved confidence intervals for the difference between binomial proportions based on paired
data", 1998 (method 10).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from scipy.stats import binomtest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

Key = TypeVar("Key")

RESAMPLES = 1_000  # number of resamples in a bootstrap
_CHUNK = 50  # number of resamples in memory at a time


@dataclass(frozen=True, slots=True)
class Figure:
    """The mean of a metric over queries, and its 95% confidence interval.

    `low` and `high` are the ends of the interval, or None if there is no interval.
    """

    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def margin(self) -> float | None:
        """The distance from the mean to the farther end of the interval, or None without any."""
        if self.low is None or self.high is None:
            return None
        return max(self.high - self.mean, self.mean - self.low)


def estimate(figures: Mapping[Key, NDArray[np.float64]], seed: int = 0) -> dict[Key, Figure]:
    """Return the mean of each array of n values and its 95% confidence interval.

    NaN values are ignored, and an array with only NaN values is left out. An array whose values are
    all 0 or 1 has a Wilson interval; all other arrays have a bootstrap interval.
    """
    shares = {key: _estimate_share(values) for key, values in figures.items() if _is_share(values)}
    other_figures = {key: values for key, values in figures.items() if key not in shares}
    estimates = shares | bootstrap(other_figures, seed)
    return {key: estimates[key] for key in figures if key in estimates}


def estimate_share_difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> Figure:
    """Return the difference between two shares of the same queries, first minus second.

    `first` and `second`, shape (queries,), contain only 0 and 1. The interval is Newcombe's.
    """
    mean, low, high = _wilson(first)
    other_mean, other_low, other_high = _wilson(second)
    n, ones, other_ones = len(first), first.sum(), second.sum()
    covariance = n * (first * second).sum() - ones * other_ones
    if covariance > 0:
        covariance = max(0.0, covariance - n / 2)  # Newcombe's continuity correction
    spread = np.sqrt(ones * (n - ones) * other_ones * (n - other_ones))
    phi = covariance / spread if spread else 0.0

    def combine(distance: float, other: float) -> float:
        return float(np.sqrt(max(0.0, distance**2 - 2 * phi * distance * other + other**2)))

    difference = mean - other_mean
    return Figure(
        difference,
        difference - combine(mean - low, other_high - other_mean),
        difference + combine(high - mean, other_mean - other_low),
    )


def _estimate_share(values: NDArray[np.float64]) -> Figure:
    return Figure(*_wilson(values[np.isfinite(values)]))


def _wilson(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the share of ones among the values 0 and 1, and the ends of Wilson's interval."""
    ones = int(values.sum())
    interval = binomtest(ones, len(values)).proportion_ci(method="wilson")
    return ones / len(values), float(interval.low), float(interval.high)


def _is_share(values: NDArray[np.float64]) -> bool:
    finite = values[np.isfinite(values)]
    return len(finite) > 0 and bool(((finite == 0) | (finite == 1)).all())


def bootstrap(
    figures: Mapping[Key, NDArray[np.float64]], seed: int = 0, resamples: int = RESAMPLES
) -> dict[Key, Figure]:
    """Return the mean of each array of n values and its 95% percentile bootstrap interval.

    NaN values are ignored, and an array with only NaN values is left out. The same resamples of
    queries are used for all arrays.
    """
    keys = [key for key, values in figures.items() if np.isfinite(values).any()]
    if not keys:
        return {}
    values = np.stack([figures[key] for key in keys], axis=1)
    is_finite = np.isfinite(values)
    values = np.where(is_finite, values, 0.0)
    sums = _resample_sums(values, seed, resamples)
    if is_finite.all():
        means = sums / len(values)
    else:
        counts = _resample_sums(is_finite.astype(np.float64), seed, resamples)
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    low, high = np.nanquantile(means, [0.025, 0.975], axis=0)
    overall = values.sum(axis=0) / is_finite.sum(axis=0)
    return {
        key: Figure(float(overall[column]), float(low[column]), float(high[column]))
        for column, key in enumerate(keys)
    }


def _resample_sums(values: NDArray[np.float64], seed: int, resamples: int) -> NDArray[np.float64]:
    """Return the sum of each column of `values` in each resample, shape (resamples, columns)."""
    random = np.random.default_rng(seed)
    n = len(values)
    sums = np.empty((resamples, values.shape[1]))
    for start in range(0, resamples, _CHUNK):
        rows = min(_CHUNK, resamples - start)
        drawn = random.integers(0, n, size=(rows, n)) + np.arange(rows)[:, None] * n
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        sums[start : start + rows] = counts @ values
    return sums
