"""Query playlist -> ranked songs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from catalog.errors import UnknownSongError
from catalog.model import ANY, Filter, Hit, Search, Song, song_ids
from catalog.reranker import load_reranker
from catalog.turns import turn
from service.operate.timing import stage
from service.recommend.diversify import Picks
from service.recommend.explain import Explanation
from service.recommend.rerank import candidates_of, ranked, searches_of, similarities
from service.recommend.seeds import Resolution, ResolvedSeed, embed, resolve_many, weigh

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from catalog.manifest import Manifest
    from catalog.store import OpenRelease
    from service.recommend.explain import Reason
    from service.recommend.seeds import Seed


LONGEST_NAME = 100
"""Longer names are cut in messages: a gRPC status with more than a few kB never arrives."""

POOL = 100
"""Diversity chooses from so many songs, or from 5 times as many as are wanted, if that is more."""

DEEPEST = 5_000
"""No search is for more songs, and a fused one is for twice as many of each kind: what the strict
mode of a server home allows. Where all are refused, the next search goes on behind them."""

EXPLAINED_AT_ONCE = 200


class Mode(Enum):
    """By what songs are ranked.

    By Word2Vec vectors; by co-occurrence in playlists; by both, fused; or by the release's ranker,
    from the candidates of several searches: where it has none, both answer, fused.
    """

    DENSE = "dense"
    COOCCURRENCE = "cooccurrence"
    HYBRID = "hybrid"
    RANKED = "ranked"


class Strategy(Enum):
    """What answered: the best knowledge that could be had of the seeds."""

    SEEDS = "seeds"
    ARTISTS = "artists"
    POPULAR = "popular"


@dataclass(frozen=True, slots=True)
class Query:
    """One playlist that wants continuing; its seeds are in play order, the last the most recent.

    - `mode`: None takes what the release was found to answer best with.
    - `max_per_artist`: at most so many songs of one artist; 0 is no bound.
    - `diversity`: 0, the best songs, to 1, songs as unlike each other as can be; see `Picks`.
    - `explain`: say which seeds brought each song in.
    """

    seeds: Sequence[Seed]
    limit: int = 10
    where: Filter = ANY
    mode: Mode | None = None
    max_per_artist: int = 0
    diversity: float = 0.0
    explain: bool = False


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Ranked songs, best first, what answered, and how each seed was understood.

    `mode` is None where popularity answered. `reasons` has a list for each song: empty where
    popularity answered, or if they were not asked for.
    """

    songs: list[Hit]
    strategy: Strategy
    mode: Mode | None
    seeds: list[ResolvedSeed]
    reasons: list[list[Reason]]


@dataclass(slots=True)
class _Task:
    """An ask on its way: what is searched for it, and what has been picked so far."""

    ask: Query
    resolved: list[ResolvedSeed]
    asking: list[ResolvedSeed]
    strategy: Strategy
    mode: Mode | None
    search: Search
    picks: Picks
    done: bool = field(default=False)


async def recommend(
    release: OpenRelease,
    seeds: Sequence[Seed],
    limit: int = 10,
    where: Filter = ANY,
    mode: Mode | None = None,
    max_per_artist: int = 0,
    diversity: float = 0.0,
    *,
    explain: bool = False,
) -> Recommendation:
    """Say which songs should come next after the seeds: `recommend_many` of one."""
    ask = Query(seeds, limit, where, mode, max_per_artist, diversity, explain)
    (answer,) = await recommend_many(release, [ask])
    return answer


