"""Our searches and filters in the words of `qdrant-client`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qdrant_client import models

from catalog.schema import DENSE, SPARSE, floor_of, fusion_depths, search_ef, song_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from uuid import UUID

    from catalog.manifest import Manifest
    from catalog.model import Filter, Search, Song, Value, Vector

OVERSAMPLING = 3.0
"""How many times more songs a search of compressed vectors scores exactly than it returns."""


def params_of(manifest: Manifest) -> models.SearchParams:
    """How the index of a release is searched; where vectors are compressed, scores are exact."""
    return models.SearchParams(
        hnsw_ef=manifest.search_ef or search_ef(manifest.counts.songs),
        quantization=models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING),
    )


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a search for both kinds must know of its two rankings before they are fused.

    `best` is the highest score by co-occurrence. `predicted` and `nearest` are the scores above
    which songs are fused, by co-occurrence and by similarity; None lets all that are found pass.
    """

    best: float = 1.0
    predicted: float | None = None
    nearest: float | None = None


def rankings_of(
    search: Search, params: models.SearchParams, *, sharded: bool
) -> tuple[models.QueryRequest | None, models.QueryRequest | None]:
    """What `bounds_of` looks at, by co-occurrence and by similarity; None where it need not.

    Each shard fuses those songs that it has. Where there are several, the last song of each ranking
    must be known: without it they would fuse more songs than one shard of all songs does.
    """
    if search.vector is None or not search.weights or search.limit <= 0:
        return None, None
    of_company, of_likeness = fusion_depths(search.limit)
    if not sharded:
        return _scores(1, _predicted(search)), None
    return _scores(of_company, _predicted(search)), _scores(of_likeness, _nearest(search, params))


def _scores(limit: int, ranking: dict[str, Any]) -> models.QueryRequest:
    return models.QueryRequest(limit=limit, with_payload=False, **ranking)


def bounds_of(
    search: Search,
    predicted: Sequence[models.ScoredPoint],
    nearest: Sequence[models.ScoredPoint],
) -> Bounds:
    """The bounds of a search for both kinds, by what its `rankings_of` found."""
    of_company, of_likeness = fusion_depths(search.limit)
    return Bounds(
        best=predicted[0].score if predicted else 1.0,
        predicted=_passing(predicted, of_company) or floor_of(search.weights),
        nearest=_passing(nearest, of_likeness),
    )


def _passing(ranking: Sequence[models.ScoredPoint], depth: int) -> float | None:
    """The score that all of a ranking pass, if it is full: the engine wants more than it."""
    if len(ranking) < depth:
        return None
    return float(np.nextafter(np.float32(ranking[-1].score), np.float32(-np.inf)))


def request_of(
    search: Search,
    fields: Sequence[str],
    params: models.SearchParams,
    bounds: Bounds | None = None,
) -> models.QueryRequest | None:
    """The request for a search, or None for one that asks for nothing.

    A search for both kinds needs `bounds`.
    """
    request: dict[str, Any]
    if search.limit <= 0:
        return None
    if search.vector is not None and search.weights:
        assert bounds
        of_company, of_likeness = fusion_depths(search.limit)
        predicted = {**_predicted(search), "score_threshold": bounds.predicted}
        nearest = {**_nearest(search, params), "score_threshold": bounds.nearest}
        request = {
            "prefetch": [
                models.Prefetch(**predicted, limit=of_company),
                models.Prefetch(**nearest, limit=of_likeness),
            ],
            "query": _fused(bounds.best, search.dense_weight),
        }
    elif search.vector is not None:
        request = _nearest(search, params)
    elif search.weights:
        request = _predicted(search)
    else:
        return None
    return models.QueryRequest(
        limit=search.limit,
        with_payload=list(fields),
        with_vector=[DENSE] if search.with_vectors else False,
        **request,
    )


def _predicted(search: Search) -> dict[str, Any]:
    """The songs that co-occur with the seeds, as a request or a part of one."""
    return {
        "query": _sparse(search.weights),
        "using": SPARSE,
        "filter": filter_of(search.where),
        "score_threshold": floor_of(search.weights),
    }


def _nearest(search: Search, params: models.SearchParams) -> dict[str, Any]:
    """The most similar songs, as a request or a part of one."""
    assert search.vector is not None
    return {
        "query": search.vector.tolist(),
        "using": DENSE,
        "filter": filter_of(search.where),
        "params": models.SearchParams(exact=True) if search.exact else params,
    }


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
