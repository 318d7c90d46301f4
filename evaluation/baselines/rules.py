"""Sequential rules: which songs followed the last song of the query, and how closely."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from evaluation.baselines.top import batches, top_of_sparse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evaluation.protocol.cases import Queries
    from evaluation.protocol.dataset import Data, Numbers

STEPS = 10
"""How far behind a song another still follows it."""


class SequentialRules:
    """The songs that most often followed the last known song, a song d places behind counting 1/d.

    Ludewig and Jannach, "Evaluation of session-based recommendation algorithms", 2018.
    """

    key, name = "rules", "sequential rules"

    def __init__(self, data: Data) -> None:
        train = data.train
        shape = (len(data.songs), len(data.songs))
        self._follows = csr_array(shape, dtype=np.float32)
        for distance in range(1, STEPS + 1):
            same = train.rows[distance:] == train.rows[:-distance]
            first, then = train.songs[:-distance][same], train.songs[distance:][same]
            weight = np.full(len(first), 1.0 / distance, dtype=np.float32)
            self._follows = self._follows + csr_array((weight, (first, then)), shape=shape)
        self._known = np.diff(self._follows.indptr) > 0

    def recommend(self, queries: Queries, limit: int) -> Iterator[Numbers]:
        """For each query in turn, the songs that follow its last known one, in batches."""
        for seeds in batches(queries, 1):
            known = (seeds.songs >= 0) & self._known[seeds.songs]
            last = np.full(len(seeds), -1, dtype=np.int64)
            np.maximum.at(last, seeds.rows[known], np.flatnonzero(known))
            there = np.flatnonzero(last >= 0)
            rankings = np.full((len(seeds), limit), -1, dtype=np.int32)
            if len(there):
                scores = csr_array(self._follows[seeds.songs[last[there]]])
                rankings[there] = top_of_sparse(scores, limit, seeds.take(there))
            yield rankings
