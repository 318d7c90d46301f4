"""Hit rates and gains of a system, and comparison of two systems on the same held-out cases.

All functions take the rank of the label in the answer to each case, an array of shape (cases,).
Ranks start at 1; rank 0 means that the answer lacks the label. The discounted gain of a rank is
1 / log2(1 + rank), and 0 for rank 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

KS = (10, 100)

SIGNIFICANCE = 2.0
"""Number of standard errors above 0 from which a mean gain counts as significant."""


@dataclass(frozen=True)
class RankComparison:
    """The re-ranker compared with hybrid search on the same held-out cases.

    - `better`: whether the mean discounted gain of the re-ranker is significantly higher.
    - `fewer`: whether the re-ranker has fewer hits (see `finds_fewer`).
    - `hit_rates`: hit rates of the re-ranker and of hybrid search, by name.
    """

    better: bool
    fewer: bool
    hit_rates: dict[str, float]


def compare_ranks(reranked: NDArray[np.int64], hybrid: NDArray[np.int64]) -> RankComparison:
    """Compare the re-ranker with hybrid search, by the ranks of the labels."""
    gain = discounted_gains(reranked) - discounted_gains(hybrid)
    error = standard_error(gain)
    return RankComparison(
        better=bool(error and gain.mean() > SIGNIFICANCE * error),
        fewer=finds_fewer(reranked, hybrid),
        hit_rates={
            f"{name} HR@{k}": hit_rate(ranks, k)
            for name, ranks in (("ranked", reranked), ("hybrid", hybrid))
            for k in KS
        },
    )


def finds_fewer(ranks: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    """Return whether `ranks` has fewer hits than `other` at one of `KS`.

    The difference must exceed its standard error.
    """
    losses = [hits(other, k).astype(np.float64) - hits(ranks, k) for k in KS]
    return any(len(loss) > 0 and loss.mean() > standard_error(loss) for loss in losses)


def hits(ranks: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Return a mask of the ranks from 1 to k."""
    return (ranks > 0) & (ranks <= k)


def hit_rate(ranks: NDArray[np.int64], k: int) -> float:
    """Return the share of ranks from 1 to k, or 0 if there are no ranks."""
    return float(hits(ranks, k).sum()) / max(1, len(ranks))


def standard_error(values: NDArray[np.float64]) -> float:
    """Return the standard error of the mean of the values, or 0 for fewer than two values."""
    return float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0


def discounted_gains(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the discounted gain of each rank."""
    return np.where(ranks > 0, 1 / np.log2(1.0 + np.maximum(ranks, 1)), 0.0)
