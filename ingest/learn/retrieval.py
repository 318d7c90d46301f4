"""Retrieval in memory: recommendations computed from `ReleaseArrays` instead of a release.

Training of the re-ranker, model selection and tuning use this module. Searches are exact, without
an HNSW index. Apart from that, results are the same as those of the package `service`; a test
compares them.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack

from catalog.content import ARTIST
from catalog.recency import Recency
from catalog.schema import fusion_depths
from ingest.learn.arrays import with_small_indices

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ingest.learn.arrays import ReleaseArrays, Songs
    from ingest.learn.cases import Cases
    from ingest.parameters import Parameters

MAX_SIMILARITIES = 20_000_000
"""Maximum number of cosines in memory at a time."""

MAX_SCORES = 20_000_000
"""Maximum number of co-occurrence scores in memory at a time, unless a single query has more."""

QUERIES_PER_BATCH = 256
"""Maximum number of queries whose co-occurrence scores are computed at a time."""

NO_SHARES: Mapping[str, float] = {}

Ranking = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Song numbers, best first, and the scores of these songs."""


def build_query_vectors(
    arrays: ReleaseArrays,
    queries: Sequence[Songs],
    recency: Recency,
    shares: Mapping[str, float] = NO_SHARES,
) -> csr_array:
    """Return the sparse query vectors (float32), shape (queries, rows of `ReleaseArrays.index`).

    `recency` determines the weight of each seed by the number of later seeds. A seed that is not in
    the catalog contributes only through its artists. `shares` maps content fields to the factors of
    their entries, such as {"artist": 0.4}. A field that is missing has the share 0.
    """
    songs = np.concatenate([np.zeros(0, np.int32), *queries])
    ends = np.cumsum([0, *map(len, queries)])
    is_known = arrays.playlists[songs] > 0
    shape = (len(queries), arrays.weights.shape[0])
    known_ends = np.append(0, np.cumsum(is_known))[ends]
    weights = _seed_weights(ends, is_known, recency)
    by_song = csr_array((weights, songs[is_known], known_ends), shape=shape)
    by_song.sum_duplicates()
    if not arrays.content:
        return with_small_indices(by_song.astype(np.float32))
    weights = _seed_weights(ends, np.ones(len(songs), bool), recency)
    of_all = csr_array((weights, songs, ends), shape=shape)
    # For a seed that is not in the catalog, the service knows only the artist.
    by_key = [
        csr_array((of_all if part.name == ARTIST else by_song) @ part.keys)
        * shares.get(part.name, 0.0)
        for part in arrays.content
    ]
    for part in by_key:
        part.eliminate_zeros()
    return with_small_indices(csr_array(hstack([by_song, *by_key], "csr"), dtype=np.float32))


def score_in_batches(
    arrays: ReleaseArrays, query_vectors: csr_array
) -> Iterator[tuple[slice, csr_array]]:
    """Yield the co-occurrence scores in batches: a slice of queries, and their scores.

    The scores have shape (queries in the batch, songs), and include the scores of seeds.
    """
    pattern = query_vectors.copy()
    pattern.data = np.ones(len(pattern.data))
    reached = np.cumsum(pattern @ np.diff(arrays.index.indptr).astype(np.float64))
    start, count = 0, query_vectors.shape[0]
    while start < count:
        before = reached[start - 1] if start else 0.0
        stop = int(np.searchsorted(reached, before + MAX_SCORES, side="right"))
        stop = min(max(stop, start + 1), start + QUERIES_PER_BATCH, count)
        rows = slice(start, stop)
        yield rows, csr_array(query_vectors[rows] @ arrays.index)
        start = stop


def rank_by_cooccurrence(
    arrays: ReleaseArrays,
    queries: Sequence[Songs],
    recency: Recency,
    depth: int,
    shares: Mapping[str, float] = NO_SHARES,
) -> Iterator[Ranking]:
    """Yield, for each query, the best `depth` songs by co-occurrence, and their scores.

    Seeds of the query and songs outside the catalog are excluded.
    """
    query_vectors = build_query_vectors(arrays, queries, recency, shares)
    for rows, scores in score_in_batches(arrays, query_vectors):
        for query, (low, high) in zip(queries[rows], pairwise(scores.indptr), strict=True):
            songs, values = scores.indices[low:high].astype(np.int64), scores.data[low:high].copy()
            values[np.isin(songs, query) | (arrays.playlists[songs] == 0)] = 0.0
            ranking, values = _best(songs, values, depth)
            yield ranking[values > 0], values[values > 0]


