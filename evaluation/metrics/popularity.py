"""Coverage, novelty and popularity bias."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluation.metrics.ranking import Figures
    from evaluation.protocol.dataset import SongLists, SongNumbers


def coverage(rankings: SongNumbers, k: int, catalog_size: int) -> float:
    """Return the share of the catalog that is among the first `k` songs of at least one ranking."""
    first = rankings[:, :k]
    return len(np.unique(first[first >= 0])) / max(1, catalog_size)


def answer_share(rankings: SongNumbers) -> Figures:
    """Return 1 for each query with a recommended song, and 0 for all others, shape (n,)."""
    return np.asarray((rankings >= 0).any(axis=1), dtype=np.float64)


def novelty(
    rankings: SongNumbers, k: int, playlists: NDArray[np.int64], training_playlists: int
) -> Figures:
    """Return the mean self-information in bits of the first `k` songs, or NaN without any song.

    The self-information of a song is -log2 of the share of training playlists that have the song.
    `playlists`, shape (songs,), has the number of training playlists with each song; 0 counts as 1.
    """
    share = np.minimum(np.maximum(playlists, 1) / max(1, training_playlists), 1.0)
    first = rankings[:, :k]
    return _mean(-np.log2(share)[np.maximum(first, 0)], first >= 0)


def freshness(rankings: SongNumbers, k: int, seeds: SongLists, songs: int) -> Figures:
    """Return the share of the first `k` songs that are not seeds, or NaN if there is no song.

    `songs` is the number of songs in the dataset.
    """
    first = rankings[:, :k]
    rows = np.arange(len(first))[:, None]
    is_seed = np.isin(rows * songs + first, seeds.rows * songs + seeds.songs)
    return _mean(~is_seed, first >= 0)


def mean_popularity_rank(
    rankings: SongNumbers, k: int, popularity_rank: NDArray[np.int64]
) -> Figures:
    """Return the mean popularity rank of the first `k` songs, or NaN if there is no song.

    `popularity_rank`, shape (songs,), is the rank of each song, from 1 for the most popular song.
    Songs with rank 0 are not in the catalog and are left out.
    """
    first = rankings[:, :k]
    ranks = popularity_rank[np.maximum(first, 0)]
    return _mean(ranks, (first >= 0) & (ranks > 0))


def popularity_bias(
    rankings: SongNumbers,
    k: int,
    label: SongNumbers,
    popularity_rank: NDArray[np.int64],
    catalog_size: int,
) -> Figures:
    """Return the difference in popularity between the first `k` songs and the label, from -1 to 1.

    The figure is the popularity rank of the label minus the mean popularity rank of the songs,
    divided by the number of songs in the catalog. It is above 0 if the songs are more popular than
    the label. It is NaN if there is no song, or if the label is not in the catalog.
    """
    label_rank = popularity_rank[label].astype(np.float64)
    label_rank[label_rank == 0] = np.nan
    return (label_rank - mean_popularity_rank(rankings, k, popularity_rank)) / max(1, catalog_size)


def _mean(values: NDArray[np.generic], included: NDArray[np.bool_]) -> Figures:
    """Return the mean of the included values of each row, or NaN for a row without such values."""
    count = included.sum(axis=1)
    total = np.where(included, values, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
