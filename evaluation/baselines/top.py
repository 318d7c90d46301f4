"""The best songs of scores, in batches: what the baselines have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    from evaluation.protocol.cases import Queries
    from evaluation.protocol.dataset import Numbers, Ragged

DENSE_SCORES = 1 << 25
"""How many scores a batch may hold at once."""


def batches(queries: Queries, songs: int) -> Iterator[Ragged]:
    """The seeds of the queries, so many at a time that a row of `songs` scores fits for each."""
    size = max(1, min(512, DENSE_SCORES // max(1, songs)))
    for start in range(0, len(queries), size):
        yield queries.seeds.take(slice(start, start + size))


def top_of_dense(scores: NDArray[np.float32], limit: int) -> Numbers:
    """The places of the `limit` highest scores of each row, the highest first.

    Shape (rows, limit), filled up with -1; a score of -inf is no candidate.
    """
    kept = min(limit, scores.shape[1])
    places = np.argpartition(-scores, max(0, kept - 1), axis=1)[:, :kept]
    found = np.take_along_axis(scores, places, axis=1)
    order = np.lexsort((places, -found), axis=1)
    rankings = np.full((len(scores), limit), -1, dtype=np.int32)
    best = np.take_along_axis(places, order, axis=1)
    finite = np.isfinite(np.take_along_axis(found, order, axis=1))
    rankings[:, :kept] = np.where(finite, best, -1)
    return rankings


def top_of_sparse(scores: csr_array, limit: int, without: Ragged) -> Numbers:
    """The columns of the `limit` highest scores above 0 of each row, the highest first.

    Columns that `without` lists for the row are left out. Shape (rows, limit), filled with -1.
    """
    rankings = np.full((scores.shape[0], limit), -1, dtype=np.int32)
    blocked = np.zeros(scores.shape[1], dtype=bool)
    for row in range(scores.shape[0]):
        span = slice(scores.indptr[row], scores.indptr[row + 1])
        columns, values = scores.indices[span], scores.data[span]
        own = without[row]
        own = own[own >= 0]  # a song that nobody knows is not the last one
        blocked[own] = True
        free = ~blocked[columns] & (values > 0)
        blocked[own] = False
        columns, values = columns[free], values[free]
        if len(columns) > limit:
            kept = np.argpartition(-values, limit - 1)[:limit]
            columns, values = columns[kept], values[kept]
        rankings[row, : len(columns)] = columns[np.lexsort((columns, -values))]
    return rankings


def block_seeds(scores: NDArray[np.float32], seeds: Ragged) -> None:
    """Take the songs of each query out of its row of scores, in place."""
    known = seeds.songs >= 0
    scores[seeds.rows[known], seeds.songs[known]] = -np.inf