def find_ranks_by_cooccurrence(
    arrays: ReleaseArrays, cases: Cases, query_vectors: csr_array
) -> NDArray[np.int64]:
    """Return the rank of each label by co-occurrence score.

    Ranks start at 1. The rank is 0 if the score of the label is 0, or if the label is not in the
    catalog. If songs have the same score, the more popular song comes first.
    """
    ranks = np.zeros(len(cases.labels), np.int64)
    for rows, scores in score_in_batches(arrays, query_vectors):
        ranks[rows] = _count_better(arrays, scores, cases.queries[rows], cases.labels[rows])
    return ranks


def _count_better(
    arrays: ReleaseArrays, scores: csr_array, queries: Sequence[Songs], labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the ranks of the labels in one batch (see `find_ranks_by_cooccurrence`)."""
    total = scores.shape[1]
    song, score = scores.indices, scores.data
    row = np.repeat(np.arange(len(labels), dtype=np.int32), np.diff(scores.indptr))
    is_label = song == labels[row]
    own = np.full(len(labels), np.inf, score.dtype)
    own[row[is_label]] = score[is_label]
    of_label = own[row]
    tied = np.flatnonzero(score == of_label)
    tied = tied[arrays.ordinals[song[tied]] < arrays.ordinals[labels[row[tied]]]]
    ahead = np.concatenate([np.flatnonzero(score > of_label), tied])
    ahead = ahead[arrays.playlists[song[ahead]] > 0]
    seeds = np.repeat(np.arange(len(labels)), [len(query) for query in queries]) * total
    seeds = np.sort(seeds + np.concatenate(queries))
    pairs = row[ahead].astype(np.int64) * total + song[ahead]
    is_seed = seeds[np.minimum(np.searchsorted(seeds, pairs), len(seeds) - 1)] == pairs
    ranks = np.bincount(row[ahead[~is_seed]], minlength=len(labels)) + 1
    return np.where(np.isfinite(own) & (own > 0) & (arrays.playlists[labels] > 0), ranks, 0)


def rank_by_similarity(
    arrays: ReleaseArrays, queries: Sequence[Songs], recency: Recency, depth: int
) -> Iterator[Ranking]:
    """Yield, for each query, the best `depth` songs by similarity, and their cosines.

    The similarity is the cosine with the mean vector of the query. Both arrays are empty if no song
    of the query has a vector.
    """
    for _rows, has_vector, cosines in _cosines_in_batches(arrays, queries, recency):
        own = iter(cosines)
        for has_mean in has_vector:
            if not has_mean:
                yield np.zeros(0, np.int64), np.zeros(0)
                continue
            ranking, values = _best(arrays.vector_songs, next(own), depth)
            is_finite = np.isfinite(values)
            yield ranking[is_finite].astype(np.int64), values[is_finite]


def find_ranks_by_similarity(
    arrays: ReleaseArrays, cases: Cases, recency: Recency
) -> NDArray[np.int64]:
    """Return the rank of each label by cosine, counted from 1, or 0 if the label has no cosine."""
    ranks = np.zeros(len(cases.labels), np.int64)
    positions = np.zeros(len(ranks), np.int64)
    found, has_position = _vector_rows(arrays, cases.labels)
    positions[has_position] = found
    for rows, has_mean, cosines in _cosines_in_batches(arrays, cases.queries, recency):
        at = np.arange(rows.start, rows.stop)
        has_cosine = has_position[at[has_mean]]
        at, of_label = at[has_mean][has_cosine], cosines[has_cosine]
        own = of_label[np.arange(len(at)), positions[at]]
        ranks[at] = np.where(np.isfinite(own), (of_label > own[:, None]).sum(axis=1) + 1, 0)
    return ranks


def _cosines_in_batches(
    arrays: ReleaseArrays, queries: Sequence[Songs], recency: Recency
) -> Iterator[tuple[slice, NDArray[np.bool_], NDArray[np.float32]]]:
    """Yield cosines in batches: a slice of queries, a mask, and the cosines.

    The mask selects the queries in the batch that have a mean vector. The cosines have one row for
    each of these queries and one column for each song vector. The cosine is -inf for seeds of the
    query.
    """
    step = max(1, MAX_SIMILARITIES // max(1, len(arrays.vector_songs)))
    for start in range(0, len(queries), step):
        rows = slice(start, min(start + step, len(queries)))
        means = _mean_vectors(arrays, queries[rows], recency)
        cosines = means.vectors.astype(np.float32) @ arrays.vectors.T
        cosines[means.rows, means.seeds] = -np.inf
        yield rows, means.has_vector, cosines


def rank_for_fusion(
    arrays: ReleaseArrays, queries: Sequence[Songs], parameters: Parameters, limit: int
) -> Iterator[tuple[Ranking, Ranking]]:
    """Yield, for each query, the sparse and the dense ranking that hybrid search fuses.

    `limit` is the number of songs that the search returns. To make the cosines comparable with
    co-occurrence scores, they are multiplied by `arrays.scale` and by the sum of the seed weights.
    `parameters.song_exponent` must already be applied to `arrays` (see
    `ReleaseArrays.with_song_exponent`).
    """
    sparse_depth, dense_depth = fusion_depths(limit)
    recency, shares = Recency(parameters.recency), parameters.content_shares
    sparse = rank_by_cooccurrence(arrays, queries, recency, sparse_depth, shares)
    dense = rank_by_similarity(arrays, queries, Recency(parameters.dense_recency), dense_depth)
    for query, by_seeds, (songs, cosines) in zip(queries, sparse, dense, strict=True):
        is_known = arrays.playlists[query] > 0
        weights = _seed_weights(np.array([0, len(query)]), is_known, recency)
        yield by_seeds, (songs, arrays.scale * float(weights.sum()) * cosines)


def fuse(sparse: Ranking, dense: Ranking, dense_weight: float, depth: int) -> NDArray[np.int64]:
    """Return the first `depth` songs of hybrid search, best first.

    The score of a song is the score in `sparse` plus `dense_weight` times the score in `dense`,
    with 0 for a ranking that lacks the song. If a ranking is empty, the other ranking is returned.
    """
    if not len(sparse[0]) or not len(dense[0]):
        return (sparse[0] if len(sparse[0]) else dense[0])[:depth]
    songs, positions = np.unique(np.concatenate([sparse[0], dense[0]]), return_inverse=True)
    parts = np.concatenate([sparse[1], dense_weight * dense[1]])
    scores = np.bincount(positions, parts, len(songs))
    ranking: NDArray[np.int64] = _best(songs, scores, depth)[0]
    return ranking


def find_ranks_in_mode(
    arrays: ReleaseArrays, cases: Cases, parameters: Parameters, depth: int
) -> NDArray[np.int64]:
    """Return the rank of each label in the mode `parameters.mode`.

    Ranks are from 1 to `depth`, or 0 if the label is not among the first `depth` songs. The mode
    must be "cooccurrence", "dense" or "hybrid". `parameters.song_exponent` must already be applied
    to `arrays`.
    """
    if parameters.mode == "dense":
        ranks = find_ranks_by_similarity(arrays, cases, Recency(parameters.dense_recency))
    elif parameters.mode == "cooccurrence":
        recency, shares = Recency(parameters.recency), parameters.content_shares
        vectors = build_query_vectors(arrays, cases.queries, recency, shares)
        ranks = find_ranks_by_cooccurrence(arrays, cases, vectors)
    else:
        rankings = rank_for_fusion(arrays, cases.queries, parameters, depth)
        weight = parameters.dense_weight
        ranks = ranks_of_labels((fuse(*pair, weight, depth) for pair in rankings), cases.labels)
    return np.where(ranks <= depth, ranks, 0)


def ranks_of_labels(
    rankings: Iterable[NDArray[np.int64]], labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the rank of each label in its ranking, counted from 1, or 0 if it is missing."""
    ranks = np.zeros(len(labels), np.int64)
    for row, (ranking, label) in enumerate(zip(rankings, labels, strict=True)):
        positions = np.flatnonzero(ranking == label)
        if len(positions):
            ranks[row] = positions[0] + 1
    return ranks


def _best(songs: Any, scores: Any, depth: int) -> tuple[Any, Any]:
    """Return the `depth` songs with the highest scores, best first, and their scores."""
    if len(scores) > depth:
        chosen = np.argpartition(-scores, depth - 1)[:depth]
        songs, scores = songs[chosen], scores[chosen]
    order = np.argsort(-scores, kind="stable")
    return songs[order], scores[order]


def _vector_rows(
    arrays: ReleaseArrays, songs: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the row in `arrays.vectors` of each song with a vector, and a mask of these songs.

    The mask has the shape of `songs`.
    """
    if not len(arrays.vector_songs):
        return np.zeros(0, np.int64), np.zeros(len(songs), bool)
    rows = np.searchsorted(arrays.vector_songs, songs)
    rows[rows == len(arrays.vector_songs)] = 0
    has_vector = arrays.vector_songs[rows] == songs
    return rows[has_vector], has_vector


class _Means(NamedTuple):
    """The mean vectors of queries.

    - `has_vector`, shape (queries,): mask of the queries that have a mean vector.
    - `vectors`, shape (means, dimensions): the mean vectors, unit length.
    - `rows`, `seeds`: for each seed with a vector, the row of its query in `vectors`, and its own
      row in `ReleaseArrays.vectors`.
    """

    has_vector: NDArray[np.bool_]
    vectors: NDArray[np.float64]
    rows: NDArray[np.int64]
    seeds: NDArray[np.int64]


def _mean_vectors(arrays: ReleaseArrays, queries: Sequence[Songs], recency: Recency) -> _Means:
    """Return the mean vectors of the queries, weighted by recency.

    If the vectors of a query cancel each other out, the vector of its last seed is used.
    """
    ends = np.cumsum([0, *map(len, queries)])
    seeds, is_used = _vector_rows(arrays, np.concatenate([np.zeros(0, np.int32), *queries]))
    bounds = np.append(0, np.cumsum(is_used))[ends]
    has_vector = np.diff(bounds) > 0
    bounds = np.append(0, bounds[1:][has_vector])
    used, at = np.unique(seeds, return_inverse=True)
    weights = csr_array(
        (_seed_weights(ends, is_used, recency), at, bounds), shape=(len(bounds) - 1, len(used))
    )
    totals = weights @ arrays.vectors[used].astype(np.float64)
    norms = np.linalg.norm(totals, axis=1)
    cancels = norms <= 1e-9
    totals[cancels] = arrays.vectors[seeds[bounds[1:][cancels] - 1]]
    vectors = totals / np.where(cancels, 1.0, norms)[:, None]
    return _Means(has_vector, vectors, np.repeat(np.arange(len(vectors)), np.diff(bounds)), seeds)


def _seed_weights(
    ends: NDArray[np.int64], is_used: NDArray[np.bool_], recency: Recency
) -> NDArray[np.float64]:
    """Return the recency weights of the used seeds of all queries, concatenated.

    `is_used` is a mask of the seeds of all queries. The seeds of query i are at the positions from
    `ends[i]` up to but not including `ends[i + 1]`. The age of a seed is the number of later seeds
    in the query, including seeds that are not used.
    """
    ages = np.repeat(ends[1:], np.diff(ends)) - 1 - np.arange(len(is_used))
    # These weights depend on the most recent used seed, so each query is weighted separately.
    is_relative = recency.decay is not None or math.isinf(recency.power)
    if not is_relative:
        return recency.weights(ages[is_used])
    parts = [
        recency.weights(ages[low:high][is_used[low:high]]) for low, high in pairwise(ends.tolist())
    ]
    return np.concatenate([np.zeros(0), *parts])
