"""Recommend songs: query -> resolved seeds -> plan -> search -> ranking -> recommendation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from catalog.errors import UnknownSongError
from catalog.model import ANY, Filter, SimilarName, Song
from catalog.pauses import pause_between
from catalog.song import full_name
from service.operate.timing import Timings
from service.recommend.diversify import DiverseSelection
from service.recommend.explain import explain
from service.recommend.plan import plan_popular, plan_query
from service.recommend.query import Mode, Query, Recommendation, Strategy
from service.recommend.recordings import list_played
from service.recommend.retrieval import build_search, rank, retrieve
from service.recommend.seeds import find_artists, resolve_playlists
from service.recommend.spelling import suggest_songs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.model import Hit
    from catalog.store import OpenRelease
    from service.recommend.plan import Plan
    from service.recommend.seeds import Seed


MAX_NAME_IN_MESSAGE = 100
"""Maximum number of characters of a name in a message, as gRPC drops a status of several kB."""

MAX_SUGGESTED_NAMES = 5  # songs with similar names in an `UnknownSongError`


async def recommend(
    release: OpenRelease, query: Query, timings: Timings | None = None
) -> Recommendation:
    """Recommend songs for one query (see `recommend_many`)."""
    (recommendation,) = await recommend_many(release, [query], timings)
    return recommendation


async def recommend_many(
    release: OpenRelease, queries: Sequence[Query], timings: Timings | None = None
) -> list[Recommendation]:
    """Recommend songs for each query. The searches of all queries share one request to Qdrant.

    Seeds are never recommended. If no training playlist contains a seed with a positive weight,
    songs of the seeds' artists are recommended. If there are no such songs, the most popular songs
    of the catalog are recommended. See `plan_query` for the choice of the mode. The duration of
    each stage is added to `timings`.
    """
    timings = timings or Timings()
    with timings.measure("resolve"):
        resolved = await resolve_playlists(release, [query.seeds for query in queries])
    with timings.measure("embed"):
        plans = [
            plan_query(release.manifest, query, seeds)
            async for query, seeds in pause_between(zip(queries, resolved, strict=True))
        ]
    rankings = await _select_songs(release, plans, timings)
    plans, rankings = await _replace_empty(release, plans, rankings, timings)
    with timings.measure("rank"):
        reasons = await explain(release, plans, rankings)
    return [
        Recommendation(
            songs,
            plan.strategy,
            plan.mode,
            find_artists(plan.seeds, [hit.song for hit in songs]),
            song_reasons,
            plan.search.where,
        )
        for plan, songs, song_reasons in zip(plans, rankings, reasons, strict=True)
    ]


async def find_similar(
    release: OpenRelease,
    seed: Seed,
    limit: int = 10,
    where: Filter = ANY,
    timings: Timings | None = None,
    *,
    allow_versions: bool = False,
) -> tuple[Song, Recommendation]:
    """Return the song of a seed, and a recommendation of the songs nearest to it by dense vector.

    The weight of `seed` must be positive. If the catalog does not have the song, raises
    `UnknownSongError`, which lists songs with similar names.
    """
    query = Query([seed], limit, where, Mode.DENSE, allow_versions=allow_versions)
    recommendation = await recommend(release, query, timings)
    if recommendation.strategy is Strategy.POPULAR:  # popular songs are not similar
        recommendation = replace(recommendation, songs=[], reasons=[])
    (resolved,) = recommendation.seeds
    if resolved.point is None:
        name = str(seed.song_id or full_name(seed.artist, seed.title))
        if len(name) > MAX_NAME_IN_MESSAGE:
            name = f"{name[:MAX_NAME_IN_MESSAGE]}..."
        raise UnknownSongError(
            f"the catalog has no song {name}; look for it with SearchSongs",
            await _suggest_names(release, seed),
        )
    return resolved.point.song, recommendation


async def _suggest_names(release: OpenRelease, seed: Seed) -> tuple[SimilarName, ...]:
    return tuple(
        SimilarName(song.song_id, song.artist, song.title, song.playlists, similar.similarity)
        for similar in await suggest_songs(release, seed, MAX_SUGGESTED_NAMES)
        for song in [similar.song]
    )


async def _replace_empty(
    release: OpenRelease, plans: Sequence[Plan], rankings: Sequence[list[Hit]], timings: Timings
) -> tuple[list[Plan], list[list[Hit]]]:
    """Replace each empty ranking of the strategy ARTISTS by a ranking of popular songs.

    Returns the plans and the rankings of all queries, in the same order.
    """
    is_empty = [
        plan.strategy is Strategy.ARTISTS and plan.query.limit > 0 and not songs
        for plan, songs in zip(plans, rankings, strict=True)
    ]
    new_plans = [
        plan_popular(plan) if empty else plan for plan, empty in zip(plans, is_empty, strict=True)
    ]
    popular = [plan for plan, empty in zip(new_plans, is_empty, strict=True) if empty]
    popular_songs = iter(await _select_songs(release, popular, timings) if popular else [])
    return new_plans, [
        next(popular_songs) if empty else songs
        for songs, empty in zip(rankings, is_empty, strict=True)
    ]


async def _select_songs(
    release: OpenRelease, plans: Sequence[Plan], timings: Timings
) -> list[list[Hit]]:
    """Return the selected songs for each plan, best first.

    Searches are repeated only for plans whose selection rejected songs because they are versions,
    or because of `max_per_artist`, `min_artist_gap` or `diversity`.
    """
    selections = [_start_selection(plan) async for plan in pause_between(plans)]
    unfinished = [
        (plan, selection)
        for plan, selection in zip(plans, selections, strict=True)
        if plan.query.limit
    ]
    while unfinished:
        open_plans = [plan for plan, _ in unfinished]
        searches = [
            build_search(plan, selection) async for plan, selection in pause_between(unfinished)
        ]
        with timings.measure("search"):
            hits = await retrieve(release, open_plans, searches)
        with timings.measure("rank"):
            rankings = await rank(release, open_plans, hits)
            pairs = zip(unfinished, rankings, strict=True)
            has_grown = [
                _add_ranking(selection, ranking)
                async for (_, selection), ranking in pause_between(pairs)
            ]
        unfinished = [
            (plan, selection)
            for (plan, selection), search, plan_hits, grown in zip(
                unfinished, searches, hits, has_grown, strict=True
            )
            if not selection.is_complete
            and (
                len(plan_hits) == search.limit  # with fewer hits, no other songs match
                # After new selections, `min_artist_gap` blocks other artists, so a search can
                # return songs that it excluded before.
                or (plan.query.min_artist_gap and grown)
            )
        ]
    return [selection.songs for selection in selections]


def _start_selection(plan: Plan) -> DiverseSelection:
    query = plan.query
    return DiverseSelection(
        query.limit,
        query.max_per_artist,
        query.diversity,
        query.min_artist_gap,
        None if query.allow_versions else list_played(zip(query.seeds, plan.seeds, strict=True)),
    )


def _add_ranking(selection: DiverseSelection, ranking: Sequence[Hit]) -> bool:
    """Add a ranking to a selection, and return whether the number of selected songs has grown."""
    before = len(selection.songs)
    selection.add(ranking)
    return len(selection.songs) > before
