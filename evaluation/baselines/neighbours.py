"""Neighbourhood baselines: item-item cosine and session-kNN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array, diags_array, vstack

from evaluation.baselines.top import batch_seeds, rank_sparse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import Dataset, SongLists, SongNumbers

NEIGHBOURS = 200  # number of most similar songs that are kept for each song

SESSIONS = 100  # number of most similar training playlists whose songs are recommended

DECAY = 0.9  # weight of a seed in session-kNN, relative to the seed after it

MAX_PAIRS = 50_000_000  # maximum number of song pairs in memory at a time


class ItemItem:
    """Recommends the songs with the highest sum of similarities to the seeds.

    The similarity of two songs is the cosine of their sets of training playlists. For each seed,
    only the `NEIGHBOURS` most similar songs count. Sarwar et al., "Item-based collaborative
    filtering recommendation algorithms", 2001.
    """

    key, name = "item-item", "item-item cosine"

    def __init__(self, dataset: Dataset) -> None:
        playlists = dataset.matrix
        scale = 1.0 / np.sqrt(np.maximum(dataset.songs.playlists, 1)).astype(np.float32)
        unit = csr_array(playlists @ diags_array(scale))
        by_song = csr_array(unit.T)
        parts = []
        for low, high in split_songs(dataset):
            similarities = csr_array(by_song[low:high] @ unit)
            similarities.data[similarities.indices == find_rows(similarities) + low] = 0.0
            parts.append(keep_highest(similarities, NEIGHBOURS))
        self._similarities = csr_array(vstack(parts, format="csr"))

    def recommend(self, cases: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        """Yield the songs most similar to the seeds of each case.

        The batches have shape (n, limit).
        """
        songs = self._similarities.shape[0]
        for seeds in batch_seeds(cases, songs):
            scores = csr_array(seeds.to_matrix(songs) @ self._similarities)
            yield rank_sparse(scores, limit, seeds)


class SessionKnn:
    """Recommends songs from the training playlists that are most similar to the query.

    The similarity of a playlist is the cosine similarity between its songs and the seeds, with
    higher weights for recent seeds. The score of a song is the sum of the similarities of the
    playlists that contain it. Jannach and Ludewig, "When recurrent neural networks meet the
    neighborhood for session-based recommendation", 2017.
    """

    key, name = "session-knn", "session-kNN"

    def __init__(self, dataset: Dataset) -> None:
        self._playlists = dataset.matrix
        self._by_song = csr_array(dataset.matrix.T)
        self._scale = 1.0 / np.sqrt(np.maximum(np.diff(self._playlists.indptr), 1))

    def recommend(self, cases: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        """Yield the songs of the playlists most similar to each case.

        The batches have shape (n, limit).
        """
        playlists, songs = self._playlists.shape
        for seeds in batch_seeds(cases, playlists):
            similarities = csr_array(weight_by_recency(seeds, songs, DECAY) @ self._by_song)
            similarities.data *= self._scale[similarities.indices].astype(np.float32)
            scores = csr_array(keep_highest(similarities, SESSIONS) @ self._playlists)
            yield rank_sparse(scores, limit, seeds)


def weight_by_recency(seeds: SongLists, songs: int, decay: float) -> csr_array:
    """Return the weights of the seeds, shape (queries, songs).

    The last seed of a query has weight 1. Each earlier seed has `decay` times the weight of the
    seed after it.
    """
    age = seeds.offsets[1:][seeds.rows] - 1 - np.arange(len(seeds.songs))
    known = seeds.songs >= 0
    weight = (decay ** age[known].astype(np.float64)).astype(np.float32)
    return csr_array((weight, (seeds.rows[known], seeds.songs[known])), shape=(len(seeds), songs))


def keep_highest(matrix: csr_array, count: int) -> csr_array:
    """Return the matrix with only the `count` highest non-zero values of each row."""
    matrix.eliminate_zeros()
    rows = find_rows(matrix)
    order = np.lexsort((matrix.indices, -matrix.data, rows))
    rank = np.arange(len(order)) - matrix.indptr[rows]  # rank within each row, from 0
    kept = order[rank < count]
    return csr_array((matrix.data[kept], (rows[kept], matrix.indices[kept])), shape=matrix.shape)


def find_rows(matrix: csr_array) -> NDArray[np.int64]:
    """Return the row of each stored value of the matrix, shape (stored values,)."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def split_songs(dataset: Dataset) -> Iterator[tuple[int, int]]:
    """Yield ranges of song numbers as (start, stop), each with at most `MAX_PAIRS` pairs.

    `stop` is exclusive. A pair is a song of the range together with a song from one of its training
    playlists. A song with more than `MAX_PAIRS` pairs forms a range by itself.
    """
    lengths = np.diff(dataset.matrix.indptr)
    pairs = np.bincount(
        dataset.matrix.indices, np.repeat(lengths, lengths), minlength=len(dataset.songs)
    )
    total = np.cumsum(pairs)
    low = 0
    while low < len(pairs):
        before = total[low - 1] if low else 0.0
        high = max(low + 1, int(np.searchsorted(total, before + MAX_PAIRS, side="right")))
        yield low, high
        low = high
