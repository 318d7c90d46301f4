"""The plan of a search, independent of the store: rankings, fusion and filter clauses.

`catalog.embedded.queries` and `catalog.server.queries` convert a plan to the types of Qdrant Edge
and of `qdrant-client`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from catalog.model import Search, by_score
from catalog.schema import DENSE, SPARSE, SPELLING, clip_cosine, find_min_score, fusion_depths
from catalog.spelling import build_spelling_query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from catalog.model import Filter, Hit, Song, Value


@dataclass(frozen=True, slots=True)
class AnyOf:
    """A clause that holds if the value of the field is one of `values`."""

    field: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class InRange:
    """A clause that holds if the field is a number from `minimum` to `maximum`, both included.

    A bound of None means no bound.
    """

    field: str
    minimum: float | None
    maximum: float | None


@dataclass(frozen=True, slots=True)
class HasWords:
    """A clause that holds if each word of `text` is the beginning of a word in the field."""

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class IsSong:
    """A clause that holds if the id of the song is one of `song_ids`."""

    song_ids: tuple[UUID, ...]


Clause = AnyOf | InRange | HasWords | IsSong


@dataclass(frozen=True, slots=True)
class Clauses:
    """A filter: all clauses in `must` have to hold, and none of the clauses in `must_not`."""

    must: tuple[Clause, ...] = ()
    must_not: tuple[Clause, ...] = ()


def build_clauses(where: Filter, *more: Clause) -> Clauses:
    """Return the clauses of a filter, with `more` clauses that must also hold."""
    must = list(more)
    must_not: list[Clause] = []
    if where.include_artists:
        must.append(AnyOf("artist_key", tuple(sorted(where.include_artists))))
    if where.exclude_artists:
        must_not.append(AnyOf("artist_key", tuple(sorted(where.exclude_artists))))
    if where.exclude_songs:
        must_not.append(IsSong(tuple(where.exclude_songs)))
    if where.min_playlists or where.max_playlists:
        least, most = where.min_playlists or None, where.max_playlists or None
        must.append(InRange("playlists", least, most))
    for condition in where.conditions:
        if condition.any_of:
            must.append(AnyOf(condition.field, condition.any_of))
        if condition.none_of:
            must_not.append(AnyOf(condition.field, condition.none_of))
        if condition.minimum is not None or condition.maximum is not None:
            must.append(InRange(condition.field, condition.minimum, condition.maximum))
        if condition.text:
            must.append(HasWords(condition.field, condition.text))
    return Clauses(tuple(must), tuple(must_not))


@dataclass(frozen=True, slots=True)
class Ranking:
    """A plan that returns the `limit` best songs by one vector of the songs.

    `using` names the vector: `DENSE` is compared with `search.vector`, and `SPARSE` or `SPELLING`
    with `search.weights`.
    Songs with a score below `min_score` are left out.
    """

    search: Search
    using: str
    limit: int
    min_score: float | None = None


@dataclass(frozen=True, slots=True)
class Fusion:
    """A plan that adds the scores of a sparse ranking and of a dense ranking.

    The dense score is multiplied by the dense weight of the search. If a song is missing from one
    of the rankings, that part of its score is 0.
    """

    sparse: Ranking
    dense: Ranking

    @property
    def search(self) -> Search:
        """The search, which is the same in both rankings."""
        return self.sparse.search


Plan = Ranking | Fusion


def plan_search(search: Search) -> Plan | None:
    """Return the plan of a search, or None if the search cannot return any song.

    A search without vector and weights, or with limit 0, returns no song.
    """
    if search.limit <= 0:
        return None
    if search.vector is not None and search.weights:
        sparse_depth, dense_depth = fusion_depths(search.limit)
        return Fusion(_sparse_ranking(search, sparse_depth), Ranking(search, DENSE, dense_depth))
    if search.vector is not None:
        return Ranking(search, DENSE, search.limit)
    return _sparse_ranking(search, search.limit) if search.weights else None


def plan_spelling(text: str, limit: int, where: Filter) -> Ranking | None:
    """Return the plan of a search for names similar to `text`, or None if no name can match."""
    trigrams = build_spelling_query(text)
    if not trigrams or limit <= 0:
        return None
    return Ranking(Search(weights=trigrams, limit=limit, where=where), SPELLING, limit)


def plan_scores(
    weights: Mapping[int, float], songs: Sequence[Song]
) -> tuple[Ranking, Clauses] | None:
    """Return the ranking and the filter that compute the co-occurrence scores of songs.

    Returns None if there are no songs or no weights, because all scores are then 0.
    """
    if not weights or not songs:
        return None
    is_listed = AnyOf("ordinal", tuple(song.ordinal for song in songs))
    return _sparse_ranking(Search(weights=weights), len(songs)), Clauses((is_listed,))


def _sparse_ranking(search: Search, limit: int) -> Ranking:
    return Ranking(search, SPARSE, limit, find_min_score(search.weights))


def rank_hits(search: Search, hits: list[Hit]) -> list[Hit]:
    """Return the hits of a search, best first, with cosine similarities clipped to -1 to 1."""
    ranked = sorted(hits, key=by_score)
    if search.vector is not None and not search.weights:
        return [replace(hit, score=clip_cosine(hit.score)) for hit in ranked]
    return ranked
