"""How far recommendations are the songs that everyone knows: coverage, novelty, popularity bias."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluation.metrics.ranking import Figures
    from evaluation.protocol.dataset import Numbers, Ragged


def coverage(rankings: Numbers, k: int, catalog: int) -> float:
    """The share of the catalog's songs that came among the first `k` of at least one query."""
    first = rankings[:, :k]
    return len(np.unique(first[first >= 0])) / max(1, catalog)


def answered(rankings: Numbers) -> Figures:
    """1 for each query that got a song at all, else 0."""
    return np.asarray((rankings >= 0).any(axis=1), dtype=np.float64)


def novelty(rankings: Numbers, k: int, playlists: NDArray[np.int64], training: int) -> Figures:
    """The mean self-information of the first `k` songs in bits, NaN where there is none.

    A song in `playlists` of the `training` playlists says -log2(playlists / training): 0 where it
    is in all of them. A song in none counts as one in one.
    """
    share = np.minimum(np.maximum(playlists, 1) / max(1, training), 1.0)
    return _mean_of_first(rankings, k, -np.log2(share))


def fresh(rankings: Numbers, k: int, seeds: Ragged, songs: int) -> Figures:
    """The share of the first `k` songs that are not in the query, NaN where there is none."""
    first = rankings[:, :k]
    rows = np.arange(len(first))[:, None]
    own = np.isin(rows * songs + first, seeds.rows * songs + seeds.songs)
    return _mean(~own, first >= 0)


def popularity_place(rankings: Numbers, k: int, place: NDArray[np.int64]) -> Figures:
    """The mean place by popularity of the first `k` songs, NaN where there is none.

    `place` has that of each song, from 1 for the most popular; a song in no training playlist has
    0 and is left out.
    """
    first = rankings[:, :k]
    return _mean(place[np.maximum(first, 0)], (first >= 0) & (place[first] > 0))


def popularity_bias(
    rankings: Numbers, k: int, label: Numbers, place: NDArray[np.int64], catalog: int
) -> Figures:
    """How far recommendations are more popular than labels: negative where they are less so.

    The mean place by popularity of the label's minus that of the first `k` songs, as a share of the
    catalog: -1 to 1. NaN where there is no song, or the label is not in the catalog.
    """
    labels = np.where(place[label] > 0, place[label].astype(np.float64), np.nan)
    return (labels - popularity_place(rankings, k, place)) / max(1, catalog)


def _mean_of_first(rankings: Numbers, k: int, value: NDArray[np.float64]) -> Figures:
    first = rankings[:, :k]
    return _mean(value[np.maximum(first, 0)], first >= 0)


def _mean(values: NDArray[np.generic], there: NDArray[np.bool_]) -> Figures:
    count = there.sum(axis=1)
    total = np.where(there, values, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
