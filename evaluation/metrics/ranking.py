"""How well rankings find the labels: hit rate, reciprocal rank, precision, recall and NDCG.

Each function gives an array of n figures from 0 to 1. With one label a query, recall is the hit
rate and precision the hit rate divided by k.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from evaluation.metrics.relevance import Relevant

Figures = NDArray[np.float64]


def hits(matches: Relevant, k: int) -> Figures:
    """1 for each query with a label among the first `k`, else 0; their mean is the hit rate."""
    return np.asarray(matches[:, :k].any(axis=1), dtype=np.float64)


def reciprocal_ranks(matches: Relevant, k: int) -> Figures:
    """1 / place of the first label among the first `k`, 0 where there is none; the mean is MRR."""
    first = matches[:, :k]
    place = np.where(first.any(axis=1), first.argmax(axis=1) + 1.0, np.inf)
    return 1.0 / place


def precision(matches: Relevant, k: int) -> Figures:
    """The share of labels among `k` songs; those that a short ranking lacks are wrong ones."""
    found: Figures = matches[:, :k].sum(axis=1) / k
    return found


def recall(matches: Relevant, labels: NDArray[np.int64], k: int) -> Figures:
    """The share of each query's labels, `labels` of them, that are among the first `k`."""
    found: Figures = matches[:, :k].sum(axis=1) / np.maximum(labels, 1)
    return found


def ndcg(matches: Relevant, labels: NDArray[np.int64], k: int) -> Figures:
    """Discounted gain, 1 / log2(place + 1) a label, beside that of the best possible ranking.

    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002.
    """
    depth = min(k, matches.shape[1])
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    best = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(labels, k)]
    return (matches[:, :depth] @ discounts[:depth]) / np.where(best > 0, best, 1.0)
