"""Ranked songs -> those that are shown: not too many of one artist, not too much alike."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from numpy.typing import NDArray

    from catalog.release import Hit


class Picks:
    """Takes `limit` songs from rankings that come one after another, the best first.

    Of each artist at most `max_per_artist`, 0 being no bound. With `diversity` d above 0 the songs
    of a ranking are taken by maximal marginal relevance (Carbonell and Goldstein, 1998): next
    comes the song with the highest (1 - d) * relevance - d * similarity, where relevance is its
    score, scaled so that the ranking's scores go from 0 to 1, and similarity the highest cosine
    with a song taken before. A song without a vector is as similar as songs of that
    ranking are on average.
    """

    def __init__(self, limit: int, max_per_artist: int = 0, diversity: float = 0.0) -> None:
        self.songs: list[Hit] = []
        self.seen: frozenset[UUID] = frozenset()
        self.full_artists: frozenset[str] = frozenset()
        self._limit = limit
        self._most = max_per_artist
        self._diversity = diversity
        self._by_artist: Counter[str] = Counter()

    @property
    def complete(self) -> bool:
        """Whether all songs that are wanted have been taken."""
        return len(self.songs) >= self._limit

    def add(self, ranking: Sequence[Hit]) -> None:
        """Take what can be taken of a ranking that holds no song that was there before."""
        if self._diversity:
            self._take_diverse(ranking)
        else:
            for hit in ranking:
                self._take(hit)
        self.seen |= {hit.song.song_id for hit in ranking}

    def _take(self, hit: Hit) -> bool:
        artist = hit.song.artist_key
        if self.complete or artist in self.full_artists:
            return False
        self.songs.append(hit)
        self._by_artist[artist] += 1
        if self._by_artist[artist] == self._most:
            self.full_artists |= {artist}
        return True

    def _take_diverse(self, ranking: Sequence[Hit]) -> None:
        if not ranking:
            return
        scores = np.array([hit.score for hit in ranking])
        spread = scores.max() - scores.min()
        relevance = (scores - scores.min()) / spread if spread else np.ones(len(scores))
        alike = _similarities([*self.songs, *ranking])
        before = len(self.songs)
        nearest = alike[before:, :before].max(axis=1, initial=-1.0)
        left = np.ones(len(ranking), dtype=bool)
        while left.any() and not self.complete:
            gain = relevance
            if self.songs:
                gain = (1 - self._diversity) * relevance - self._diversity * nearest
            best = int(np.argmax(np.where(left, gain, -np.inf)))
            left[best] = False
            if self._take(ranking[best]):
                nearest = np.maximum(nearest, alike[before:, before + best])


def _similarities(hits: Sequence[Hit]) -> NDArray[np.float64]:
    """The cosines of all pairs, shape (hits, hits); the mean one where a vector is missing."""
    having = np.array([hit.vector is not None for hit in hits])
    cosines = np.zeros((len(hits), len(hits)))
    if having.any():
        vectors = np.array([hit.vector for hit in hits if hit.vector is not None], np.float64)
        known = vectors @ vectors.T
        cosines[:] = known[~np.eye(len(known), dtype=bool)].mean() if len(known) > 1 else 0.0
        cosines[np.ix_(having, having)] = known
    return cosines
