"""Select diverse songs from rankings, with limits on songs per artist and on versions."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np

from catalog.song import normalise
from service.recommend.recordings import identify_recording

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from uuid import UUID

    from numpy.typing import NDArray

    from catalog.model import Hit
    from service.recommend.recordings import Recording


class DiverseSelection:
    """A selection of `limit` songs from rankings, which are added one after another.

    The songs of a ranking are ordered best first.

    - `max_per_artist`: maximum number of songs of an artist; 0 for no maximum.
    - `min_artist_gap`: minimum number of other songs between two songs of the same artist. A song
      that is too close to another song of its artist is postponed until the gap is large enough.
    - `diversity`: if above 0, songs are selected by maximal marginal relevance (Carbonell and
      Goldstein, 1998). The next song is the one that maximises (1 - diversity) * relevance -
      diversity * similarity. The relevance of a song is its score, scaled to the range 0 to 1 among
      the candidates. Its similarity is its highest cosine similarity to any song already selected.
      For a song without a vector, the similarity is the mean over all pairs of songs with vectors.
    - `played`: recordings of the seeds (see `service.recommend.recordings`), of which no version is
      selected. At most one version of each other recording is selected. If `played` is None,
      versions are allowed without limit.

    A song counts for each of its artists. The limits on artists do not apply to songs without an
    artist.
    """

    def __init__(
        self,
        limit: int,
        max_per_artist: int = 0,
        diversity: float = 0.0,
        min_artist_gap: int = 0,
        played: Collection[Recording] | None = None,
    ) -> None:
        self.songs: list[Hit] = []
        self._limit = limit
        self._max_per_artist = max_per_artist
        self._diversity = diversity
        self._min_artist_gap = min_artist_gap
        self._recordings = None if played is None else set(played)
        self._full_artists: set[str] = set()
        self._artist_counts: Counter[str] = Counter()
        self._seen: list[Hit] = []
        self._waiting: list[Hit] = []

    @property
    def is_complete(self) -> bool:
        """Whether `limit` songs have been selected."""
        return len(self.songs) >= self._limit

    @property
    def blocked_artists(self) -> frozenset[str]:
        """The artists whose songs cannot be selected next.

        Such an artist has the maximum number of songs, or a song among the last `min_artist_gap`
        songs.
        """
        return frozenset(self._full_artists).union(*map(_artists, self._recent))

    @property
    def seen_songs(self) -> frozenset[UUID]:
        """The ids of the songs in the rankings added so far.

        Songs of artists that have reached the maximum are left out, because `blocked_artists` names
        their artists.
        """
        return frozenset(hit.song.song_id for hit in self._seen if not self._is_full(hit))

    @property
    def rejected_count(self) -> int:
        """The number of songs in the rankings added so far that have not been selected."""
        return len(self._seen) - len(self.songs)

    def add(self, ranking: Sequence[Hit]) -> None:
        """Select songs from a ranking, which must not contain songs of an earlier ranking."""
        self._seen += ranking
        if self._diversity or self._min_artist_gap:
            self._select_from([*self._waiting, *ranking])
            return
        for hit in ranking:
            if self.is_complete:
                break
            if not (self._is_full(hit) or self._is_version(hit)):
                self._select(hit)

    @property
    def _recent(self) -> Sequence[Hit]:
        """The last selected songs, whose artists the next song must not have."""
        return self.songs[-self._min_artist_gap :] if self._min_artist_gap else ()

    def _is_full(self, hit: Hit) -> bool:
        """Return whether any artist of this song already has the maximum number of songs."""
        return not self._full_artists.isdisjoint(_artists(hit))

    def _is_version(self, hit: Hit) -> bool:
        """Return whether this song is a version of a played or selected song."""
        return self._recordings is not None and _identify(hit) in self._recordings

    def _select(self, hit: Hit) -> None:
        self.songs.append(hit)
        for artist in _artists(hit):
            self._artist_counts[artist] += 1
            if self._artist_counts[artist] == self._max_per_artist:
                self._full_artists.add(artist)
        if self._recordings is not None and (recording := _identify(hit)):
            self._recordings.add(recording)

    def _select_from(self, ranking: Sequence[Hit]) -> None:
        """Select songs one by one: at each step, the best song that is allowed."""
        candidates = _Candidates(
            [hit for hit in ranking if not (self._is_full(hit) or self._is_version(hit))],
            self.songs,
            self._diversity,
            by_recording=self._recordings is not None,
        )
        for recent in self._recent:
            candidates.block(_artists(recent))
        while not self.is_complete and (hit := candidates.take_best()):
            # If the gap is full, its oldest song leaves the gap, and its artists are unblocked.
            leaving_gap = self._recent[:1] if len(self._recent) == self._min_artist_gap else ()
            self._select(hit)
            for artist in self._full_artists.intersection(_artists(hit)):
                candidates.drop_artist(artist)
            if self._min_artist_gap:
                for earlier_hit in leaving_gap:
                    candidates.unblock(_artists(earlier_hit))
                candidates.block(_artists(hit))
        self._waiting = candidates.list_left()


class _Candidates:
    """Songs to select from, each with its highest cosine similarity to any selected song.

    If `by_recording`, taking a song removes the other versions of its recording.
    """

    def __init__(
        self, hits: Sequence[Hit], selected: Sequence[Hit], diversity: float, *, by_recording: bool
    ) -> None:
        self._hits = hits
        self._is_left = np.ones(len(hits), bool)
        # For each song, the number of rules (on its artist or recording) that exclude it now.
        self._blocks = np.zeros(len(hits), np.int64)
        self._rows_by_artist: defaultdict[str, list[int]] = defaultdict(list)
        self._rows_by_recording: defaultdict[Recording, list[int]] = defaultdict(list)
        for row, hit in enumerate(hits):
            for artist in _artists(hit):
                self._rows_by_artist[artist].append(row)
            if by_recording and (recording := _identify(hit)):
                self._rows_by_recording[recording].append(row)
        self._diversity = diversity
        self._has_selected = bool(selected)
        if diversity and hits:
            self._relevance = _scale(np.array([hit.score for hit in hits]))
            self._cosines = _Cosines([*selected, *hits])
            self._nearest = np.full(len(hits), -np.inf)
            for index in range(len(selected)):
                self._compare_with(index)
        else:
            self._relevance = -np.arange(len(hits), dtype=np.float64)

    def take_best(self) -> Hit | None:
        """Remove and return the best song that is not blocked, or None if there is none.

        The other versions of the song are removed, too.
        """
        allowed = self._is_left & (self._blocks == 0)
        if not allowed.any():
            return None
        marginal = self._relevance
        if self._diversity and self._has_selected:
            marginal = (1 - self._diversity) * self._relevance - self._diversity * self._nearest
        best = int(np.argmax(np.where(allowed, marginal, -np.inf)))
        hit = self._hits[best]
        self._is_left[best] = False
        if recording := _identify(hit):
            self._is_left[self._rows_by_recording.get(recording, [])] = False
        if self._diversity:
            self._has_selected = True
            self._compare_with(best - len(self._hits))
        return hit

    def block(self, artists: Collection[str]) -> None:
        """Block the songs of these artists. Songs blocked twice must be unblocked twice."""
        for artist in artists:
            self._blocks[self._rows_by_artist.get(artist, [])] += 1

    def unblock(self, artists: Collection[str]) -> None:
        """Undo one call of `block` for these artists."""
        for artist in artists:
            self._blocks[self._rows_by_artist.get(artist, [])] -= 1

    def drop_artist(self, artist: str) -> None:
        """Remove the songs of an artist."""
        self._is_left[self._rows_by_artist.get(artist, [])] = False

    def list_left(self) -> list[Hit]:
        """Return the songs that have not been taken or removed, in their original order."""
        return [hit for hit, is_left in zip(self._hits, self._is_left, strict=True) if is_left]

    def _compare_with(self, index: int) -> None:
        """Include a selected song in the highest similarity of each candidate.

        `index` is the index of the selected song in the list of the songs that were selected before
        the candidates were created, followed by the candidates.
        """
        cosines = self._cosines.compare_with(index)[-len(self._hits) :]
        self._nearest = np.maximum(self._nearest, cosines)


def _artists(hit: Hit) -> tuple[str, ...]:
    return hit.song.artist_keys


def _identify(hit: Hit) -> Recording | None:
    return identify_recording(hit.song.artist_key, normalise(hit.song.title))


class _Cosines:
    """Cosine similarities between songs.

    If one of two songs has no vector, their similarity is the mean of all pairs that have vectors.
    """

    def __init__(self, hits: Sequence[Hit]) -> None:
        self._has_vector = np.array([hit.vector is not None for hit in hits])
        vectors = [hit.vector for hit in hits if hit.vector is not None]
        self._vectors = np.array(vectors, np.float64)
        self._rows = np.cumsum(self._has_vector) - 1
        self._mean = _compute_mean_cosine(self._vectors) if len(vectors) > 1 else 0.0

    def compare_with(self, index: int) -> NDArray[np.float64]:
        """Return the cosine similarity of each song to the song at `index`, shape (songs,)."""
        cosines = np.full(len(self._has_vector), self._mean)
        if self._has_vector[index]:
            cosines[self._has_vector] = self._vectors @ self._vectors[self._rows[index]]
        return cosines


def _scale(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale scores to the range 0 to 1. If all scores are equal, return ones."""
    spread = scores.max() - scores.min()
    if not spread:
        return np.ones(len(scores))
    scaled: NDArray[np.float64] = (scores - scores.min()) / spread
    return scaled


def _compute_mean_cosine(vectors: NDArray[np.float64]) -> float:
    """Return the mean dot product of all pairs of different rows, which have unit length."""
    total = vectors.sum(axis=0)
    pairs = len(vectors) * (len(vectors) - 1)
    return float(total @ total - np.square(vectors).sum()) / pairs
