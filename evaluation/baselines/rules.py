"""Sequential rules, a baseline that recommends songs that often follow the last seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from evaluation.baselines.top import batch_seeds, rank_sparse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import Dataset, SongNumbers

MAX_DISTANCE = 10  # maximum distance, in positions, from a song to a song that follows it


class SequentialRules:
    """Recommends the songs that most often follow the last seed in training playlists.

    A song that follows n positions later counts 1 / n. If no song ever follows the last seed, the
    latest seed that is followed by a song is used instead. Ludewig and Jannach, "Evaluation of
    session-based recommendation algorithms", 2018.
    """

    key, name = "rules", "sequential rules"

    def __init__(self, dataset: Dataset) -> None:
        train = dataset.train
        shape = (len(dataset.songs), len(dataset.songs))
        self._weights = csr_array(shape, dtype=np.float32)
        for distance in range(1, MAX_DISTANCE + 1):
            same_playlist = train.rows[distance:] == train.rows[:-distance]
            first = train.songs[:-distance][same_playlist]
            following = train.songs[distance:][same_playlist]
            weight = np.full(len(first), 1.0 / distance, dtype=np.float32)
            self._weights = self._weights + csr_array((weight, (first, following)), shape=shape)
        self._has_rules = np.diff(self._weights.indptr) > 0

    def recommend(self, cases: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        """Yield the songs that follow the last seed of each case.

        The batches have shape (n, limit).
        """
        for seeds in batch_seeds(cases, limit):
            known = (seeds.songs >= 0) & self._has_rules[seeds.songs]
            # The index in `seeds.songs` of the seed that is used for each query, or -1.
            last = np.full(len(seeds), -1, dtype=np.int64)
            np.maximum.at(last, seeds.rows[known], np.flatnonzero(known))
            rows = np.flatnonzero(last >= 0)
            rankings = np.full((len(seeds), limit), -1, dtype=np.int32)
            if len(rows):
                scores = csr_array(self._weights[seeds.songs[last[rows]]])
                rankings[rows] = rank_sparse(scores, limit, seeds.take(rows))
            yield rankings
