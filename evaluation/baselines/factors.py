"""Matrix factorisation by `implicit`: ALS and BPR, each held-out playlist folded in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from catalog.errors import MissingExtraError
from evaluation.baselines.top import batches, block_seeds, top_of_dense

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from evaluation.protocol.cases import Queries
    from evaluation.protocol.dataset import Data, Numbers, Ragged

FACTORS, ITERATIONS = 64, 20


class _Factors:
    def __init__(self, data: Data) -> None:
        self._songs = len(data.songs)
        self._catalog = data.songs.in_catalog
        # `implicit` runs threads of its own, and BLAS threads beneath them would fight for cores.
        with _one_blas_thread():
            self._model: Any = self._fitted(data.matrix, data.seed)

    def _fitted(self, playlists: csr_matrix, seed: int) -> Any:
        raise NotImplementedError

    def _users(self, seeds: Ragged) -> NDArray[np.float32]:
        raise NotImplementedError

    def recommend(self, queries: Queries, limit: int) -> Iterator[Numbers]:
        """For each query in turn, the songs with the highest product, its own left out."""
        for seeds in batches(queries, self._songs):
            scores = self._users(seeds) @ self._model.item_factors.T
            scores[:, ~self._catalog] = -np.inf
            scores[seeds.matrix(self._songs).sum(axis=1) == 0] = -np.inf
            block_seeds(scores, seeds)
            yield top_of_dense(scores, limit)


class Als(_Factors):
    """Alternating least squares, 64 factors; a query's factors solve for its songs.

    Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback datasets", 2008.
    """

    key, name = "als", "ALS"

    def _fitted(self, playlists: csr_matrix, seed: int) -> Any:
        model = _implicit().als.AlternatingLeastSquares(
            factors=FACTORS,
            iterations=ITERATIONS,
            random_state=seed,
            num_threads=os.cpu_count() or 1,
        )
        model.fit(_matrix(playlists), show_progress=False)
        return model

    def _users(self, seeds: Ragged) -> NDArray[np.float32]:
        rows = _matrix(seeds.matrix(self._songs))
        with _one_blas_thread():
            users: NDArray[np.float32] = self._model.recalculate_user(np.arange(len(seeds)), rows)
        return users


class Bpr(_Factors):
    """Bayesian personalised ranking, 64 factors; a query is the mean of its songs' factors.

    Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback", 2009.
    """

    key, name = "bpr", "BPR"

    def _fitted(self, playlists: csr_matrix, seed: int) -> Any:
        # One thread: several update the same factors without locks, and no two runs are alike.
        model = _implicit().bpr.BayesianPersonalizedRanking(
            factors=FACTORS, iterations=100, random_state=seed, num_threads=1
        )
        model.fit(_matrix(playlists), show_progress=False)
        return model

    def _users(self, seeds: Ragged) -> NDArray[np.float32]:
        rows = seeds.matrix(self._songs)
        count = np.maximum(rows.sum(axis=1), 1)[:, None]
        users: NDArray[np.float32] = (rows @ self._model.item_factors / count).astype(np.float32)
        users[:, -1] = 1.0  # the last of an item's factors is its bias
        return users


def require_installed() -> None:
    """Raise `MissingExtraError` unless `implicit` is installed."""
    _implicit()


def _implicit() -> Any:
    try:
        import implicit.als
        import implicit.bpr
        import threadpoolctl  # noqa: F401 -- comes with `implicit`
    except ImportError as error:
        raise MissingExtraError("the baselines als and bpr", "baselines") from error
    return implicit


def _one_blas_thread() -> Any:
    _implicit()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas")


def _matrix(rows: Any) -> csr_matrix:
    from scipy.sparse import csr_matrix

    return csr_matrix(rows)
