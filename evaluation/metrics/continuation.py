"""Playlist continuation with many labels per query, as in the RecSys Challenge 2018.

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

DEPTH = 500  # songs that the challenge asks for

ARTIST_CREDIT = 0.25  # labels; the credit for a song by the artist of a label

SONGS_PER_PAGE = 10


def r_precision(matches: Matches, labels: SongLists) -> Figures:
    """Return the share of labels among as many songs as there are labels, shape (n,)."""
    ranks = np.arange(1, matches.shape[1] + 1)
    within = matches & (ranks <= labels.lengths[:, None])
    figures: Figures = within.sum(axis=1) / np.maximum(labels.lengths, 1)
    return figures


def r_precision_with_artists(
    rankings: SongNumbers, matches: Matches, labels: SongLists, artist: SongNumbers
) -> Figures:
    """Return `r_precision` plus `ARTIST_CREDIT` for each artist of a label that is recommended.

    `artist` is the artist of each song. Only as many songs count as there are labels, and each
    artist counts once per query. Figures can exceed 1. Shape (n,).
    """
    artist_share = np.zeros(len(rankings))
    for row, label_count in enumerate(labels.lengths):
        first = rankings[row, :label_count]
        shared = np.intersect1d(artist[first[first >= 0]], artist[labels[row]])
        artist_share[row] = len(shared) / max(1, label_count)
    return r_precision(matches, labels) + ARTIST_CREDIT * artist_share


def clicks(matches: Matches) -> Figures:
    """Return how many more pages of ten songs a user requests until the first label.

    The figure is 0 if a label is among the first ten songs, and `DEPTH` / 10 + 1 = 51 if no label
    is recommended. Shape (n,).
    """
    rank = find_label_ranks(matches[:, :DEPTH])
    never = DEPTH // SONGS_PER_PAGE + 1
    return np.where(rank > 0, (rank - 1) // SONGS_PER_PAGE, never).astype(np.float64)
