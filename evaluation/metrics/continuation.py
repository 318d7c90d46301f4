"""Metrics for playlist continuation with many labels per query, as in the RecSys Challenge 2018.

Zamani et al., "An Analysis of Approaches Taken in the ACM RecSys Challenge 2018", 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evaluation.metrics.relevance import find_label_ranks

if TYPE_CHECKING:
    from evaluation.metrics.ranking import Figures
    from evaluation.metrics.relevance import Matches
    from evaluation.protocol.dataset import SongLists, SongNumbers

DEPTH = 500  # number of songs recommended for each query in the challenge

ARTIST_CREDIT = 0.25
"""Credit for recommending a song by the artist of a label. Recommending a label has credit 1."""

SONGS_PER_PAGE = 10  # number of songs that a user sees at a time


def r_precision(matches: Matches, labels: SongLists) -> Figures:
    """Return the R-precision of each query, shape (n,).

    The R-precision of a query with R labels is the number of labels among the first R songs,
    divided by R.
    """
    ranks = np.arange(1, matches.shape[1] + 1)
    within = matches & (ranks <= labels.lengths[:, None])
    figures: Figures = within.sum(axis=1) / np.maximum(labels.lengths, 1)
    return figures


def r_precision_with_artists(
    rankings: SongNumbers, matches: Matches, labels: SongLists, artist: SongNumbers
) -> Figures:
    """Return the R-precision of each query, with partial credit for artists, shape (n,).

    For a query with R labels, the figure is the R-precision plus `ARTIST_CREDIT` / R for each
    artist of a label with a song among the first R songs. Figures can exceed 1. `artist`, shape
    (songs,), contains the number of each song's artist, or -1 for a song without an artist.
    """
    artist_share = np.zeros(len(rankings))
    for row, label_count in enumerate(labels.lengths):
        first = rankings[row, :label_count]
        shared = np.intersect1d(artist[first[first >= 0]], artist[labels[row]])
        artist_share[row] = (shared >= 0).sum() / max(1, label_count)
    return r_precision(matches, labels) + ARTIST_CREDIT * artist_share


def clicks(matches: Matches) -> Figures:
    """Return how often a user must request ten more songs until a label is shown, shape (n,).

    The figure is 0 if a label is among the first ten songs, and 51 (`DEPTH` / 10 + 1) if no label
    is recommended.
    """
    rank = find_label_ranks(matches[:, :DEPTH])
    never = DEPTH // SONGS_PER_PAGE + 1
    return np.where(rank > 0, (rank - 1) // SONGS_PER_PAGE, never).astype(np.float64)