async def recommend_many(release: OpenRelease, asks: Sequence[Query]) -> list[Recommendation]:
    """Say for each playlist which songs should come next, all searched for in one go.

    Seeds are never recommended back. Where no seed is known, the songs of their artists ask in
    their place; where no artist is known either, or all seeds are negative, the most popular songs
    answer. Where the songs that ask lack what the mode needs, being too rare for a vector or never
    in company, the other kind of search answers.
    """
    with stage("resolve"):
        playlists = await resolve_many(release, [ask.seeds for ask in asks])
    tasks = []
    with stage("embed"):
        for ask, seeds in zip(asks, playlists, strict=True):
            tasks.append(_task(release.manifest, ask, seeds))
            await turn()
    while open_tasks := [task for task in tasks if not task.done]:
        wanted = []
        for task in open_tasks:
            wanted.append(_next_searches(task))
            await turn()
        with stage("search"):
            found = await _find(release, open_tasks, wanted)
        with stage("rank"):
            rankings = await _rankings(release, open_tasks, found)
            for task, searches, hits, ranking in zip(
                open_tasks, wanted, found, rankings, strict=True
            ):
                exhausted = all(
                    len(some) < search.limit for some, search in zip(hits, searches, strict=True)
                )
                task.picks.add(ranking)
                task.done = task.picks.complete or exhausted
                await turn()
    with stage("rank"):
        reasons = await _reasons(release, tasks)
    return [
        Recommendation(task.picks.songs, task.strategy, task.mode, task.resolved, why)
        for task, why in zip(tasks, reasons, strict=True)
    ]


async def similar(
    release: OpenRelease, seed: Seed, limit: int = 10, where: Filter = ANY
) -> tuple[Song, list[Hit]]:
    """The song as the catalog has it, and those nearest to it, itself left out.

    `seed` has a positive weight. Raises `UnknownSongError`.
    """
    answer = await recommend(release, [seed], limit, where, Mode.DENSE)
    (resolved,) = answer.seeds
    if resolved.resolution is not Resolution.SONG:
        name = str(seed.song_id or f"{seed.artist} - {seed.title}")
        if len(name) > LONGEST_NAME:
            name = f"{name[:LONGEST_NAME]}..."
        raise UnknownSongError(f"the catalog has no song {name}; look for it with SearchSongs")
    return resolved.points[0].song, answer.songs


def chosen_mode(manifest: Manifest) -> Mode:
    """The mode that the release answers in where none is asked for."""
    return Mode(manifest.origin.parameters.get("mode", Mode.HYBRID.value))


def _task(manifest: Manifest, ask: Query, resolved: list[ResolvedSeed]) -> _Task:
    songs = [seed for seed in resolved if seed.resolution is Resolution.SONG]
    own = song_ids([point for seed in songs for point in seed.points])
    where = replace(ask.where, exclude_songs=ask.where.exclude_songs | own)
    known = any(seed.weight > 0 for seed in songs)
    asking = [
        seed if seed.resolution is Resolution.SONG or not known else replace(seed, points=())
        for seed in resolved
    ]
    mode, search = _search(manifest, asking, ask.mode or chosen_mode(manifest))
    search = replace(search, where=where)
    strategy = Strategy.SEEDS if known else Strategy.ARTISTS if mode else Strategy.POPULAR
    picks = Picks(ask.limit, ask.max_per_artist, ask.diversity)
    return _Task(ask, resolved, asking, strategy, mode, search, picks, done=ask.limit == 0)


def _search(
    manifest: Manifest, seeds: Sequence[ResolvedSeed], mode: Mode
) -> tuple[Mode | None, Search]:
    dense_decay, decay = decays_of(manifest.origin.parameters)
    vector = None if mode is Mode.COOCCURRENCE else embed(seeds, dense_decay)
    weights = {} if mode is Mode.DENSE and vector is not None else weigh(seeds, decay)
    search = Search(vector, weights, dense_weight=float(manifest.origin.parameters["dense_weight"]))
    if vector is None:
        return Mode.COOCCURRENCE if weights else None, search
    if mode is Mode.RANKED and weights and load_reranker(manifest.ranker):
        return Mode.RANKED, search
    return Mode.HYBRID if weights else Mode.DENSE, search


def decays_of(parameters: Mapping[str, float]) -> tuple[float, float]:
    """What a seed counts relative to the one after it: by Word2Vec, and by co-occurrence."""
    decay = float(parameters["query_decay"])
    return decay, float(parameters.get("cooccurrence_decay", decay))


