"""Convert search plans to Qdrant Edge requests, and Qdrant Edge records to songs and vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import qdrant_edge as edge

from catalog.model import Point
from catalog.schema import DENSE, SPARSE, parse_song
from catalog.search.plan import AnyOf, Fusion, HasWords, InRange, IsSong

if TYPE_CHECKING:
    from catalog.model import Vector
    from catalog.search.plan import Clause, Clauses, Plan, Ranking


def build_request(plan: Plan, passing: Any, params: Any, **returned: Any) -> Any:
    """Return the Qdrant Edge request for a plan (see `catalog.search.plan`).

    `passing` is the filter that songs must pass, or None. `params` are the search parameters of the
    HNSW index. `returned` contains the arguments `with_payload` and `with_vector` of the request.
    """
    if not isinstance(plan, Fusion):
        query = _build_query(plan, params)
        return edge.QueryRequest(limit=plan.limit, filter=passing, **query, **returned)
    return edge.QueryRequest(
        limit=plan.search.limit,
        prefetches=[
            edge.Prefetch(ranking.limit, filter=passing, **_build_query(ranking, params))
            for ranking in (plan.sparse, plan.dense)
        ],
        query=_build_sum(plan.search.dense_weight),
        **returned,
    )


def _build_query(ranking: Ranking, params: Any) -> dict[str, Any]:
    search = ranking.search
    if ranking.using != DENSE:
        sparse = edge.SparseVector(list(search.weights), list(search.weights.values()))
        query = edge.Query.Nearest(sparse, using=ranking.using)
        return {"query": query, "score_threshold": ranking.min_score}
    assert search.vector is not None
    return {
        "query": edge.Query.Nearest(search.vector.tolist(), using=DENSE),
        "params": edge.SearchParams(exact=True) if search.exact else params,
        "score_threshold": ranking.min_score,
    }


def _build_sum(dense_weight: float) -> Any:
    """Return the formula that adds the sparse score and `dense_weight` times the dense score.

    If only one of the rankings contains a song, the other score is 0.
    """
    sparse, dense = edge.Expression.Variable("$score[0]"), edge.Expression.Variable("$score[1]")
    cosine = edge.Expression.Mult([edge.Expression.Constant(dense_weight), dense])
    return edge.Formula(edge.Expression.Sum([sparse, cosine]), {"$score[0]": 0.0, "$score[1]": 0.0})


def build_filter(clauses: Clauses) -> Any:
    """Return the filter with these clauses, or None if there are none."""
    must = [_build_condition(clause) for clause in clauses.must]
    must_not = [_build_condition(clause) for clause in clauses.must_not]
    if not must and not must_not:
        return None
    return edge.Filter(must=must or None, must_not=must_not or None)


def _build_condition(clause: Clause) -> Any:
    match clause:
        case AnyOf(field, values):
            return edge.FieldCondition(field, match=edge.MatchAny(list(values)))
        case InRange(field, minimum, maximum):
            return edge.FieldCondition(field, range=edge.RangeFloat(gte=minimum, lte=maximum))
        case HasWords(field, text):
            return edge.FieldCondition(field, match=edge.MatchText(text))
        case IsSong(song_ids):
            return edge.HasIdCondition(set(song_ids))


def parse_point(record: Any) -> Point:
    """Return the song in a record, with its dense vector if the record contains it."""
    return Point(parse_song(record.payload), parse_dense_vector(record))


def parse_dense_vector(record: Any) -> Vector | None:
    """Return the dense vector of a record, or None if it is missing or was not requested."""
    vector = (record.vector or {}).get(DENSE)
    return None if vector is None else np.asarray(vector, dtype=np.float32)


def parse_weights(record: Any) -> dict[int, float]:
    """Return the co-occurrence vector of a record: a weight by index; empty if it is missing."""
    sparse = (record.vector or {}).get(SPARSE)
    return {} if sparse is None else dict(zip(sparse.indices, sparse.values, strict=True))
