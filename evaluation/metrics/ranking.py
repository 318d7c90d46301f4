"""Hit rate, reciprocal rank, precision, recall and NDCG.

Each function returns one figure from 0 to 1 for each query, shape (n,). With one label per query,
recall equals the hit rate, and precision equals the hit rate divided by k.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from evaluation.metrics.relevance import Matches

Figures = NDArray[np.float64]
"""One figure per query, shape (n,), which is NaN if the metric is undefined for the query."""


def hits(matches: Matches, k: int) -> Figures:
    """Return 1 for each query with a label among the first `k` songs, and 0 for all others."""
    return np.asarray(matches[:, :k].any(axis=1), dtype=np.float64)


def reciprocal_ranks(matches: Matches, k: int) -> Figures:
    """Return 1 / rank of the best-ranked label among the first `k` songs, or 0 if there is none."""
    first = matches[:, :k]
    rank = np.where(first.any(axis=1), first.argmax(axis=1) + 1.0, np.inf)
    return 1.0 / rank


def precision(matches: Matches, k: int) -> Figures:
    """Return the number of labels among the first `k` songs, divided by `k`, shape (n,)."""
    figures: Figures = matches[:, :k].sum(axis=1) / k
    return figures


def recall(matches: Matches, label_counts: NDArray[np.int64], k: int) -> Figures:
    """Return the share of the labels of each query that are among the first `k` songs."""
    figures: Figures = matches[:, :k].sum(axis=1) / np.maximum(label_counts, 1)
    return figures


def ndcg(matches: Matches, label_counts: NDArray[np.int64], k: int) -> Figures:
    """Return the normalised discounted cumulative gain of the first `k` songs.

    A label has the gain 1 / log2(rank + 1). The sum of the gains is divided by the largest possible
    sum. Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002.
    """
    depth = min(k, matches.shape[1])
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    ideal_gain = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(label_counts, k)]
    gain = matches[:, :depth] @ discounts[:depth]
    return gain / np.where(ideal_gain > 0, ideal_gain, 1.0)