def _next_searches(task: _Task) -> list[Search]:
    """The searches for what is still wanting: more than that where some of it may be refused.

    Songs seen before, and artists of which there are enough, are left to the engine to skip.
    """
    ask, picks, where = task.ask, task.picks, task.search.where
    where = replace(
        where,
        exclude_songs=where.exclude_songs | picks.skipped,
        exclude_artists=where.exclude_artists | picks.full_artists,
    )
    limit = ask.limit - len(picks.songs)
    if ask.max_per_artist:
        limit = 3 * limit + picks.refused
    if ask.diversity:
        limit = max(limit, POOL, 5 * ask.limit)
    search = replace(
        task.search,
        limit=min(limit, DEEPEST),
        where=where,
        with_vectors=bool(ask.diversity) or (ask.explain and task.mode is not Mode.COOCCURRENCE),
    )
    return searches_of(search, task.asking) if task.mode is Mode.RANKED else [search]


async def _rankings(
    release: OpenRelease, tasks: Sequence[_Task], found: Sequence[list[list[Hit]]]
) -> list[list[Hit]]:
    """A ranking for each task: what its search found, or what the ranker makes of several."""
    rankings = [hits[0] for hits in found]
    ranker = load_reranker(release.manifest.ranker)
    places = [place for place, task in enumerate(tasks) if task.mode is Mode.RANKED]
    if ranker and places:
        several = []
        for place in places:
            several.append(candidates_of(tasks[place].asking, found[place]))
            await turn()
        cosines = await similarities(release, several)
        for place, one, own in zip(places, several, cosines, strict=True):
            rankings[place] = ranked(ranker, one, own)
            await turn()
    return rankings


async def _find(
    release: OpenRelease, tasks: Sequence[_Task], wanted: Sequence[list[Search]]
) -> list[list[list[Hit]]]:
    """What each search of each task finds."""
    pairs = list(zip(tasks, wanted, strict=True))
    asked = [search for task, searches in pairs if task.mode for search in searches]
    hits = iter(await release.find(asked))
    popular = iter(
        await asyncio.gather(
            *(_popular(release, searches[0]) for task, searches in pairs if not task.mode)
        )
    )
    return [[next(hits if task.mode else popular) for _ in searches] for task, searches in pairs]


async def _popular(release: OpenRelease, search: Search) -> list[Hit]:
    playlists = max(1, release.manifest.counts.training_playlists)
    points = await release.popular(search.limit, search.where)
    return [Hit(point.song, point.song.playlists / playlists, point.vector) for point in points]


async def _reasons(release: OpenRelease, tasks: Sequence[_Task]) -> list[list[list[Reason]]]:
    explanations = {
        place: _explanation(release.manifest, task)
        for place, task in enumerate(tasks)
        if task.ask.explain and task.mode
    }
    strengths = await _strengths(release, tasks, explanations)
    reasons: list[list[list[Reason]]] = [[[] for _ in task.picks.songs] for task in tasks]
    for place, explanation in explanations.items():
        songs = tasks[place].picks.songs
        for start in range(0, len(songs), EXPLAINED_AT_ONCE):
            some = songs[start : start + EXPLAINED_AT_ONCE]
            known = [strengths.get(hit.song.song_id, {}) for hit in some]
            reasons[place][start : start + len(some)] = explanation.reasons(some, known)
            await turn()
    return reasons


def _explanation(manifest: Manifest, task: _Task) -> Explanation:
    dense_decay, decay = decays_of(manifest.origin.parameters)
    dense_weight = task.search.dense_weight if task.search.weights else 1.0
    by_company = task.mode is not Mode.DENSE
    return Explanation(task.asking, decay if by_company else None, dense_decay, dense_weight)


async def _strengths(
    release: OpenRelease, tasks: Sequence[_Task], explanations: Mapping[int, Explanation]
) -> dict[UUID, dict[int, float]]:
    """How strongly the songs of the playlists predict those that were picked."""
    by_company = {place: one for place, one in explanations.items() if one.ordinals}
    ids = list({hit.song.song_id for place in by_company for hit in tasks[place].picks.songs})
    seeds = frozenset[int]().union(*(one.ordinals for one in by_company.values()))
    strengths = {}
    for start in range(0, len(ids), EXPLAINED_AT_ONCE):
        # Of a popular song's tens of thousands of strengths, those of the seeds alone are kept.
        found = await release.cooccurrence_weights(ids[start : start + EXPLAINED_AT_ONCE])
        for song_id, own in found.items():
            strengths[song_id] = {ordinal: own[ordinal] for ordinal in seeds & own.keys()}
        await turn()
    return strengths
