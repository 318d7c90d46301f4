"""Plan a query: choose the strategy, the mode and the query vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from catalog.content import ARTIST
from catalog.model import Search
from catalog.recency import Recency
from catalog.reranker import load_reranker
from service.recommend.query import Mode, Query, Strategy
from service.recommend.weights import build_dense_query, build_sparse_query, list_entries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catalog.manifest import Manifest
    from catalog.model import Filter
    from service.recommend.seeds import ResolvedSeed
    from service.recommend.weights import Entry


FORMAT_2_SCALE = 0.15
"""`cooccurrence_scale` of releases of format 2, which do not record this parameter.

The scale is the typical highest co-occurrence weight of a seed. It was measured on radio sessions,
as the ratio of the highest co-occurrence score of a query to the sum of its seed weights: between
0.11 and 0.20 for 80% of the queries.
"""


@dataclass(frozen=True, slots=True)
class Weighting:
    """The weighting of seeds.

    - `sparse`, `dense`: the recency curves for sparse and for dense query vectors.
    - `shares`: for each content field, the factor for the weights of its content keys (see
      `catalog.content`).
    """

    sparse: Recency
    dense: Recency
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan for answering a query.

    - `seeds`: the resolved seeds of the query.
    - `strategy`: the source of the recommendation.
    - `mode`: the mode that is used. If it is None, the most popular songs that pass the filter are
      recommended.
    - `search`: the query vectors and the filter, with the seeds excluded.
    """

    query: Query
    seeds: list[ResolvedSeed]
    strategy: Strategy
    mode: Mode | None
    weighting: Weighting
    search: Search


def get_default_mode(manifest: Manifest) -> Mode:
    """Return the mode for queries that do not set one: the mode that was selected in training."""
    return Mode(manifest.origin.parameters.get("mode", Mode.HYBRID.value))


def plan_query(manifest: Manifest, query: Query, seeds: list[ResolvedSeed]) -> Plan:
    """Return the plan of a query.

    If no training playlist contains a seed with a positive weight, the plan is to search for songs
    of the seeds' artists. If that search returns no hits, the caller must use `plan_popular`. Rare
    songs have no dense vector, and songs that were never in a playlist with other songs have no
    co-occurrence weights. If all seeds lack the data that the mode needs, another mode is used.
    Hybrid search replaces re-ranking if there is no usable re-ranker, or no training playlist
    contains a seed.
    """
    has_plays = any(seed.weight > 0 and seed.point and seed.point.song.playlists for seed in seeds)
    weighting = _get_weighting(manifest, has_plays=has_plays)
    mode = query.mode or get_default_mode(manifest)
    if mode is Mode.RANKED and not (has_plays and load_reranker(manifest.ranker)):
        mode = Mode.HYBRID
    possible_mode, search = _build_search(manifest, seeds, mode, weighting)
    search = replace(search, where=_exclude_seeds(query, seeds))
    if possible_mode is not None:
        strategy = Strategy.SEEDS if has_plays else Strategy.ARTISTS
        return Plan(query, seeds, strategy, possible_mode, weighting, search)
    plan = Plan(query, seeds, Strategy.POPULAR, None, weighting, search)
    if has_plays or weighting.shares:
        return plan
    return _plan_songs_of_artists(plan) or plan


def plan_popular(plan: Plan) -> Plan:
    """Return a plan that recommends the most popular songs for the same query."""
    search = Search(where=_exclude_seeds(plan.query, plan.seeds))
    return replace(plan, strategy=Strategy.POPULAR, mode=None, search=search)


def _get_weighting(manifest: Manifest, *, has_plays: bool) -> Weighting:
    """Return the weighting of a release.

    `has_plays` says whether any training playlist contains a seed. If none does, only artists have
    a share: that of the release, or 1 if that is 0. A release without content entries, such as a
    release of format 2, has no shares.
    """
    parameters = manifest.origin.parameters
    shares = dict(parameters.get("content_shares", {}))
    if shares and not has_plays:
        shares = {ARTIST: shares.get(ARTIST) or 1.0}
    return Weighting(Recency.of_sparse(parameters), Recency.of_dense(parameters), shares)


def _build_search(
    manifest: Manifest, seeds: Sequence[ResolvedSeed], mode: Mode, weighting: Weighting
) -> tuple[Mode | None, Search]:
    """Return a mode that is possible with these seeds, and the search in this mode.

    The mode is `mode` if that is possible, else another mode, or None if no mode is possible.
    """
    is_sparse = mode in (Mode.COOCCURRENCE, Mode.RANKED)
    vector = None if is_sparse else build_dense_query(seeds, weighting.dense)
    is_dense = mode is Mode.DENSE and vector is not None
    entries = [] if is_dense else list(list_entries(seeds, weighting.sparse, weighting.shares))
    weights = build_sparse_query(entries)
    search = Search(vector, weights, dense_weight=_compute_dense_weight(manifest, entries))
    if is_sparse and weights:
        return mode, search
    if vector is None:
        return Mode.COOCCURRENCE if weights else None, search
    if not weights:
        return Mode.DENSE, search
    return Mode.HYBRID, search


def _compute_dense_weight(manifest: Manifest, entries: Sequence[Entry]) -> float:
    """Return the factor that converts a cosine similarity to the scale of co-occurrence scores.

    The factor is the product of three numbers: the release's dense weight; its
    `cooccurrence_scale`, which is the typical highest co-occurrence weight of a seed; and the sum
    of the positive weights of the seeds that the catalog has.
    """
    parameters = manifest.origin.parameters
    total = sum(entry.weight for entry in entries if not entry.field and entry.weight > 0)
    scale = float(parameters.get("cooccurrence_scale", FORMAT_2_SCALE))
    return float(parameters["dense_weight"]) * scale * total


def _plan_songs_of_artists(plan: Plan) -> Plan | None:
    """Return a plan to recommend the most popular songs of the seeds' artists.

    This plan is needed for queries without a known seed if the release has no content entries. It
    is None if the seeds name no artist that the filter allows.
    """
    artists = frozenset(seed.artist_key for seed in plan.seeds if seed.weight > 0) - {""}
    where = plan.search.where
    if where.include_artists:
        artists &= where.include_artists
    if not artists:
        return None
    search = Search(where=replace(where, include_artists=artists))
    return replace(plan, strategy=Strategy.ARTISTS, search=search)


def _exclude_seeds(query: Query, seeds: Sequence[ResolvedSeed]) -> Filter:
    known = frozenset(seed.point.song.song_id for seed in seeds if seed.point)
    return replace(query.where, exclude_songs=query.where.exclude_songs | known)
