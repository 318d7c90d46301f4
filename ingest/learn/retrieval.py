"""Retrieval in memory: the recommendations of a release, computed from the results of the stages.

The training of the re-ranker, model selection and tuning use it. Search is exact, without an index.
Apart from that, the results equal those of the package `service`; a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import csr_array

from catalog.reranker import SongTraits
from catalog.schema import fusion_depths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from catalog.reranker import Channel
    from ingest.parameters import Parameters

MAX_SIMILARITIES = 20_000_000
"""Number of cosines that are in memory at a time."""

QUERIES_PER_BATCH = 256
"""Number of queries whose co-occurrence scores are computed at a time."""

Songs = NDArray[np.int32]
Ranking = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Song numbers, best first, and their scores."""


@dataclass(frozen=True)
class ReleaseArrays:
    """The vectors of a release by song number.

    - `weights`, shape (songs, songs): the co-occurrence weight of the row's song for the column's.
    - `vector_songs`, shape (vectors,): the songs that have a dense vector, ascending.
    - `vectors`, shape (vectors, dimensions): their dense vectors, unit length.
    - `playlists`, shape (songs,): number of training playlists of each song. A song with 0 is not
      in the catalog: it is ignored as a seed and never returned.
    - `groups`, shape (1 + fields, songs): see `catalog.reranker.SongTraits`.
    """

    weights: csr_array
    vector_songs: NDArray[np.int32]
    vectors: NDArray[np.float32]
    playlists: NDArray[np.int64]
    groups: NDArray[np.int64]

    def traits(self, songs: NDArray[Any]) -> SongTraits:
        """Return the attributes of the songs that the re-ranker uses."""
        return SongTraits(self.playlists[songs], self.groups[:, songs])


def weight_matrix(columns: Sequence[Any], total: int) -> csr_array:
    """Return co-occurrence weights as a matrix of shape (total, total), a row for each seed.

    `columns` are three arrays of equal length: seeds, songs and weights.
    """
    seeds, songs, weights = columns
    return csr_array((weights, (seeds, songs)), shape=(total, total), dtype=np.float32)


