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

MIN_PLAYLISTS = 2  # training playlists of a song that takes part

MAX_SONGS = 10_000
"""Maximum number of songs that take part. The matrix of their weights takes 400 MB."""


@dataclass(frozen=True, slots=True)
class EaseSettings:
    """The parameters of EASE.

    - `regularisation`: L2 penalty on the weights, added to the diagonal of the Gram matrix.
    - `recency`: p of the weight (age + 1)^-p of a seed; 0 for equal weights.
    """

    regularisation: float = 500.0
    recency: float = 0.0


GRID = {"recency": (0.0, 0.5, 1.0), "regularisation": (500.0, 100.0, 2_000.0)}
"""Values that are tried: 5 settings."""

INVERSIONS = 4
"""Maximum number of times that the matrix is inverted. Recency does not change it."""


class Ease:
    """Recommends the songs with the highest weighted sum of regression weights of the seeds.

    The weights solve a ridge regression of each song's playlists on those of all other songs. Songs
    of fewer than `MIN_PLAYLISTS` training playlists take no part. Steck, "Embarrassingly shallow
    autoencoders for sparse data", 2019.
    """

    key, name = "ease", "EASE, tuned"

    def __init__(self, dataset: Dataset, settings: EaseSettings | None = None) -> None:
        self._songs = find_songs(dataset)
        self._song_count = len(dataset.songs)
        playlists = dataset.matrix[:, self._songs]
        self._gram = (playlists.T @ playlists).toarray().astype(np.float32)
        self._computed: dict[float, NDArray[np.float32]] = {}  # the last weights
        self.settings = settings or tune(EaseSettings(), GRID, self._recommend, dataset)
        self._compute_weights(self.settings.regularisation)
        del self._gram

    def recommend(self, cases: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        """Yield the songs with the highest scores for each case, in batches."""
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
        """Return the weight of each seed for each song, shape (songs, songs)."""
        if regularisation not in self._computed:
            self._computed = {}  # two matrices of weights may not fit into memory
            self._computed[regularisation] = solve(self._gram, regularisation)
        return self._computed[regularisation]


def find_songs(dataset: Dataset) -> SongNumbers:
    """Return the songs that take part."""
    songs = dataset.songs
    return np.flatnonzero(songs.in_catalog & (songs.playlists >= MIN_PLAYLISTS)).astype(np.int32)


def solve(gram: NDArray[np.float32], regularisation: float) -> NDArray[np.float32]:
    """Return the weights for a Gram matrix of songs, shape (songs, songs), with a zero diagonal."""
    matrix = gram.copy()
    matrix[np.diag_indices_from(matrix)] += regularisation
    factor, failed = lapack.spotrf(matrix, lower=1, overwrite_a=1)
    assert not failed, "a Gram matrix plus a positive diagonal is positive definite"
    inverse, _ = lapack.spotri(factor, lower=1, overwrite_c=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    weights: NDArray[np.float32] = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights
