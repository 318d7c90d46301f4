"""Retrieve the candidates of queries and rank them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from catalog.model import Hit
from catalog.pauses import pause_between
from catalog.reranker import CANDIDATES, load_reranker
from service.recommend.query import Mode
from service.recommend.rerank import fetch_scores, rerank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.model import Search
    from catalog.store import OpenRelease
    from service.recommend.diversify import DiverseSelection
    from service.recommend.plan import Plan

DIVERSITY_POOL = 100
"""Minimum number of candidates of a query with diversity."""

DIVERSITY_FACTOR = 5
"""Number of candidates per song to return, for a query with diversity."""

REJECTION_FACTOR = 3
"""Number of candidates per song still to select, for a query that may reject songs.

Songs are rejected because of `max_per_artist` or `min_artist_gap`, or because they are versions.
"""

MAX_SEARCH_DEPTH = 5_000
"""Maximum limit of one search, because a Qdrant server in strict mode refuses higher limits.

A hybrid search retrieves up to twice as many candidates from each of its two rankings. If all songs
that a search returns are rejected, the next search excludes them.
"""


def build_search(plan: Plan, selection: DiverseSelection) -> Search:
    """Return the search for the songs that the selection still lacks.

    If the selection may reject songs, or if songs are re-ranked, the search asks for additional
    songs. It excludes songs that were retrieved before, and artists whose songs cannot be selected
    next.
    """
    query, where = plan.query, plan.search.where
    where = replace(
        where,
        exclude_songs=where.exclude_songs | selection.seen_songs,
        exclude_artists=where.exclude_artists | selection.blocked_artists,
    )
    limit = query.limit - len(selection.songs)
    if query.max_per_artist or query.min_artist_gap or selection.rejected_count:
        limit = REJECTION_FACTOR * limit + selection.rejected_count
    if query.diversity:
        limit = max(limit, DIVERSITY_POOL, DIVERSITY_FACTOR * query.limit)
    if plan.mode is Mode.RANKED:
        limit = max(limit, CANDIDATES)
    return replace(
        plan.search,
        limit=min(limit, MAX_SEARCH_DEPTH),
        where=where,
        with_vectors=bool(query.diversity) or (query.explain and plan.search.vector is not None),
    )


async def retrieve(
    release: OpenRelease, plans: Sequence[Plan], searches: Sequence[Search]
) -> list[list[Hit]]:
    """Return the hits of the search of each plan. All searches share one request to Qdrant.

    Plans without a mode get the most popular songs.
    """
    pairs = list(zip(plans, searches, strict=True))
    request = [search for plan, search in pairs if plan.mode]
    hits = iter(await release.find(request) if request else [])
    popular = iter(
        await asyncio.gather(
            *(_find_popular(release, search) for plan, search in pairs if not plan.mode)
        )
    )
    return [next(hits if plan.mode else popular) for plan in plans]


async def rank(
    release: OpenRelease, plans: Sequence[Plan], hits: Sequence[list[Hit]]
) -> list[list[Hit]]:
    """Return the hits of each plan, re-ranked if the mode of the plan is RANKED."""
    rankings = list(hits)
    ranked = [index for index, plan in enumerate(plans) if plan.mode is Mode.RANKED]
    reranker = load_reranker(release.manifest.ranker) if ranked else None
    if reranker is None:
        return rankings
    scores = await fetch_scores(release, [(plans[index].seeds, hits[index]) for index in ranked])
    async for index, plan_scores in pause_between(zip(ranked, scores, strict=True)):
        rankings[index] = rerank(reranker, plans[index].seeds, hits[index], plan_scores)
    return rankings


async def _find_popular(release: OpenRelease, search: Search) -> list[Hit]:
    """Return the most popular songs, scored by their share of the training playlists."""
    playlists = max(1, release.manifest.counts.training_playlists)
    points = await release.popular(search.limit, search.where)
    return [Hit(point.song, point.song.playlists / playlists, point.vector) for point in points]
