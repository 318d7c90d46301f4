"""Neighbourhood baselines: item-item cosine and session-kNN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array, diags_array, vstack

from evaluation.baselines.top import batches, top_of_sparse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from evaluation.protocol.cases import Queries
    from evaluation.protocol.dataset import Data, Numbers, Ragged

NEIGHBOURS = 200
"""How many similar songs each song keeps."""

SESSIONS = 100
"""How many of the nearest training playlists answer."""

DECAY = 0.9
"""What a song of the query counts in session-kNN, relative to the one after it."""

PAIRS_AT_ONCE = 50_000_000


class ItemItem:
    """The songs most similar to the songs of the query, added up.

    Two songs are as similar as the cosine of the sets of training playlists that hold them; each
    keeps its 200 most similar ones. Sarwar et al., "Item-based collaborative filtering
    recommendation algorithms", 2001.
    """

    key, name = "item-item", "item-item cosine"

    def __init__(self, data: Data) -> None:
        playlists = data.matrix
        scale = 1.0 / np.sqrt(np.maximum(data.songs.playlists, 1)).astype(np.float32)
        unit = csr_array(playlists @ diags_array(scale))
        by_song = csr_array(unit.T)
        pairs = np.bincount(
            playlists.indices, np.diff(playlists.indptr)[data.train.rows], minlength=len(data.songs)
        )
        parts = []
        for low, high in _spans(pairs):
            similar = csr_array(by_song[low:high] @ unit)
            similar.data[similar.indices == _rows(similar) + low] = 0.0
            parts.append(strongest(similar, NEIGHBOURS))
        self._similar = csr_array(vstack(parts, format="csr"))

    def recommend(self, queries: Queries, limit: int) -> Iterator[Numbers]:
        """For each query in turn, the songs most similar to its own, in batches."""
        songs = self._similar.shape[0]
        for seeds in batches(queries, songs):
            scores = csr_array(seeds.matrix(songs) @ self._similar)
            yield top_of_sparse(scores, limit, seeds)


class SessionKnn:
    """The songs of the 100 training playlists that are most like the query.

    A playlist is as like as the cosine of the songs that both hold, recent ones of the query
    counting more; a song scores the sum of its playlists. Jannach and Ludewig, "When recurrent
    neural networks meet the neighborhood for session-based recommendation", 2017.
    """

    key, name = "session-knn", "session-kNN"

    def __init__(self, data: Data) -> None:
        self._playlists = data.matrix
        self._by_song = csr_array(data.matrix.T)
        self._scale = 1.0 / np.sqrt(np.maximum(np.diff(self._playlists.indptr), 1))

    def recommend(self, queries: Queries, limit: int) -> Iterator[Numbers]:
        """For each query in turn, the best songs of the playlists like it, in batches."""
        for seeds in batches(queries, self._playlists.shape[0]):
            alike = csr_array(recency(seeds, self._playlists.shape[1], DECAY) @ self._by_song)
            alike.data *= self._scale[alike.indices].astype(np.float32)
            scores = csr_array(strongest(alike, SESSIONS) @ self._playlists)
            yield top_of_sparse(scores, limit, seeds)


def recency(seeds: Ragged, songs: int, decay: float) -> csr_array:
    """What each song of each query counts, 1 for the last: shape (queries, songs)."""
    age = seeds.offsets[1:][seeds.rows] - 1 - np.arange(len(seeds.songs))
    known = seeds.songs >= 0
    weight = (decay ** age[known].astype(np.float64)).astype(np.float32)
    return csr_array((weight, (seeds.rows[known], seeds.songs[known])), shape=(len(seeds), songs))


def strongest(matrix: csr_array, kept: int) -> csr_array:
    """The `kept` highest values above 0 of each row."""
    matrix.eliminate_zeros()
    row = _rows(matrix)
    order = np.lexsort((matrix.indices, -matrix.data, row))
    rank = np.arange(len(order)) - matrix.indptr[row]  # rows stay in place, sorted within
    chosen = order[rank < kept]
    return csr_array(
        (matrix.data[chosen], (row[chosen], matrix.indices[chosen])), shape=matrix.shape
    )


def _rows(matrix: csr_array) -> NDArray[np.int64]:
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _spans(pairs: NDArray[np.generic]) -> Iterator[tuple[int, int]]:
    """Ranges of songs that have about `PAIRS_AT_ONCE` pairs each, one song at least."""
    total = np.cumsum(pairs)
    low = 0
    while low < len(pairs):
        before = total[low - 1] if low else 0.0
        high = max(low + 1, int(np.searchsorted(total, before + PAIRS_AT_ONCE, side="right")))
        yield low, high
        low = high
