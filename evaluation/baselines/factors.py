"""Matrix factorisation with the library `implicit`: ALS and BPR.

The models learn a vector of factors for each playlist and each song. The vector of a query is
computed from the vectors of its songs. The score of a song is the dot product of the song's vector
and the query's vector.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from catalog.errors import MissingExtraError
from evaluation.baselines.top import batch_seeds, exclude_seeds, rank_dense

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import Dataset, SongLists, SongNumbers

FACTORS = 64  # number of factors per song
ALS_ITERATIONS = 20
BPR_ITERATIONS = 100


class _Factorisation:
    """A baseline that scores a song by the dot product of the song's and the query's vectors."""

    def __init__(self, dataset: Dataset) -> None:
        self._song_count = len(dataset.songs)
        self._in_catalog = dataset.songs.in_catalog
        # `implicit` runs its own threads on all cores. More BLAS threads would slow them down.
        with _limit_blas_to_one_thread():
            self._model: Any = self._fit(_to_csr_matrix(dataset.matrix), dataset.seed)

    def _fit(self, playlists: csr_matrix, seed: int) -> Any:
        raise NotImplementedError

    def _user_factors(self, seeds: SongLists) -> NDArray[np.float32]:
        raise NotImplementedError

    def recommend(self, cases: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        """Yield the songs with the highest dot product for each case.

        The batches have shape (n, limit).
        """
        for seeds in batch_seeds(cases, self._song_count):
            scores = self._user_factors(seeds) @ self._model.item_factors.T
            scores[:, ~self._in_catalog] = -np.inf
            scores[seeds.to_matrix(self._song_count).sum(axis=1) == 0] = -np.inf
            exclude_seeds(scores, seeds)
            yield rank_dense(scores, limit)


class Als(_Factorisation):
    """Alternating least squares. The factors of a query are the least-squares fit to its songs.

    Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback datasets", 2008.
    """

    key, name = "als", "ALS"

    def _fit(self, playlists: csr_matrix, seed: int) -> Any:
        model = _import_implicit().als.AlternatingLeastSquares(
            factors=FACTORS,
            iterations=ALS_ITERATIONS,
            random_state=seed,
            num_threads=os.cpu_count() or 1,
        )
        model.fit(playlists, show_progress=False)
        return model

    def _user_factors(self, seeds: SongLists) -> NDArray[np.float32]:
        rows = _to_csr_matrix(seeds.to_matrix(self._song_count))
        with _limit_blas_to_one_thread():
            users: NDArray[np.float32] = self._model.recalculate_user(np.arange(len(seeds)), rows)
        return users


class Bpr(_Factorisation):
    """Bayesian personalised ranking. The factors of a query are the mean factors of its songs.

    Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback", 2009.
    """

    key, name = "bpr", "BPR"

    def _fit(self, playlists: csr_matrix, seed: int) -> Any:
        # Use one thread: several threads update the same factors without locks, so results vary.
        model = _import_implicit().bpr.BayesianPersonalizedRanking(
            factors=FACTORS, iterations=BPR_ITERATIONS, random_state=seed, num_threads=1
        )
        model.fit(playlists, show_progress=False)
        return model

    def _user_factors(self, seeds: SongLists) -> NDArray[np.float32]:
        rows = seeds.to_matrix(self._song_count)
        count = np.maximum(rows.sum(axis=1), 1)[:, None]
        users: NDArray[np.float32] = (rows @ self._model.item_factors / count).astype(np.float32)
        users[:, -1] = 1.0  # because the last factor of each song is its bias
        return users


def require_installed() -> None:
    """Raise `MissingExtraError` unless `implicit` is installed."""
    _import_implicit()


def _import_implicit() -> Any:
    try:
        import implicit.als
        import implicit.bpr
        import threadpoolctl  # noqa: F401 -- comes with `implicit`
    except ImportError as error:
        raise MissingExtraError("the baselines als and bpr", "baselines") from error
    return implicit


def _limit_blas_to_one_thread() -> Any:
    _import_implicit()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas")


def _to_csr_matrix(rows: Any) -> csr_matrix:
    """Convert a sparse array to the older sparse matrix class, which `implicit` requires."""
    from scipy.sparse import csr_matrix

    return csr_matrix(rows)
