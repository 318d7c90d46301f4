"""Item-kNN with asymmetric cosine, shrinkage and recency, tuned on validation cases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array, vstack

from evaluation.baselines.neighbours import find_rows, keep_highest, split_songs
from evaluation.baselines.top import batch_seeds, rank_sparse, weigh_by_age
from evaluation.baselines.tuning import tune

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import Dataset, SongNumbers


@dataclass(frozen=True, slots=True)
class ItemKnnSettings:
    """The parameters of item-kNN.

    - `alpha`: exponent of n_i in the similarity (see `ItemKnn`); the exponent of n_j is 1 - alpha.
    - `shrinkage`: constant added to the denominator of the similarity. It lowers similarities that
      are supported by few playlists.
    - `neighbours`: number of most similar songs that are used for each seed.
    - `recency`: exponent p in the seed weight (age + 1)^-p, where the last seed has age 0.
    """

    alpha: float = 0.5
    shrinkage: float = 0.0
    neighbours: int = 200
    recency: float = 0.0


GRID = {
    "recency": (0.0, 0.5, 1.0),
    "alpha": (0.5, 0.25, 0.75, 1.0),
    "shrinkage": (0.0, 5.0, 20.0, 80.0),
    "neighbours": (200, 50, 800),
}
"""Values to try for each parameter, one parameter after another: 11 different settings."""

SIMILARITIES_TO_COMPUTE = 10
"""Maximum number of times that similarities are computed. `recency` needs no new similarities."""


class ItemKnn:
    """Recommends the songs with the highest weighted sum of similarities to the seeds.

    The similarity of song j to seed i is n_ij / (n_i^alpha * n_j^(1 - alpha) + shrinkage). Here,
    n_i, n_j and n_ij are the numbers of training playlists with song i, with song j and with both.
    Aiolli, "Efficient top-n recommendation for very large scale binary rated datasets", 2013.
    """

    key, name = "item-knn", "item-kNN, tuned"

    def __init__(self, dataset: Dataset, settings: ItemKnnSettings | None = None) -> None:
        self._dataset = dataset
        self._computed: dict[ItemKnnSettings, csr_array] = {}  # latest similarities, by settings
        if settings is None:
            settings = tune(ItemKnnSettings(), GRID, self._recommend, dataset)
        self.settings = settings
        self._similarities = self._find_neighbours(settings)
        self._computed = {}

    def recommend(self, cases: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        """Yield the songs most similar to the seeds of each case.

        The batches have shape (n, limit).
        """
        return self._rank(self._similarities, self.settings.recency, cases, limit)

    def _recommend(
        self, settings: ItemKnnSettings, cases: HeldOutCases, limit: int
    ) -> Iterator[SongNumbers]:
        similarities = self._find_neighbours(settings)
        return self._rank(similarities, settings.recency, cases, limit)

    def _rank(
        self, similarities: csr_array, recency: float, cases: HeldOutCases, limit: int
    ) -> Iterator[SongNumbers]:
        songs = similarities.shape[0]
        for seeds in batch_seeds(cases, songs):
            scores = csr_array(weigh_by_age(seeds, songs, recency) @ similarities)
            yield rank_sparse(scores, limit, seeds)

    def _find_neighbours(self, settings: ItemKnnSettings) -> csr_array:
        """Return the similarities of each song to its nearest neighbours, shape (songs, songs)."""
        key = replace(settings, recency=0.0)
        if key not in self._computed:
            self._computed = {}  # free the old matrix first, because two may not fit in memory
            self._computed[key] = compute_similarities(self._dataset, key)
        return self._computed[key]


def compute_similarities(dataset: Dataset, settings: ItemKnnSettings) -> csr_array:
    """Return the similarities of each song to its `neighbours` most similar songs.

    The result has shape (songs, songs), with one row per seed.
    """
    playlists, songs = dataset.matrix, dataset.songs
    by_song = csr_array(playlists.T)
    plays = np.maximum(songs.playlists, 1).astype(np.float64)
    parts = []
    for low, high in split_songs(dataset):
        shared = csr_array(by_song[low:high] @ playlists)
        rows = find_rows(shared)
        norm = plays[low + rows] ** settings.alpha * plays[shared.indices] ** (1 - settings.alpha)
        shared.data = (shared.data / (norm + settings.shrinkage)).astype(np.float32)
        shared.data[shared.indices == rows + low] = 0.0
        shared.data[~songs.in_catalog[shared.indices]] = 0.0
        parts.append(keep_highest(shared, settings.neighbours))
    return csr_array(vstack(parts, format="csr"))
