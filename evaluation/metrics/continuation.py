"""Playlist continuation, scored as in the RecSys Challenge 2018: many labels a query.

Zamani et al., "An Analysis of Approaches Taken in the ACM RecSys Challenge 2018", 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evaluation.metrics.relevance import ranks

if TYPE_CHECKING:
    from evaluation.metrics.ranking import Figures
    from evaluation.metrics.relevance import Relevant
    from evaluation.protocol.dataset import Numbers, Ragged

DEPTH = 500
"""How many songs the challenge asks for."""

ARTIST_CREDIT = 0.25

SONGS_PER_CLICK = 10


def r_precision(matches: Relevant, labels: Ragged) -> Figures:
    """The share of labels among as many songs as there are labels, shape (n,)."""
    places = np.arange(1, matches.shape[1] + 1)
    within = matches & (places <= labels.lengths[:, None])
    found: Figures = within.sum(axis=1) / np.maximum(labels.lengths, 1)
    return found


def r_precision_with_artists(
    rankings: Numbers, matches: Relevant, labels: Ragged, artist: Numbers
) -> Figures:
    """`r_precision`, plus a quarter of a label for each of the labels' artists found, shape (n,).

    `artist` has the artist of each song. Artists count once a query, and count as found where any
    of the first songs, as many as there are labels, is theirs. Can pass 1.
    """
    found = np.zeros(len(rankings))
    for query, wanted in enumerate(labels.lengths):
        first = rankings[query, :wanted]
        both = np.intersect1d(artist[first[first >= 0]], artist[labels[query]])
        found[query] = len(both) / max(1, wanted)
    return r_precision(matches, labels) + ARTIST_CREDIT * found


def clicks(matches: Relevant) -> Figures:
    """How often a user who is shown ten songs at a time asks for more until a label comes.

    0 where it is among the first ten; `DEPTH` / 10 + 1 = 51 where it never comes. Shape (n,).
    """
    place = ranks(matches[:, :DEPTH])
    never = DEPTH // SONGS_PER_CLICK + 1
    return np.where(place > 0, (place - 1) // SONGS_PER_CLICK, never).astype(np.float64)
