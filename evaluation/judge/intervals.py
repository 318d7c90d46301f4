"""95% intervals: Wilson's for shares such as hit rates, the percentile bootstrap for other means.

Efron, "Bootstrap methods: another look at the jackknife", 1979. It has no width where all queries
are alike: none of 21 hit would be a hit rate of 0 without doubt. So shares have the interval of
Wilson, "Probable inference, the law of succession, and statistical inference", 1927, and paired
differences of shares that of Newcombe, "Improved confidence intervals for the difference between
binomial proportions based on paired data", 1998 (his method 10).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import binomtest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

RESAMPLES = 1_000
_CHUNK = 50


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over queries and its 95% interval; `low` and `high` are None where there is none."""

    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def margin(self) -> float | None:
        """How far the interval reaches from the mean, on the side where it reaches farther."""
        if self.low is None or self.high is None:
            return None
        return max(self.high - self.mean, self.mean - self.low)


def estimate(figures: Mapping[str, NDArray[np.float64]], seed: int = 0) -> dict[str, Figure]:
    """Return the mean of each array of n figures, NaN left out, and its 95% interval.

    An array of nothing but 0 and 1 is a share; all others are bootstrapped. An array without a
    figure is left out.
    """
    shares = {name: share(values) for name, values in figures.items() if _is_share(values)}
    rest = {name: values for name, values in figures.items() if name not in shares}
    found = shares | bootstrap(rest, seed)
    return {name: found[name] for name in figures if name in found}


def share(values: NDArray[np.float64]) -> Figure:
    """Return the share of ones among zeros and ones, NaN left out, and Wilson's interval."""
    known = values[np.isfinite(values)]
    mean, low, high = _wilson(known)
    return Figure(mean, low, high)


def share_difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> Figure:
    """Return one share minus another of the same queries, and Newcombe's interval.

    Both are arrays of zeros and ones.
    """
    mean, low, high = _wilson(first)
    other_mean, other_low, other_high = _wilson(second)
    n, ones, others = len(first), first.sum(), second.sum()
    together = n * (first * second).sum() - ones * others
    if together > 0:
        together = max(0.0, together - n / 2)  # the continuity correction
    spread = np.sqrt(ones * (n - ones) * others * (n - others))
    phi = together / spread if spread else 0.0

    def joined(one: float, other: float) -> float:
        return float(np.sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2)))

    difference = mean - other_mean
    return Figure(
        difference,
        difference - joined(mean - low, other_high - other_mean),
        difference + joined(high - mean, other_mean - other_low),
    )


def _wilson(values: NDArray[np.float64]) -> tuple[float, float, float]:
    ones = int(values.sum())
    interval = binomtest(ones, len(values)).proportion_ci(method="wilson")
    return ones / len(values), float(interval.low), float(interval.high)


def _is_share(values: NDArray[np.float64]) -> bool:
    known = values[np.isfinite(values)]
    return len(known) > 0 and bool(((known == 0) | (known == 1)).all())


def bootstrap(
    figures: Mapping[str, NDArray[np.float64]], seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Figure]:
    """The mean of each array of n figures, NaN left out, and its 95% interval.

    All arrays are resampled alike, so that intervals of differences are those of paired data. An
    array without a figure is left out.
    """
    names = [name for name, values in figures.items() if np.isfinite(values).any()]
    if not names:
        return {}
    values = np.stack([figures[name] for name in names], axis=1)
    there = np.isfinite(values)
    values = np.where(there, values, 0.0)
    sums, counts = _resampled(values, seed, resamples), None
    if there.all():
        means = sums / len(values)
    else:
        counts = _resampled(there.astype(np.float64), seed, resamples)
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    low, high = np.nanquantile(means, [0.025, 0.975], axis=0)
    overall = values.sum(axis=0) / there.sum(axis=0)
    return {
        name: Figure(float(overall[at]), float(low[at]), float(high[at]))
        for at, name in enumerate(names)
    }


def _resampled(values: NDArray[np.float64], seed: int, resamples: int) -> NDArray[np.float64]:
    """The sums of each column over each resample, shape (resamples, columns)."""
    random = np.random.default_rng(seed)
    n = len(values)
    sums = np.empty((resamples, values.shape[1]))
    for start in range(0, resamples, _CHUNK):
        rows = min(_CHUNK, resamples - start)
        drawn = random.integers(0, n, size=(rows, n)) + np.arange(rows)[:, None] * n
        times = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        sums[start : start + rows] = times @ values
    return sums