def read_weights(path: Path, seeds: NDArray[np.bool_]) -> csr_array:
    """Read co-occurrence weights from a `cooccurrence.parquet`, for the seeds in the mask `seeds`.

    `seeds` has shape (songs,). Only one row group of the file is in memory at a time. Seeds ascend
    in the file, so row groups without a selected seed are skipped.
    """
    parts: list[tuple[NDArray[Any], ...]] = [
        (np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    ]
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            statistics = file.metadata.row_group(group).column(0).statistics
            if statistics and statistics.has_min_max:
                span = slice(int(statistics.min), int(statistics.max) + 1)
                if not seeds[span].any():
                    continue
            table = file.read_row_group(group, columns=["seed", "song", "strength"])
            columns = [table[name].to_numpy() for name in ("seed", "song", "strength")]
            selected = seeds[columns[0]]
            parts.append(tuple(column[selected] for column in columns))
    return weight_matrix(
        [np.concatenate(column) for column in zip(*parts, strict=True)], len(seeds)
    )


def seed_mask(queries: Iterable[Songs], total: int) -> NDArray[np.bool_]:
    """Return a mask, shape (total,), of the songs that are in one of the queries."""
    mask = np.zeros(total, bool)
    mask[np.concatenate([np.zeros(0, np.int32), *queries])] = True
    return mask


def read_vectors(path: Path) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Read the songs and dense vectors of a `vectors.parquet`."""
    table = pq.read_table(path, columns=["song", "vector"]).combine_chunks()
    vectors = table["vector"].combine_chunks()
    size = vectors.type.list_size
    return table["song"].to_numpy(), vectors.flatten().to_numpy().reshape(-1, size)


def read_playlists(path: Path) -> list[Songs]:
    """Read the songs of each playlist of a split, in play order."""
    lists = pq.read_table(path, columns=["songs"])["songs"].combine_chunks()
    offsets, songs = lists.offsets.to_numpy(), lists.flatten().to_numpy().astype(np.int32)
    return [songs[low:high] for low, high in pairwise(offsets)]


def count_playlists(
    playlists: Sequence[Songs], total: int, parameters: Parameters
) -> NDArray[np.int64]:
    """Return the number of playlists of each song, shape (total,).

    A song in too few playlists for the catalog has 0 (see `Parameters.catalog_min_for`).
    """
    counts = np.bincount(np.concatenate(playlists), minlength=total)
    counts[counts < parameters.catalog_min_for(int(np.count_nonzero(counts)))] = 0
    return counts


def read_groups(path: Path, fields: Sequence[str] = ()) -> NDArray[np.int64]:
    """Read the artist and the keyword fields of each song of a `songs.parquet` as numbers.

    The shape is (1 + fields, songs), the artist first. Two songs with the same value have the same
    number; -1 means that a song has no value.
    """
    table = pq.read_table(path, columns=["song", "artist_key", *fields])
    groups = np.empty((1 + len(fields), table.num_rows), np.int64)
    for row, name in zip(groups, ("artist_key", *fields), strict=True):
        codes = table[name].combine_chunks().dictionary_encode().indices
        row[table["song"].to_numpy()] = codes.fill_null(-1).to_numpy()
    return groups


def rank_by_cooccurrence(
    arrays: ReleaseArrays, queries: Sequence[Songs], decay: float, depth: int
) -> Iterator[Ranking]:
    """Yield for each query its best `depth` songs by co-occurrence, and their scores."""
    total = arrays.weights.shape[0]
    for start in range(0, len(queries), QUERIES_PER_BATCH):
        batch = queries[start : start + QUERIES_PER_BATCH]
        seed_weights, seeds, ends = [np.zeros(0)], [np.zeros(0, np.int32)], [0]
        for query in batch:
            is_known = arrays.playlists[query] > 0
            seed_weights.append(_seed_weights(is_known, decay))
            seeds.append(query[is_known])
            ends.append(ends[-1] + len(seeds[-1]))
        query_vectors = csr_array(
            (np.concatenate(seed_weights), np.concatenate(seeds), ends), shape=(len(batch), total)
        )
        query_vectors.sum_duplicates()
        scores = query_vectors @ arrays.weights
        for row, query in enumerate(batch):
            part = slice(scores.indptr[row], scores.indptr[row + 1])
            songs, values = scores.indices[part].astype(np.int64), scores.data[part].copy()
            values[np.isin(songs, query) | (arrays.playlists[songs] == 0)] = 0.0
            ranking, values = _best(songs, values, depth)
            yield ranking[values > 0], values[values > 0]


def rank_by_similarity(
    arrays: ReleaseArrays, queries: Sequence[Songs], decay: float, depth: int
) -> Iterator[Ranking]:
    """Yield for each query its best `depth` songs by cosine with its mean vector, and the cosines.

    Both arrays are empty for a query none of whose songs has a vector.
    """
    step = max(1, MAX_SIMILARITIES // max(1, len(arrays.vector_songs)))
    for start in range(0, len(queries), step):
        batch = queries[start : start + step]
        means = [_mean_vector(arrays, query, decay) for query in batch]
        stacked = np.array([mean for mean in means if mean is not None], np.float32)
        scores = iter(stacked @ arrays.vectors.T if len(stacked) else [])
        for query, mean in zip(batch, means, strict=True):
            if mean is None:
                yield np.zeros(0, np.int64), np.zeros(0)
                continue
            row = next(scores)
            row[_vector_rows(arrays, query)[0]] = -np.inf
            ranking, values = _best(arrays.vector_songs, row, depth)
            is_finite = np.isfinite(values)
            yield ranking[is_finite].astype(np.int64), values[is_finite]


def recent_similarities(
    arrays: ReleaseArrays, query: Songs, songs: NDArray[np.int64], recent: int
) -> NDArray[np.float64]:
    """Return the cosine of each song with the mean of the last `recent` known seeds, shape (n,).

    The cosine is NaN for a song without a vector. All cosines are NaN if none of these seeds has a
    vector.
    """
    cosines = np.full(len(songs), np.nan)
    known = query[arrays.playlists[query] > 0]
    mean = _mean_vector(arrays, known[-recent:], 1.0)
    if mean is not None:
        rows, has_vector = _vector_rows(arrays, songs)
        cosines[has_vector] = arrays.vectors[rows] @ mean
    return cosines


def rank_for_fusion(
    arrays: ReleaseArrays, queries: Sequence[Songs], parameters: Parameters, limit: int
) -> Iterator[tuple[Ranking, Ranking]]:
    """Yield for each query the sparse and the dense ranking that hybrid search fuses.

    The cosines are multiplied by the sum of the seed weights, the unit of co-occurrence scores.
    """
    sparse_depth, dense_depth = fusion_depths(limit)
    decay = parameters.cooccurrence_decay
    sparse = rank_by_cooccurrence(arrays, queries, decay, sparse_depth)
    dense = rank_by_similarity(arrays, queries, parameters.query_decay, dense_depth)
    for query, by_seeds, (songs, cosines) in zip(queries, sparse, dense, strict=True):
        unit = float(_seed_weights(arrays.playlists[query] > 0, decay).sum())
        yield by_seeds, (songs, unit * cosines)


def fuse(sparse: Ranking, dense: Ranking, dense_weight: float, depth: int) -> NDArray[np.int64]:
    """Return the songs of hybrid search, best first; `catalog.model.Search` has the formula."""
    if not len(sparse[0]) or not len(dense[0]):
        return (sparse[0] if len(sparse[0]) else dense[0])[:depth]
    songs, positions = np.unique(np.concatenate([sparse[0], dense[0]]), return_inverse=True)
    parts = np.concatenate([sparse[1], dense_weight * dense[1]])
    scores = np.bincount(positions, parts, len(songs))
    ranking: NDArray[np.int64] = _best(songs, scores, depth)[0]
    return ranking


def search_channel(
    arrays: ReleaseArrays, queries: Sequence[Songs], channel: Channel
) -> Iterator[Ranking]:
    """Yield for each query the candidates of one channel of the re-ranker."""
    search = rank_by_similarity if channel.dense else rank_by_cooccurrence
    return search(arrays, queries, channel.decay, channel.depth)


def ranks_of_labels(
    rankings: Iterable[NDArray[np.int64]], labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the rank of each label in its ranking, from 1, or 0 if the ranking lacks the label."""
    ranks = np.zeros(len(labels), np.int64)
    for row, (ranking, label) in enumerate(zip(rankings, labels, strict=True)):
        positions = np.flatnonzero(ranking == label)
        if len(positions):
            ranks[row] = positions[0] + 1
    return ranks


def _best(songs: Any, scores: Any, depth: int) -> tuple[Any, Any]:
    if len(scores) > depth:
        chosen = np.argpartition(-scores, depth - 1)[:depth]
        songs, scores = songs[chosen], scores[chosen]
    order = np.argsort(-scores, kind="stable")
    return songs[order], scores[order]


def _vector_rows(
    arrays: ReleaseArrays, songs: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the rows in `vectors` of the songs that have a vector, and a mask of these songs."""
    if not len(arrays.vector_songs):
        return np.zeros(0, np.int64), np.zeros(len(songs), bool)
    rows = np.searchsorted(arrays.vector_songs, songs)
    rows[rows == len(arrays.vector_songs)] = 0
    has_vector = arrays.vector_songs[rows] == songs
    return rows[has_vector], has_vector


def _mean_vector(arrays: ReleaseArrays, query: Songs, decay: float) -> NDArray[np.float64] | None:
    rows, has_vector = _vector_rows(arrays, query)
    if not len(rows):
        return None
    total = _seed_weights(has_vector, decay) @ arrays.vectors[rows].astype(np.float64)
    norm = float(np.linalg.norm(total))
    mean: NDArray[np.float64] = total / norm if norm > 1e-9 else arrays.vectors[rows[-1]]
    return mean


def _seed_weights(is_used: NDArray[np.bool_], decay: float) -> NDArray[np.float64]:
    """Return the recency weight of each used seed. The most recent used seed has weight 1.

    The age of a seed counts all seeds after it, also those that are not used.
    """
    ages = np.arange(len(is_used) - 1, -1, -1.0)[is_used]
    weights: NDArray[np.float64] = decay ** (ages - ages.min(initial=np.inf))
    return weights
