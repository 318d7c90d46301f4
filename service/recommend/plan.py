"""Plan a query: select the seeds, the mode and the query vectors to search with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from catalog.model import Search, song_ids
from catalog.reranker import load_reranker
from service.recommend.query import Mode, Query, Strategy
from service.recommend.seeds import Resolution
from service.recommend.weights import build_query_vector, weigh_songs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.manifest import Manifest
    from service.recommend.seeds import ResolvedSeed


@dataclass(frozen=True, slots=True)
class Decays:
    """The factor per later seed that reduces the weight of a seed, for each kind of vector."""

    dense: float
    cooccurrence: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of how to answer a query.

    - `seeds`: the seeds of the query as they were resolved.
    - `search_seeds`: the same seeds, reduced to the songs to search with.
    - `mode`: the mode that is used; None if there are no songs to search with.
    - `search`: the query vectors and the filter, with the seeds excluded.
    """

    query: Query
    seeds: list[ResolvedSeed]
    search_seeds: list[ResolvedSeed]
    strategy: Strategy
    mode: Mode | None
    decays: Decays
    search: Search


def get_default_mode(manifest: Manifest) -> Mode:
    """Return the mode for queries without one: the mode that was selected in training."""
    return Mode(manifest.origin.parameters.get("mode", Mode.HYBRID.value))


def plan_query(manifest: Manifest, query: Query, seeds: list[ResolvedSeed]) -> Plan:
    """Return the plan of a query.

    Songs of their artists replace unknown seeds only if no positive seed is known. Rare songs have
    no dense vector, and songs that were never in a playlist with others have no co-occurrence
    weights. If all seeds lack the data that the mode needs, another mode is used.
    """
    known = [seed for seed in seeds if seed.resolution is Resolution.SONG]
    excluded = song_ids([point for seed in known for point in seed.points])
    is_known = any(seed.weight > 0 for seed in known)
    search_seeds = [
        replace(seed, points=()) if is_known and seed.resolution is Resolution.ARTIST else seed
        for seed in seeds
    ]
    parameters = manifest.origin.parameters
    dense_decay = float(parameters["query_decay"])
    decays = Decays(dense_decay, float(parameters.get("cooccurrence_decay", dense_decay)))
    mode, search = _build_search(
        manifest, search_seeds, query.mode or get_default_mode(manifest), decays
    )
    where = replace(query.where, exclude_songs=query.where.exclude_songs | excluded)
    strategy = Strategy.SEEDS if is_known else Strategy.ARTISTS if mode else Strategy.POPULAR
    return Plan(query, seeds, search_seeds, strategy, mode, decays, replace(search, where=where))


def _build_search(
    manifest: Manifest, seeds: Sequence[ResolvedSeed], mode: Mode, decays: Decays
) -> tuple[Mode | None, Search]:
    """Return the mode that the seeds permit, and its search."""
    vector = None if mode is Mode.COOCCURRENCE else build_query_vector(seeds, decays.dense)
    is_dense = mode is Mode.DENSE and vector is not None
    weights = {} if is_dense else weigh_songs(seeds, decays.cooccurrence)
    search = Search(vector, weights, dense_weight=float(manifest.origin.parameters["dense_weight"]))
    if vector is None:
        return Mode.COOCCURRENCE if weights else None, search
    if not weights:
        return Mode.DENSE, search
    if mode is Mode.RANKED and load_reranker(manifest.ranker):
        return Mode.RANKED, search
    return Mode.HYBRID, search
