"""Ranking metrics: from the place of each query's label to a figure a query; the caller averages.

A rank is 1 for the first recommendation, and 0 where the label was not recommended at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

Ranks = NDArray[np.int64]


def rank_of(label: UUID, recommended: Sequence[UUID]) -> int:
    """The place of `label` among the recommended songs, from 1, or 0."""
    try:
        return recommended.index(label) + 1
    except ValueError:
        return 0


def hits(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """1 for each query whose label is among the first `k`, else 0; their mean is the hit rate."""
    return ((ranks > 0) & (ranks <= k)).astype(np.float64)


def reciprocal_ranks(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """1 / rank for each query whose label is among the first `k`, else 0; their mean is the MRR."""
    within = (ranks > 0) & (ranks <= k)
    return np.where(within, 1.0 / np.maximum(ranks, 1), 0.0)
