"""95% intervals of means, by the bootstrap: queries are drawn anew, with replacement.

Efron, "Bootstrap methods: another look at the jackknife", 1979; the percentile interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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
