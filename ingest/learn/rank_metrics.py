"""Hit rates and discounted gains, and a comparison of two systems on the same held-out cases.

An array of ranks has shape (cases,). It contains, for each case, the rank of the label among the
recommended songs, counted from 1, or 0 if the label was not recommended. The discounted gain of a
rank is 1 / log2(1 + rank), and 0 for rank 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

KS = (10, 100)
"""Values of k for which the hit rate HR@k is reported."""

SIGNIFICANCE = 2.0
"""Number of standard errors above which a mean difference of gains counts as significant."""


def compare_ranks(
    reranked: NDArray[np.int64], selected: NDArray[np.int64], playlists: NDArray[np.int64]
) -> bool:
    """Return whether the re-ranker is better than the selected retrieval mode.

    `reranked` and `selected` are the ranks with the re-ranker and in the selected mode.
    `playlists`, shape (cases,), contains the index of the playlist of each case. In the first case
    of each playlist, the label must be the last song of the playlist.

    The re-ranker is better if its mean discounted gain over all cases is significantly higher. In
    addition, its mean gain over the cases of the last songs must not be lower by more than one
    standard error.
    """
    gain = discounted_gains(reranked) - discounted_gains(selected)
    _, first = np.unique(playlists, return_index=True)
    of_last = gain[first]
    is_higher = len(gain) > 0 and gain.mean() > SIGNIFICANCE * clustered_error(gain, playlists) > 0
    return bool(is_higher and of_last.mean() >= -standard_error(of_last))


def hits(ranks: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Return a mask of the hits, which are the ranks from 1 to k, shape (cases,)."""
    return (ranks > 0) & (ranks <= k)


def hit_rate(ranks: NDArray[np.int64], k: int) -> float:
    """Return the share of the ranks that are from 1 to k, or 0 if there are no ranks."""
    return float(hits(ranks, k).sum()) / max(1, len(ranks))


def standard_error(values: NDArray[np.float64]) -> float:
    """Return the standard error of the mean of the values, or 0 for fewer than two values."""
    return float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0


def discounted_gains(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the discounted gain of each rank, shape (cases,)."""
    return np.where(ranks > 0, 1 / np.log2(1.0 + np.maximum(ranks, 1)), 0.0)


def clustered_error(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> float:
    """Return the standard error of a mean of values that are correlated within clusters.

    `clusters` contains the number of the cluster of each value. With fewer than two clusters, the
    result is 0. The method is the cluster-robust error of Liang and Zeger, "Longitudinal data
    analysis using generalized linear models", 1986, with the correction m / (m - 1) for m clusters.
    """
    _, numbers = np.unique(clusters, return_inverse=True)
    sums = np.bincount(numbers, values - values.mean()) if len(values) else np.zeros(0)
    count = len(sums)
    if count < 2:
        return 0.0
    return float((sums @ sums * count / (count - 1)) ** 0.5) / len(values)
