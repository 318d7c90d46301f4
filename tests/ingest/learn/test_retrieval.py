"""Dense search in memory, by cosine with the mean vector of the seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from catalog.recency import Recency
from ingest.learn.arrays import ReleaseArrays
from ingest.learn.retrieval import rank_by_similarity


@pytest.fixture
def arrays() -> ReleaseArrays:
    """Six songs, of which all but song 2 have a vector; songs 0 and 1 have opposite vectors."""
    return ReleaseArrays(
        weights=csr_array((6, 6), dtype=np.float32),
        vector_songs=np.array([0, 1, 3, 4, 5], np.int32),
        vectors=np.array([[1, 0], [-1, 0], [0, 1], [0.6, 0.8], [-0.8, 0.6]], np.float32),
        playlists=np.ones(6, np.int64),
    )


def rank(arrays: ReleaseArrays, *queries: list[int], power: float = 0.0) -> list[list[int]]:
    songs = [np.array(query, np.int32) for query in queries]
    rankings = rank_by_similarity(arrays, songs, Recency(power), 10)
    return [ranking.tolist() for ranking, _ in rankings]


def test_songs_are_ranked_by_cosine_with_the_mean_of_the_seeds(arrays: ReleaseArrays) -> None:
    # The mean of songs 0 and 3 has the direction (1, 1). The dot products with (1, 1) are 1.4 for
    # song 4, -0.2 for song 5 and -1 for song 1.
    assert rank(arrays, [0, 3]) == [[4, 5, 1]]


def test_later_seeds_weigh_more(arrays: ReleaseArrays) -> None:
    # The last seed has the weight 1, and the first seed has the weight 1/8.
    assert rank(arrays, [1, 3], [3, 1], power=3.0) == [[4, 5, 0], [5, 4, 0]]


def test_queries_without_vectors_have_no_ranking(arrays: ReleaseArrays) -> None:
    assert rank(arrays, [2], [], [2, 0]) == [[], [], [4, 3, 5, 1]]


def test_if_the_seeds_cancel_each_other_out_the_last_one_counts(arrays: ReleaseArrays) -> None:
    assert rank(arrays, [0, 1], [1, 0, 2]) == [[5, 3, 4], [4, 3, 5]]
