"""Comparison of two systems on the same cases, by the rank of the label in each ranking.

A rank counts from 1; 0 means that the label was not found. The discounted gain of a rank is
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
"""A mean gain counts as real if it is this many standard errors above 0."""


@dataclass(frozen=True)
class RankComparison:
    """A re-ranking compared with hybrid search on the same cases.

    - `better`: its mean discounted gain is significantly higher.
    - `fewer`: it has fewer hits (see `finds_fewer`).
    - `hit_rates`: of both, by name.
    """

    better: bool
    fewer: bool
    hit_rates: dict[str, float]


def compare_ranks(reranked: NDArray[np.int64], hybrid: NDArray[np.int64]) -> RankComparison:
    """Compare a re-ranking with hybrid search, by the ranks of the labels."""
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
    """Return whether `ranks` has fewer hits than `other` at some k, by over a standard error."""
    losses = [hits(other, k).astype(np.float64) - hits(ranks, k) for k in KS]
    return any(len(loss) > 0 and loss.mean() > standard_error(loss) for loss in losses)


def hits(ranks: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Return which ranks are from 1 to k."""
    return (ranks > 0) & (ranks <= k)


def hit_rate(ranks: NDArray[np.int64], k: int) -> float:
    """Return the share of the ranks that are from 1 to k; 0 without any rank."""
    return float(hits(ranks, k).sum()) / max(1, len(ranks))


def standard_error(values: NDArray[np.float64]) -> float:
    """Return the standard error of the mean of the values; 0 for fewer than two."""
    return float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0


def discounted_gains(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the discounted gain of each rank."""
    return np.where(ranks > 0, 1 / np.log2(1.0 + np.maximum(ranks, 1)), 0.0)
