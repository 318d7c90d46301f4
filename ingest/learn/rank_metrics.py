"""Hit rates and discounted gains, and a comparison of two systems on the same held-out cases.

The arrays of ranks have shape (cases,) and contain the rank of the label among the recommended
songs of each case. Ranks start at 1; rank 0 means that the label was not recommended. The
discounted gain of a rank is 1 / log2(1 + rank), and 0 for rank 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

KS = (10, 100)

SIGNIFICANCE = 2.0
"""A mean gain is significant if it exceeds this number of standard errors."""


@dataclass(frozen=True)
class RankComparison:
    """Comparison of the re-ranker with another ranking on the same held-out cases.

    - `better`: whether the mean discounted gain of the re-ranker is significantly higher.
    - `fewer`: whether the re-ranker has clearly fewer hits (see `finds_fewer`).
    - `hit_rates`: the hit rates of both rankings, by name, such as "ranked HR@10".
    """

    better: bool
    fewer: bool
    hit_rates: dict[str, float]


def compare_ranks(
    reranked: NDArray[np.int64], other: NDArray[np.int64], other_name: str
) -> RankComparison:
    """Compare the ranks of the labels from the re-ranker with the ranks from another ranking."""
    gain = discounted_gains(reranked) - discounted_gains(other)
    error = standard_error(gain)
    return RankComparison(
        better=bool(error and gain.mean() > SIGNIFICANCE * error),
        fewer=finds_fewer(reranked, other),
        hit_rates={
            f"{name} HR@{k}": hit_rate(ranks, k)
            for name, ranks in (("ranked", reranked), (other_name, other))
            for k in KS
        },
    )


def finds_fewer(ranks: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    """Return whether `ranks` has clearly fewer hits than `other` at any cutoff in `KS`.

    The difference in hit rate must exceed its standard error.
    """
    losses = [hits(other, k).astype(np.float64) - hits(ranks, k) for k in KS]
    return any(len(loss) > 0 and loss.mean() > standard_error(loss) for loss in losses)


def hits(ranks: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Return a mask of the hits, which are the ranks from 1 to k."""
    return (ranks > 0) & (ranks <= k)


def hit_rate(ranks: NDArray[np.int64], k: int) -> float:
    """Return the share of ranks that are between 1 and k, or 0 if there are no ranks."""
    return float(hits(ranks, k).sum()) / max(1, len(ranks))


def standard_error(values: NDArray[np.float64]) -> float:
    """Return the standard error of the mean of the values, or 0 for fewer than two values."""
    return float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0


def discounted_gains(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the discounted gain of each rank."""
    return np.where(ranks > 0, 1 / np.log2(1.0 + np.maximum(ranks, 1)), 0.0)


def clustered_error(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> float:
    """Return the standard error of a mean of values that are correlated within clusters.

    This is the cluster-robust error of Liang and Zeger, "Longitudinal data analysis using
    generalized linear models", 1986, with the correction m / (m - 1) for m clusters. The result is
    0 if there are fewer than two clusters.
    """
    _, numbers = np.unique(clusters, return_inverse=True)
    sums = np.bincount(numbers, values - values.mean()) if len(values) else np.zeros(0)
    count = len(sums)
    if count < 2:
        return 0.0
    return float((sums @ sums * count / (count - 1)) ** 0.5) / len(values)
