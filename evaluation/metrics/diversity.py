"""Similarity of the songs within a ranking: by vectors, and by artists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluation.metrics.ranking import Figures
    from evaluation.protocol.dataset import SongNumbers


def intra_list_diversity(rankings: SongNumbers, k: int, vectors: NDArray[np.float32]) -> Figures:
    """Return 1 minus the mean cosine similarity of all pairs of songs among the first `k` songs.

    `vectors`, shape (songs, dimensions), has a unit vector for each song, or zeros for a song
    without a vector. Songs without a vector are omitted. The figure is NaN if fewer than two songs
    have a vector. Ziegler et al., "Improving recommendation lists through topic diversification",
    2005.
    """
    first = rankings[:, :k]
    has_vector = (first >= 0) & np.asarray(vectors.any(axis=1))[first]
    count = has_vector.sum(axis=1).astype(np.float64)
    total = np.zeros((len(first), vectors.shape[1]))
    for position in range(first.shape[1]):
        total += np.where(has_vector[:, position, None], vectors[first[:, position]], 0.0)
    # The squared length of the sum of n unit vectors is n plus the cosines of all ordered pairs.
    cosines = (total**2).sum(axis=1) - count
    return np.where(count > 1, 1.0 - cosines / np.maximum(count * (count - 1), 1), np.nan)


def artist_repetition(rankings: SongNumbers, k: int, artist: SongNumbers) -> Figures:
    """Return the share of the first `k` songs whose artist occurs earlier in the ranking.

    The share is 0 if all artists differ. Songs without an artist are omitted, and the share is NaN
    if no songs remain. `artist`, shape (songs,), contains the number of each song's artist, or -1
    for a song without an artist.
    """
    first = rankings[:, :k]
    artists = np.sort(np.where(first >= 0, artist[np.maximum(first, 0)], -1), axis=1)
    count = (artists >= 0).sum(axis=1)
    is_new = np.ones(artists.shape, dtype=bool)
    is_new[:, 1:] = artists[:, 1:] != artists[:, :-1]
    distinct = (is_new & (artists >= 0)).sum(axis=1)
    return np.where(count > 0, 1.0 - distinct / np.maximum(count, 1), np.nan)
