"""What a release would answer, worked out from the stages' arrays without publishing it.

For the training of the ranker and for tuning. Exact search in place of the index; otherwise the
same as `service` and the engine do, which a test sees to.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import csr_array

from catalog.reranker import SongTraits
from catalog.schema import fusion_depths

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from catalog.reranker import Channel
    from ingest.parameters import Parameters

CELLS = 20_000_000
"""So many similarities are held at a time."""

QUERIES = 256

Songs = NDArray[np.int32]
Ranking = tuple[NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True)
class Arrays:
    """The vectors of a release by the songs' numbers.

    `strengths`, shape (songs, songs): how strongly the song of the row predicts that of the column.
    `vectors`, shape (vectors, dimensions), unit length, of the songs `having` in ascending order.
    `playlists`, shape (songs,): in how many playlists; a song in none is not in the catalog: it
    neither asks nor is found. `groups`, shape (1 + fields, songs): see
    `catalog.reranker.SongTraits`.
    """

    strengths: csr_array
    having: NDArray[np.int32]
    vectors: NDArray[np.float32]
    playlists: NDArray[np.int64]
    groups: NDArray[np.int64]

    def traits(self, songs: NDArray[Any]) -> SongTraits:
        """What these songs are like."""
        return SongTraits(self.playlists[songs], self.groups[:, songs])


def strengths_of(part: Sequence[Any], total: int) -> csr_array:
    """Strengths as an array of shape (total, total), from the arrays seed, song and strength."""
    seeds, songs, values = part
    return csr_array((values, (seeds, songs)), shape=(total, total), dtype=np.float32)


def read_strengths(path: Path, total: int, seeds: NDArray[np.int32] | None = None) -> csr_array:
    """The strengths of a `cooccurrence.parquet`, all or only those of these seeds."""
    filters = None if seeds is None else pc.field("seed").isin(seeds)
    table = pq.read_table(path, filters=filters)
    return strengths_of([table[name].to_numpy() for name in ("seed", "song", "strength")], total)


def read_vectors(path: Path) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The songs and vectors of a `vectors.parquet`."""
    table = pq.read_table(path, columns=["song", "vector"]).combine_chunks()
    vectors = table["vector"].combine_chunks()
    size = vectors.type.list_size
    return table["song"].to_numpy(), vectors.flatten().to_numpy().reshape(-1, size)


def read_playlists(path: Path) -> list[Songs]:
    """The songs of each playlist of a split, in play order."""
    lists = pq.read_table(path, columns=["songs"])["songs"].combine_chunks()
    offsets, songs = lists.offsets.to_numpy(), lists.flatten().to_numpy().astype(np.int32)
    return [songs[low:high] for low, high in pairwise(offsets)]


def playlists_of(
    playlists: Sequence[Songs], total: int, parameters: Parameters
) -> NDArray[np.int64]:
    """In how many playlists each song is, shape (total,); 0 where that is too few for a catalog."""
    counts = np.bincount(np.concatenate(playlists), minlength=total)
    counts[counts < parameters.catalog_min_for(int(np.count_nonzero(counts)))] = 0
    return counts


def read_groups(path: Path, fields: Sequence[str] = ()) -> NDArray[np.int64]:
    """The artist of each song of a `songs.parquet`, and what it has in these fields, as numbers.

    Shape (1 + fields, songs); -1 where a song has nothing in a field.
    """
    table = pq.read_table(path, columns=["song", "artist_key", *fields])
    groups = np.empty((1 + len(fields), table.num_rows), np.int64)
    for row, name in zip(groups, ("artist_key", *fields), strict=True):
        codes = table[name].combine_chunks().dictionary_encode().indices
        row[table["song"].to_numpy()] = codes.fill_null(-1).to_numpy()
    return groups


def predicted(
    arrays: Arrays, queries: Sequence[Songs], decay: float, depth: int
) -> Iterator[Ranking]:
    """For each query the songs that it predicts, best first, at most `depth`, and their scores."""
    for start in range(0, len(queries), QUERIES):
        some = queries[start : start + QUERIES]
        weights, known, ends = [np.zeros(0)], [np.zeros(0, np.int32)], [0]
        for query in some:
            there = arrays.playlists[query] > 0
            weights.append(_weights(there, decay))
            known.append(query[there])
            ends.append(ends[-1] + len(known[-1]))
        total = arrays.strengths.shape[0]
        songs = np.concatenate(known)
        asked = csr_array((np.concatenate(weights), songs, ends), shape=(len(some), total))
        asked.sum_duplicates()
        scores = asked @ arrays.strengths
        for row, query in enumerate(some):
            part = slice(scores.indptr[row], scores.indptr[row + 1])
            found, values = scores.indices[part].astype(np.int64), scores.data[part].copy()
            values[np.isin(found, query) | (arrays.playlists[found] == 0)] = 0.0
            ranking, values = _first(found, values, depth)
            positive = values > 0
            yield ranking[positive], values[positive]


