"""Ranked songs -> those that are shown: not too many of one artist, not too much alike."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from numpy.typing import NDArray

    from catalog.model import Hit


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
        self.full_artists: frozenset[str] = frozenset()
        self._limit = limit
        self._most = max_per_artist
        self._diversity = diversity
        self._by_artist: Counter[str] = Counter()
        self._seen: dict[UUID, str] = {}

    @property
    def complete(self) -> bool:
        """Whether all songs that are wanted have been taken."""
        return len(self.songs) >= self._limit

    @property
    def skipped(self) -> frozenset[UUID]:
        """The songs that must not come again, but for those of `full_artists`."""
        return frozenset(
            song_id for song_id, artist in self._seen.items() if artist not in self.full_artists
        )

    @property
    def refused(self) -> int:
        """How many songs came and were not taken."""
        return len(self._seen) - len(self.songs)

    def add(self, ranking: Sequence[Hit]) -> None:
        """Take what can be taken of a ranking that holds no song that was there before."""
        if self._diversity:
            self._take_diverse(ranking)
        else:
            for hit in ranking:
                self._take(hit)
        self._seen.update((hit.song.song_id, hit.song.artist_key) for hit in ranking)

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
        gain = (1 - self._diversity) * relevance
        alike = _Likeness([*self.songs, *ranking])
        before = len(self.songs)
        nearest = np.full(len(ranking), -np.inf)
        for place in range(before):
            nearest = np.maximum(nearest, alike.with_song(place)[before:])
        artists = np.array([hit.song.artist_key for hit in ranking])
        left = ~np.isin(artists, list(self.full_artists))
        while left.any() and not self.complete:
            worth = gain - self._diversity * nearest if self.songs else relevance
            best = int(np.argmax(np.where(left, worth, -np.inf)))
            left[best] = False
            self._take(ranking[best])
            nearest = np.maximum(nearest, alike.with_song(before + best)[before:])
            if ranking[best].song.artist_key in self.full_artists:
                left &= artists != ranking[best].song.artist_key


class _Likeness:
    """The cosines of songs with one of them at a time; the mean of all pairs without a vector."""

    def __init__(self, hits: Sequence[Hit]) -> None:
        self._having = np.array([hit.vector is not None for hit in hits])
        vectors = [hit.vector for hit in hits if hit.vector is not None]
        self._vectors = np.array(vectors, np.float64)
        self._row = np.cumsum(self._having) - 1
        self._mean = _mean_cosine(self._vectors) if len(vectors) > 1 else 0.0

    def with_song(self, place: int) -> NDArray[np.float64]:
        """The cosine of each song with the one at `place`, shape (songs,)."""
        cosines = np.full(len(self._having), self._mean)
        if self._having[place]:
            cosines[self._having] = self._vectors @ self._vectors[self._row[place]]
        return cosines


def _mean_cosine(vectors: NDArray[np.float64]) -> float:
    """The mean dot product of all pairs of two different rows."""
    total = vectors.sum(axis=0)
    pairs = len(vectors) * (len(vectors) - 1)
    return float(total @ total - np.square(vectors).sum()) / pairs
