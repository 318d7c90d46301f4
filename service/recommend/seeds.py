"""Resolve the seeds of a query to songs of the catalog."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

from catalog.model import Filter, Point
from catalog.pauses import pause_between
from catalog.song import normalise, search_text, song_id_of_keys
from catalog.versions import base_title

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from uuid import UUID

    from catalog.store import OpenRelease

Key = TypeVar("Key")
Result = TypeVar("Result")

SONGS_PER_ARTIST = 10
"""Number of an artist's most popular songs that replace an unknown song."""

MAX_SAME_NAME = 100
"""Maximum number of search results to compare with the name of a seed."""

MAX_SEARCH_TEXT = 200
"""Number of characters of a name to search for. The whole name is compared with the results."""

MAX_CONCURRENT_LOOKUPS = 16
"""Maximum number of queries for single artists or names that run at the same time."""


class Resolution(Enum):
    """The result of resolving a seed: its song, songs of its artist, or nothing."""

    SONG = "song"
    ARTIST = "artist"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Seed:
    """A song of a query, named by id, by title and artist, or by both (the id takes precedence).

    A title without an artist names a song that has none, such as an item of an order. A negative
    weight makes similar songs less likely.
    """

    song_id: UUID | None = None
    artist: str = ""
    title: str = ""
    weight: float = 1.0

    @cached_property
    def artist_key(self) -> str:
        """The normalised artist."""
        return normalise(self.artist)

    @cached_property
    def title_key(self) -> str:
        """The normalised title."""
        return normalise(self.title)


@dataclass(frozen=True, slots=True)
class ResolvedSeed:
    """A resolved seed.

    - `points`: depending on `resolution`, the song itself, the most popular songs of its artist, or
      nothing.
    """

    resolution: Resolution
    points: tuple[Point, ...]
    weight: float


async def resolve_seeds(release: OpenRelease, seeds: Sequence[Seed]) -> list[ResolvedSeed]:
    """Resolve the seeds of one playlist, in the same order."""
    (resolved,) = await resolve_playlists(release, [seeds])
    return resolved


async def resolve_playlists(
    release: OpenRelease, playlists: Sequence[Sequence[Seed]]
) -> list[list[ResolvedSeed]]:
    """Resolve the seeds of several playlists. Each distinct seed and artist is looked up once."""
    songs = await _find_songs(release, {seed for seeds in playlists for seed in seeds})
    artists = {seed.artist_key for seed, song in songs.items() if song is None} - {""}
    artist_songs = await _look_up_each(artists, partial(_find_popular_songs, release))

    def resolve(seed: Seed) -> ResolvedSeed:
        song = songs[seed]
        if song is not None:
            return ResolvedSeed(Resolution.SONG, (song,), seed.weight)
        points = artist_songs.get(seed.artist_key, ())
        resolution = Resolution.ARTIST if points else Resolution.UNKNOWN
        return ResolvedSeed(resolution, points, seed.weight)

    return [[resolve(seed) for seed in seeds] for seeds in playlists]


async def _find_songs(release: OpenRelease, seeds: Collection[Seed]) -> dict[Seed, Point | None]:
    """Return the song of each seed, or None if the catalog does not have the song."""
    ids = {seed: _list_possible_ids(seed) async for seed in pause_between(seeds)}
    points = await release.points(
        list({song_id for seed_ids in ids.values() for song_id in seed_ids})
    )
    songs = {
        seed: next((points[song_id] for song_id in seed_ids if song_id in points), None)
        for seed, seed_ids in ids.items()
    }
    if release.manifest.origin.track_ids:
        missing = [seed for seed, song in songs.items() if song is None]
        songs |= await _look_up_each(missing, partial(_find_by_name, release))
    return songs


def _list_possible_ids(seed: Seed) -> list[UUID]:
    """Return the ids that the song may have in the catalog, in order of precedence."""
    ids = [seed.song_id] if seed.song_id else []
    if not seed.title_key:
        return ids
    ids.append(song_id_of_keys(seed.artist_key, seed.title_key))
    if seed.artist_key:
        # The song may be a version, such as a remaster, that the catalog lists by its plain title.
        base = base_title(seed.title_key)
        if base != seed.title_key:
            ids.append(song_id_of_keys(seed.artist_key, base))
    return ids


async def _look_up_each(
    keys: Collection[Key], look_up: Callable[[Key], Awaitable[Result]]
) -> dict[Key, Result]:
    """Return the result for each key, with at most `MAX_CONCURRENT_LOOKUPS` at the same time."""
    pending, results = list(keys), dict[Key, Result]()
    async for start in pause_between(range(0, len(pending), MAX_CONCURRENT_LOOKUPS)):
        group = pending[start : start + MAX_CONCURRENT_LOOKUPS]
        results |= zip(group, await asyncio.gather(*map(look_up, group)), strict=True)
    return results


async def _find_popular_songs(release: OpenRelease, artist_key: str) -> tuple[Point, ...]:
    where = Filter(include_artists=frozenset([artist_key]))
    return tuple(await release.popular(SONGS_PER_ARTIST, where))


async def _find_by_name(release: OpenRelease, seed: Seed) -> Point | None:
    """Return the most popular song with exactly this artist and title, or without an artist.

    This is needed for releases that identify songs by track ids instead of names.
    """
    artist, title = seed.artist_key, seed.title_key
    if not title:
        return None
    artists = [artist] if artist else []
    where = Filter(include_artists=frozenset(artists))
    words = search_text(artists, title)[:MAX_SEARCH_TEXT]
    for song in await release.search(words, MAX_SAME_NAME, where):
        if normalise(song.title) == title and (artist or not song.artist_key):
            return (await release.points([song.song_id])).get(song.song_id)
    return None
