"""Convert search plans to `qdrant-client` requests, and Qdrant records to songs and vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qdrant_client import models

from catalog.model import Point
from catalog.schema import (
    ACORN_MAX_SELECTIVITY,
    DENSE,
    SPARSE,
    default_search_ef,
    parse_song,
)
from catalog.search.plan import AnyOf, Fusion, HasWords, InRange, IsSong

if TYPE_CHECKING:
    from catalog.manifest import Manifest
    from catalog.model import Vector
    from catalog.search.plan import Clause, Clauses, Plan, Ranking

OVERSAMPLING = 3.0
"""Number of exact scores computed per song to return, if the search uses compressed vectors."""


def build_search_params(manifest: Manifest) -> models.SearchParams:
    """Return the parameters of vector searches in a release.

    The scores that Qdrant returns are always exact, even if it searches compressed vectors.
    """
    return models.SearchParams(
        hnsw_ef=manifest.search_ef or default_search_ef(manifest.counts.songs),
        quantization=models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING),
        acorn=models.AcornSearchParams(enable=True, max_selectivity=ACORN_MAX_SELECTIVITY),
    )


def build_request(
    plan: Plan,
    passing: models.Filter | None,
    params: models.SearchParams,
    fields: list[str] | None = None,
) -> models.QueryRequest:
    """Return the Qdrant request for a plan (see `catalog.search.plan`).

    `passing` is the filter that songs must pass, or None. `params` are the search parameters of the
    HNSW index. `fields` are the payload fields to return, by default none.
    """
    search = plan.search
    returned: dict[str, Any] = {
        "with_payload": fields or False,
        "with_vector": [DENSE] if search.with_vectors else False,
    }
    if not isinstance(plan, Fusion):
        query = _build_query(plan, params)
        return models.QueryRequest(limit=plan.limit, filter=passing, **query, **returned)
    return models.QueryRequest(
        limit=search.limit,
        prefetch=[
            models.Prefetch(limit=ranking.limit, filter=passing, **_build_query(ranking, params))
            for ranking in (plan.sparse, plan.dense)
        ],
        query=_build_sum(plan.search.dense_weight),
        **returned,
    )


def _build_query(ranking: Ranking, params: models.SearchParams) -> dict[str, Any]:
    search = ranking.search
    query: dict[str, Any] = {"using": ranking.using, "score_threshold": ranking.min_score}
    if ranking.using != DENSE:
        indices, values = list(search.weights), list(search.weights.values())
        return query | {"query": models.SparseVector(indices=indices, values=values)}
    assert search.vector is not None
    return query | {
        "query": search.vector.tolist(),
        "params": models.SearchParams(exact=True) if search.exact else params,
    }


def _build_sum(dense_weight: float) -> models.FormulaQuery:
    """Return the formula that adds the sparse score and `dense_weight` times the dense score.

    If only one of the rankings contains a song, the other score is 0.
    """
    cosine = models.MultExpression(mult=[dense_weight, "$score[1]"])
    return models.FormulaQuery(
        formula=models.SumExpression(sum=["$score[0]", cosine]),
        defaults={"$score[0]": 0.0, "$score[1]": 0.0},
    )


def build_filter(clauses: Clauses) -> models.Filter | None:
    """Return the filter with these clauses, or None if there are none."""
    must: list[Any] = [_build_condition(clause) for clause in clauses.must]
    must_not: list[Any] = [_build_condition(clause) for clause in clauses.must_not]
    if not must and not must_not:
        return None
    return models.Filter(must=must or None, must_not=must_not or None)


def _build_condition(clause: Clause) -> models.FieldCondition | models.HasIdCondition:
    match clause:
        case AnyOf(field, values):
            any_of: Any = list(values)
            return models.FieldCondition(key=field, match=models.MatchAny(any=any_of))
        case InRange(field, minimum, maximum):
            return models.FieldCondition(key=field, range=models.Range(gte=minimum, lte=maximum))
        case HasWords(field, text):
            return models.FieldCondition(key=field, match=models.MatchText(text=text))
        case IsSong(song_ids):
            return models.HasIdCondition(has_id=[str(song_id) for song_id in song_ids])


def parse_point(record: models.Record) -> Point:
    """Return the song in a record, with its dense vector if the record contains it."""
    return Point(parse_song(record.payload or {}), parse_dense_vector(record))


def parse_dense_vector(record: models.Record | models.ScoredPoint) -> Vector | None:
    """Return the dense vector of a record, or None if it is missing or was not requested."""
    vectors = record.vector
    if not isinstance(vectors, dict) or DENSE not in vectors:
        return None
    return np.asarray(vectors[DENSE], dtype=np.float32)


def parse_weights(record: models.Record) -> dict[int, float]:
    """Return the co-occurrence vector of a record: a weight by index; empty if it is missing."""
    vectors = record.vector
    if not isinstance(vectors, dict) or SPARSE not in vectors:
        return {}
    sparse = vectors[SPARSE]
    assert isinstance(sparse, models.SparseVector)
    return dict(zip(sparse.indices, sparse.values, strict=True))
