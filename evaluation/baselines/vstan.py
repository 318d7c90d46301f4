"""Session-kNN with sequence and recency weights, based on VSTAN and tuned on validation cases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from evaluation.baselines.neighbours import keep_highest
from evaluation.baselines.top import batch_seeds, exclude_seeds, rank_dense, weigh_by_age
from evaluation.baselines.tuning import tune

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import Dataset, SongLists, SongNumbers


@dataclass(frozen=True, slots=True)
class VstanSettings:
    """The parameters of VSTAN.

    - `recency`: exponent p in the seed weight (age + 1)^-p, where the last seed has age 0.
    - `distance`: decay length of the weight exp(-d / `distance`) of a song in a training playlist,
      where d is the number of positions between the song and the most recent seed of the query
      that the playlist contains. 0 gives all songs the same weight.
    - `sessions`: number of most similar training playlists whose songs are recommended.
    - `rarity`: exponent of the factor log(playlists / playlists with the song) in the score of a
      song.
    """

    recency: float = 0.5
    distance: float = 0.0
    sessions: int = 200
    rarity: float = 0.0


GRID = {
    "recency": (0.5, 0.0, 1.0),
    "sessions": (200, 100, 500, 1_500),
    "distance": (0.0, 5.0, 20.0, 80.0),
    "rarity": (0.0, 0.5, 1.0),
}
"""Values to try for each parameter, one parameter after another."""

SETTINGS_TO_TRY = 11  # number of different settings that tuning with `GRID` compares


class Vstan:
    """Recommends songs from the training playlists that are most similar to the query.

    The similarity of a playlist is the cosine similarity between its songs and the seeds, with
    higher weights for recent seeds. A song of a playlist has a higher weight if it is rare, or near
    the query's most recent seed in the playlist. Unlike in the original VSTAN, weights do not
    depend on the date of a playlist, because playlists need not have a date. Ludewig et al.,
    "Empirical analysis of session-based recommendation algorithms", 2021.
    """

    key, name = "vstan", "VSTAN, tuned"

    def __init__(self, dataset: Dataset, settings: VstanSettings | None = None) -> None:
        self._dataset = dataset
        self._by_song = csr_array(dataset.matrix.T)
        lengths = np.maximum(np.diff(dataset.matrix.indptr), 1)
        self._scale = (1.0 / np.sqrt(lengths)).astype(np.float32)
        share = np.maximum(dataset.songs.playlists, 1) / max(1, len(dataset.train))
        self._rarity = np.log(1.0 / np.minimum(share, 1.0)) + 1e-6
        self.settings = settings or tune(VstanSettings(), GRID, self._recommend, dataset)

    def recommend(self, cases: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        """Yield the songs of the playlists most similar to each case.

        The batches have shape (n, limit).
        """
        return self._recommend(self.settings, cases, limit)

    def _recommend(
        self, settings: VstanSettings, cases: HeldOutCases, limit: int
    ) -> Iterator[SongNumbers]:
        songs = len(self._dataset.songs)
        rarity = self._rarity**settings.rarity
        rarity[~self._dataset.songs.in_catalog] = 0.0
        for seeds in batch_seeds(cases, songs):
            weights = weigh_by_age(seeds, songs, settings.recency)
            similarities = csr_array(weights @ self._by_song)
            similarities.data *= self._scale[similarities.indices]
            nearest = keep_highest(similarities, settings.sessions)
            scores = np.zeros((len(seeds), songs), np.float32)
            for row in range(len(seeds)):
                self._score(scores[row], nearest, seeds, row, settings.distance)
            scores *= rarity.astype(np.float32)
            scores[scores <= 0] = -np.inf
            exclude_seeds(scores, seeds)
            yield rank_dense(scores, limit)

    def _score(
        self,
        scores: NDArray[np.float32],
        nearest: csr_array,
        seeds: SongLists,
        row: int,
        distance: float,
    ) -> None:
        """Set the scores of one query, shape (songs,), from the songs of its nearest playlists."""
        span = slice(nearest.indptr[row], nearest.indptr[row + 1])
        playlists, similarity = nearest.indices[span], nearest.data[span]
        if not len(playlists):
            return
        train = self._dataset.train
        lengths = train.lengths[playlists]
        starts = np.cumsum(lengths) - lengths
        plays = np.arange(lengths.sum()) - np.repeat(starts - train.offsets[playlists], lengths)
        songs = train.songs[plays]
        values = np.repeat(similarity, lengths)
        if distance:
            # `position` is the index of each song in the query, or -1.
            position = np.full(len(scores), -1, np.int64)
            known = seeds[row] >= 0
            position[seeds[row][known]] = np.flatnonzero(known)
            # `anchor` is the position, in each playlist, of the most recent seed that it contains.
            key = position[songs] * (int(lengths.max()) + 1)
            in_playlist = np.arange(len(songs)) - np.repeat(starts, lengths)
            key = np.where(position[songs] >= 0, key + in_playlist, -1)
            anchor = np.maximum.reduceat(key, starts) % (int(lengths.max()) + 1)
            gap = np.abs(in_playlist - np.repeat(anchor, lengths))
            values = values * np.exp(-gap / distance)
        scores[:] = np.bincount(songs, values, minlength=len(scores))
