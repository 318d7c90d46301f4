"""EASE: linear regression of each song on all others, tuned on validation cases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import lapack

from evaluation.baselines.top import batch_seeds, exclude_seeds, rank_dense, weigh_by_age
from evaluation.baselines.tuning import tune

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import Dataset, SongNumbers

MIN_PLAYLISTS = 2  # minimum number of training playlists of a song; rarer songs are ignored

MAX_SONGS = 10_000
"""Maximum number of songs: with more, the baseline is skipped. The weights take up to 400 MB."""


@dataclass(frozen=True, slots=True)
class EaseSettings:
    """The parameters of EASE.

    - `regularisation`: L2 penalty on the weights, added to the diagonal of the Gram matrix.
    - `recency`: exponent p in the seed weight (age + 1)^-p, where the last seed has age 0.
    """

    regularisation: float = 500.0
    recency: float = 0.0


GRID = {"recency": (0.0, 0.5, 1.0), "regularisation": (500.0, 100.0, 2_000.0)}
"""Values to try for each parameter, one parameter after another: 5 different settings."""

INVERSIONS = 4
"""Maximum number of matrix inversions: one per value of `regularisation`, and one at the end."""


class Ease:
    """Recommends the songs that the seeds predict best by linear regression.

    The score of a song is the sum of its regression weights for the seeds, weighted by recency. The
    ridge regression uses the other songs of a playlist to predict whether the playlist contains a
    song. Songs in fewer than `MIN_PLAYLISTS` training playlists are ignored. Steck, "Embarrassingly
    shallow autoencoders for sparse data", 2019.
    """

    key, name = "ease", "EASE, tuned"

    def __init__(self, dataset: Dataset, settings: EaseSettings | None = None) -> None:
        self._songs = find_songs(dataset)
        self._song_count = len(dataset.songs)
        playlists = dataset.matrix[:, self._songs]
        self._gram = (playlists.T @ playlists).toarray().astype(np.float32)
        self._computed: dict[float, NDArray[np.float32]] = {}  # latest weights, by regularisation
        self.settings = settings or tune(EaseSettings(), GRID, self._recommend, dataset)
        self._compute_weights(self.settings.regularisation)
        del self._gram

    def recommend(self, cases: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        """Yield the songs with the highest scores for each case, in batches of shape (n, limit)."""
        return self._recommend(self.settings, cases, limit)

    def _recommend(
        self, settings: EaseSettings, cases: HeldOutCases, limit: int
    ) -> Iterator[SongNumbers]:
        weights = self._compute_weights(settings.regularisation)
        for seeds in batch_seeds(cases, self._song_count):
            query = weigh_by_age(seeds, self._song_count, settings.recency)[:, self._songs]
            scores = np.full((len(seeds), self._song_count), -np.inf, np.float32)
            scores[:, self._songs] = query @ weights
            scores[np.diff(query.indptr) == 0] = -np.inf
            exclude_seeds(scores, seeds)
            yield rank_dense(scores, limit)

    def _compute_weights(self, regularisation: float) -> NDArray[np.float32]:
        """Return the regression weights, shape (songs, songs), with one row per seed."""
        if regularisation not in self._computed:
            self._computed = {}  # free the old matrix first, because two may not fit in memory
            self._computed[regularisation] = solve(self._gram, regularisation)
        return self._computed[regularisation]


def find_songs(dataset: Dataset) -> SongNumbers:
    """Return the catalog songs that are in at least `MIN_PLAYLISTS` training playlists."""
    songs = dataset.songs
    return np.flatnonzero(songs.in_catalog & (songs.playlists >= MIN_PLAYLISTS)).astype(np.int32)


def solve(gram: NDArray[np.float32], regularisation: float) -> NDArray[np.float32]:
    """Return the regression weights for the Gram matrix of the songs.

    An entry of `gram` is the number of training playlists that contain both songs. Both matrices
    have shape (songs, songs). The diagonal of the weights is zero.
    """
    matrix = gram.copy()
    matrix[np.diag_indices_from(matrix)] += regularisation
    factor, failed = lapack.spotrf(matrix, lower=1, overwrite_a=1)
    assert not failed, "a Gram matrix plus a positive diagonal is positive definite"
    inverse, _ = lapack.spotri(factor, lower=1, overwrite_c=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    weights: NDArray[np.float32] = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights
