"""Our searches and filters in the words of `qdrant-client`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qdrant_client import models

from catalog.schema import (
    DENSE,
    SPARSE,
    floor_of,
    fused_depths,
    search_ef,
    song_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from uuid import UUID

    from catalog.manifest import Manifest
    from catalog.release import Filter, Search, Song, Value, Vector

OVERSAMPLING = 3.0
"""How many times more songs a search of compressed vectors scores exactly than it returns."""


def params_of(manifest: Manifest) -> models.SearchParams:
    """How the index of a release is searched; where vectors are compressed, scores are exact."""
    return models.SearchParams(
        hnsw_ef=manifest.search_ef or search_ef(manifest.counts.songs),
        quantization=models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING),
    )


def best_of(search: Search) -> models.QueryRequest | None:
    """The request for the song that co-occurs most, where a search is for both kinds, or None.

    `request_of` wants to know its score.
    """
    if search.vector is None or not search.weights or search.limit <= 0:
        return None
    return models.QueryRequest(
        query=_sparse(search.weights),
        using=SPARSE,
        filter=filter_of(search.where),
        score_threshold=floor_of(search.weights),
        limit=1,
        with_payload=False,
    )


def request_of(
    search: Search, fields: Sequence[str], params: models.SearchParams, best: float = 1.0
) -> models.QueryRequest | None:
    """The request for a search, or None for one that asks for nothing.

    `best` is the highest score by co-occurrence, for searches of both kinds.
    """
    passing = filter_of(search.where)
    if search.exact:
        params = models.SearchParams(exact=True)
    nearest = None if search.vector is None else search.vector.tolist()
    predicted = _sparse(search.weights) if search.weights else None
    floor = floor_of(search.weights)
    request: dict[str, Any]
    if nearest is not None and predicted:
        of_company, of_likeness = fused_depths(search.limit)
        request = {
            "prefetch": [
                models.Prefetch(
                    query=predicted,
                    using=SPARSE,
                    filter=passing,
                    limit=of_company,
                    score_threshold=floor,
                ),
                models.Prefetch(
                    query=nearest, using=DENSE, filter=passing, params=params, limit=of_likeness
                ),
            ],
            "query": _fused(best, search.dense_weight),
        }
    elif nearest is not None:
        request = {"query": nearest, "using": DENSE, "filter": passing, "params": params}
    elif predicted:
        request = {
            "query": predicted,
            "using": SPARSE,
            "filter": passing,
            "score_threshold": floor,
        }
    else:
        return None
    return models.QueryRequest(
        limit=search.limit,
        with_payload=list(fields),
        with_vector=[DENSE] if search.with_vectors else False,
        **request,
    )


def _fused(best: float, dense_weight: float) -> models.FormulaQuery:
    """The score of a song from those of the two prefetches; see `Search`."""
    names = ("$score[0]", "$score[1]")
    terms: list[Any] = [
        models.MultExpression(mult=[weight, name])
        for name, weight in zip(names, (1 / best, dense_weight), strict=True)
    ]
    defaults: dict[str, Any] = dict.fromkeys(names, 0.0)
    return models.FormulaQuery(formula=models.SumExpression(sum=terms), defaults=defaults)


def cosines_of(vector: Vector, song_ids: Sequence[UUID]) -> models.QueryRequest:
    """The request for the cosines of a vector with these songs, of which there is one or more."""
    ids: list[Any] = [str(song_id) for song_id in song_ids]
    return models.QueryRequest(
        query=vector.tolist(),
        using=DENSE,
        filter=models.Filter(must=[models.HasIdCondition(has_id=ids)]),
        params=models.SearchParams(exact=True),
        limit=len(ids),
        with_payload=False,
    )


def filter_of(where: Filter, *conditions: Any) -> models.Filter | None:
    """The filter that passes what `where` passes, and all `conditions`."""
    must = list(conditions)
    must_not: list[Any] = []
    if where.include_artists:
        must.append(_any_of("artist_key", where.include_artists))
    if where.exclude_artists:
        must_not.append(_any_of("artist_key", where.exclude_artists))
    if where.exclude_songs:
        excluded: list[Any] = sorted(str(song) for song in where.exclude_songs)
        must_not.append(models.HasIdCondition(has_id=excluded))
    if where.min_playlists or where.max_playlists:
        playlists = models.Range(gte=where.min_playlists or None, lte=where.max_playlists or None)
        must.append(models.FieldCondition(key="playlists", range=playlists))
    for condition in where.conditions:
        if condition.any_of:
            must.append(_any_of(condition.field, condition.any_of))
        if condition.none_of:
            must_not.append(_any_of(condition.field, condition.none_of))
        if condition.minimum is not None or condition.maximum is not None:
            span = models.Range(gte=condition.minimum, lte=condition.maximum)
            must.append(models.FieldCondition(key=condition.field, range=span))
        if condition.text:
            must.append(words_of(condition.field, condition.text))
    if not must and not must_not:
        return None
    return models.Filter(must=must or None, must_not=must_not or None)


def words_of(field: str, text: str) -> models.FieldCondition:
    """The condition that a text field has a word for each beginning in `text`."""
    return models.FieldCondition(key=field, match=models.MatchText(text=text))


def _any_of(field: str, values: Collection[Value]) -> models.FieldCondition:
    chosen: Any = sorted(values)
    return models.FieldCondition(key=field, match=models.MatchAny(any=chosen))


def _sparse(weights: Mapping[int, float]) -> models.SparseVector:
    return models.SparseVector(indices=list(weights), values=list(weights.values()))


def song_in(record: models.Record | models.ScoredPoint) -> Song:
    """The song of a point that was found."""
    return song_of(record.payload or {})


def dense_of(record: models.Record | models.ScoredPoint) -> Vector | None:
    """The dense vector of a point, if it has one and it was asked for."""
    vectors = record.vector
    if not isinstance(vectors, dict) or DENSE not in vectors:
        return None
    return np.asarray(vectors[DENSE], dtype=np.float32)


def strengths_of(record: models.Record) -> dict[int, float]:
    """The sparse vector of a point: strengths by the seeds' ordinals."""
    vectors = record.vector
    if not isinstance(vectors, dict) or SPARSE not in vectors:
        return {}
    sparse = vectors[SPARSE]
    assert isinstance(sparse, models.SparseVector)
    return dict(zip(sparse.indices, sparse.values, strict=True))
