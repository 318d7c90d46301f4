"""Functions that baselines share: batches of queries, and rankings by score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from catalog.recency import Recency

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import SongLists, SongNumbers

MAX_DENSE_SCORES = 1 << 25  # maximum number of scores in memory at a time

MAX_BATCH = 512  # maximum number of queries in a batch


def batch_seeds(cases: HeldOutCases, scores_per_case: int) -> Iterator[SongLists]:
    """Yield the seeds of all cases in batches that need at most `MAX_DENSE_SCORES` scores."""
    size = max(1, min(MAX_BATCH, MAX_DENSE_SCORES // max(1, scores_per_case)))
    for start in range(0, len(cases), size):
        yield cases.seeds.take(slice(start, start + size))


def weigh_by_age(seeds: SongLists, songs: int, power: float) -> csr_array:
    """Return the weights (age + 1)^-power of the seeds, shape (queries, songs).

    The age of a seed is the number of later seeds. Seeds that are not in the dataset (-1) have no
    weight.
    """
    age = seeds.offsets[1:][seeds.rows] - 1 - np.arange(len(seeds.songs))
    known = seeds.songs >= 0
    weight = Recency(power).weights(age[known]).astype(np.float32)
    return csr_array((weight, (seeds.rows[known], seeds.songs[known])), shape=(len(seeds), songs))


def rank_dense(scores: NDArray[np.float32], limit: int) -> SongNumbers:
    """Return the columns of the `limit` highest scores of each row, the highest first.

    The result has shape (rows, limit) and is padded with -1. Columns with a score of -inf are
    omitted.
    """
    kept = min(limit, scores.shape[1])
    columns = np.argpartition(-scores, max(0, kept - 1), axis=1)[:, :kept]
    values = np.take_along_axis(scores, columns, axis=1)
    order = np.lexsort((columns, -values), axis=1)
    rankings = np.full((len(scores), limit), -1, dtype=np.int32)
    best = np.take_along_axis(columns, order, axis=1)
    is_finite = np.isfinite(np.take_along_axis(values, order, axis=1))
    rankings[:, :kept] = np.where(is_finite, best, -1)
    return rankings


def rank_sparse(scores: csr_array, limit: int, excluded: SongLists) -> SongNumbers:
    """Return the columns of the `limit` highest positive scores of each row, the highest first.

    The result has shape (rows, limit) and is padded with -1. The columns in `excluded[row]` are
    omitted.
    """
    rankings = np.full((scores.shape[0], limit), -1, dtype=np.int32)
    is_excluded = np.zeros(scores.shape[1], dtype=bool)
    for row in range(scores.shape[0]):
        span = slice(scores.indptr[row], scores.indptr[row + 1])
        columns, values = scores.indices[span], scores.data[span]
        excluded_songs = excluded[row]
        excluded_songs = excluded_songs[excluded_songs >= 0]  # -1 would index the last column
        is_excluded[excluded_songs] = True
        kept = ~is_excluded[columns] & (values > 0)
        is_excluded[excluded_songs] = False
        columns, values = columns[kept], values[kept]
        if len(columns) > limit:
            best = np.argpartition(-values, limit - 1)[:limit]
            columns, values = columns[best], values[best]
        rankings[row, : len(columns)] = columns[np.lexsort((columns, -values))]
    return rankings


def exclude_seeds(scores: NDArray[np.float32], seeds: SongLists) -> None:
    """Set the scores of the seeds of each query to -inf, in place."""
    known = seeds.songs >= 0
    scores[seeds.rows[known], seeds.songs[known]] = -np.inf