def similar(
    arrays: Arrays, queries: Sequence[Songs], decay: float, depth: int
) -> Iterator[Ranking]:
    """For each query the songs most similar to its mean vector, likewise; none without a vector."""
    step = max(1, CELLS // max(1, len(arrays.having)))
    for start in range(0, len(queries), step):
        some = queries[start : start + step]
        means = [_mean(arrays, query, decay) for query in some]
        there = [mean is not None for mean in means]
        stacked = np.array([mean for mean in means if mean is not None], np.float32)
        scores = iter(stacked @ arrays.vectors.T if any(there) else [])
        for query, asks in zip(some, there, strict=True):
            if not asks:
                yield np.zeros(0, np.int64), np.zeros(0)
                continue
            row = next(scores)
            row[_rows(arrays, query)[0]] = -np.inf
            ranking, values = _first(arrays.having, row, depth)
            finite = np.isfinite(values)
            yield ranking[finite].astype(np.int64), values[finite]


def similarities(
    arrays: Arrays, query: Songs, songs: NDArray[np.int64], recent: int
) -> NDArray[np.float64]:
    """The cosine of each song with the plain mean of the query's last known songs, shape (n,).

    NaN for songs without a vector, and for all where none of the last has one.
    """
    cosines = np.full(len(songs), np.nan)
    known = query[arrays.playlists[query] > 0]
    mean = _mean(arrays, known[-recent:], 1.0)
    if mean is not None:
        rows, there = _rows(arrays, songs)
        cosines[there] = arrays.vectors[rows] @ mean
    return cosines


def both(
    arrays: Arrays, queries: Sequence[Songs], parameters: Parameters, limit: int
) -> Iterator[tuple[Ranking, Ranking]]:
    """What hybrid search fuses into `limit` songs for each query: who co-occurs, who is similar."""
    of_company, of_likeness = fusion_depths(limit)
    return zip(
        predicted(arrays, queries, parameters.cooccurrence_decay, of_company),
        similar(arrays, queries, parameters.query_decay, of_likeness),
        strict=True,
    )


def fused(one: Ranking, other: Ranking, dense_weight: float, depth: int) -> NDArray[np.int64]:
    """The songs of hybrid search, best first: by co-occurrence and Word2Vec, as `Search` says."""
    if not len(one[0]) or not len(other[0]):
        return (one[0] if len(one[0]) else other[0])[:depth]
    songs, place = np.unique(np.concatenate([one[0], other[0]]), return_inverse=True)
    parts = np.concatenate([one[1] / one[1][0], dense_weight * other[1]])
    scores = np.bincount(place, parts, len(songs))
    ranking: NDArray[np.int64] = _first(songs, scores, depth)[0]
    return ranking


def searched(arrays: Arrays, queries: Sequence[Songs], channel: Channel) -> Iterator[Ranking]:
    """For each query what a channel of the ranker finds."""
    search = similar if channel.dense else predicted
    return search(arrays, queries, channel.decay, channel.depth)


def rank_in(ranking: NDArray[np.int64], label: int) -> int:
    """The place of a song in a ranking, from 1, or 0."""
    found = np.flatnonzero(ranking == label)
    return int(found[0]) + 1 if len(found) else 0


def _first(songs: Any, scores: Any, depth: int) -> tuple[Any, Any]:
    if len(scores) > depth:
        chosen = np.argpartition(-scores, depth - 1)[:depth]
        songs, scores = songs[chosen], scores[chosen]
    order = np.argsort(-scores, kind="stable")
    return songs[order], scores[order]


def _rows(arrays: Arrays, query: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    if not len(arrays.having):
        return np.zeros(0, np.int64), np.zeros(len(query), bool)
    rows = np.searchsorted(arrays.having, query)
    rows[rows == len(arrays.having)] = 0
    there = arrays.having[rows] == query
    return rows[there], there


def _mean(arrays: Arrays, query: Songs, decay: float) -> NDArray[np.float64] | None:
    rows, there = _rows(arrays, query)
    if not len(rows):
        return None
    total = _weights(there, decay) @ arrays.vectors[rows].astype(np.float64)
    norm = float(np.linalg.norm(total))
    mean: NDArray[np.float64] = total / norm if norm > 1e-9 else arrays.vectors[rows[-1]]
    return mean


def _weights(there: NDArray[np.bool_], decay: float) -> NDArray[np.float64]:
    # Recency counts from the youngest song that is there; the others age those before them.
    ages = np.arange(len(there) - 1, -1, -1.0)[there]
    weights: NDArray[np.float64] = decay ** (ages - ages.min(initial=np.inf))
    return weights
