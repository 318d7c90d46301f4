"""Diversify a ranking: cap the songs per artist, and apply maximal marginal relevance."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from numpy.typing import NDArray

    from catalog.model import Hit


class DiverseSelection:
    """A selection of `limit` songs from rankings that are added one after another, best first.

    At most `max_per_artist` songs of one artist are selected; 0 means no maximum. With `diversity`
    d above 0, songs of a ranking are selected by maximal marginal relevance (Carbonell and
    Goldstein, 1998): the next song is the one with the highest (1 - d) * relevance - d *
    similarity. The relevance is its score, scaled to 0 to 1 within the ranking; the similarity is
    its highest cosine with a song selected before. A song without a vector has the mean similarity
    of all pairs of songs.

    `full_artists` are the artists of whom `max_per_artist` songs are selected.
    """

    def __init__(self, limit: int, max_per_artist: int = 0, diversity: float = 0.0) -> None:
        self.songs: list[Hit] = []
        self.full_artists: frozenset[str] = frozenset()
        self._limit = limit
        self._max_per_artist = max_per_artist
        self._diversity = diversity
        self._artist_counts: Counter[str] = Counter()
        self._seen: list[Hit] = []

    @property
    def is_complete(self) -> bool:
        """Whether `limit` songs are selected."""
        return len(self.songs) >= self._limit

    @property
    def seen_songs(self) -> frozenset[UUID]:
        """The songs of the rankings added so far, without the songs of `full_artists`."""
        return frozenset(hit.song.song_id for hit in self._seen if not self._is_full(hit))

    @property
    def rejected_count(self) -> int:
        """The number of songs of the rankings that were not selected."""
        return len(self._seen) - len(self.songs)

    def add(self, ranking: Sequence[Hit]) -> None:
        """Select songs of a ranking, which must not contain songs of an earlier one."""
        if self._diversity:
            self._select_diverse(ranking)
        else:
            for hit in ranking:
                if not self.is_complete and not self._is_full(hit):
                    self._select(hit)
        self._seen += ranking

    def _is_full(self, hit: Hit) -> bool:
        """Return whether the maximum number of songs of the artist of this song is selected."""
        return hit.song.artist_key in self.full_artists

    def _select(self, hit: Hit) -> None:
        artist = hit.song.artist_key
        self.songs.append(hit)
        self._artist_counts[artist] += 1
        if self._artist_counts[artist] == self._max_per_artist:
            self.full_artists |= {artist}

    def _select_diverse(self, ranking: Sequence[Hit]) -> None:
        if not ranking:
            return
        relevance = _scale(np.array([hit.score for hit in ranking]))
        cosines = _Cosines([*self.songs, *ranking])
        selected = len(self.songs)
        # Highest cosine of each song of the ranking with a selected song.
        nearest = np.full(len(ranking), -np.inf)
        for index in range(selected):
            nearest = np.maximum(nearest, cosines.compare_with(index)[selected:])
        is_left = np.array([not self._is_full(hit) for hit in ranking])
        while is_left.any() and not self.is_complete:
            marginal = relevance
            if self.songs:
                marginal = (1 - self._diversity) * relevance - self._diversity * nearest
            best = int(np.argmax(np.where(is_left, marginal, -np.inf)))
            is_left[best] = False
            self._select(ranking[best])
            nearest = np.maximum(nearest, cosines.compare_with(selected + best)[selected:])
            if self._is_full(ranking[best]):
                is_left &= np.array([not self._is_full(hit) for hit in ranking])


class _Cosines:
    """Cosines of pairs of songs. A song without a vector has the mean cosine of all pairs."""

    def __init__(self, hits: Sequence[Hit]) -> None:
        self._has_vector = np.array([hit.vector is not None for hit in hits])
        vectors = [hit.vector for hit in hits if hit.vector is not None]
        self._vectors = np.array(vectors, np.float64)
        self._rows = np.cumsum(self._has_vector) - 1
        self._mean = _compute_mean_cosine(self._vectors) if len(vectors) > 1 else 0.0

    def compare_with(self, index: int) -> NDArray[np.float64]:
        """Return the cosine of each song with the song at `index`, shape (songs,)."""
        cosines = np.full(len(self._has_vector), self._mean)
        if self._has_vector[index]:
            cosines[self._has_vector] = self._vectors @ self._vectors[self._rows[index]]
        return cosines


def _scale(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale scores to the range 0 to 1. If all are equal, return ones."""
    spread = scores.max() - scores.min()
    if not spread:
        return np.ones(len(scores))
    scaled: NDArray[np.float64] = (scores - scores.min()) / spread
    return scaled


def _compute_mean_cosine(vectors: NDArray[np.float64]) -> float:
    """Return the mean dot product of all pairs of two different rows."""
    total = vectors.sum(axis=0)
    pairs = len(vectors) * (len(vectors) - 1)
    return float(total @ total - np.square(vectors).sum()) / pairs
