"""Resolve the seeds of a query to songs of the catalog."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

from catalog.model import Filter
from catalog.pauses import pause_between
from catalog.song import normalise, search_text, song_id_of_keys
from catalog.versions import base_title

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
    from uuid import UUID

    from catalog.model import Point, Song
    from catalog.store import OpenRelease

Key = TypeVar("Key")
Result = TypeVar("Result")

MAX_SAME_NAME = 100
"""Maximum number of search results to compare with the name of a seed."""

MAX_SEARCH_TEXT = 200
"""Number of characters of a name to search for. The results are compared with the full name."""

MAX_CONCURRENT_LOOKUPS = 16
"""Maximum number of searches for names that run at the same time."""


class Resolution(Enum):
    """The result of resolving a seed.

    - SONG: the catalog has the song.
    - ARTIST: the catalog does not have the song, but another seed or a recommended song has the
      same artist.
    - UNKNOWN: neither the song nor a song of its artist was found.
    """

    SONG = "song"
    ARTIST = "artist"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Seed:
    """A song of a query, named by id, by title and artist, or by both (the id takes precedence).

    A title without an artist names a song that has no artist, such as a product if the playlists
    are orders. A negative weight makes similar songs less likely.
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
    """The result of looking up a seed in the catalog.

    - `point`: the song with its dense vector, or None if the catalog does not have the song.
    - `artist_key`: the normalised artist that the query names; "" if the query names none.
    """

    resolution: Resolution
    point: Point | None
    weight: float
    artist_key: str = ""


async def resolve_seeds(release: OpenRelease, seeds: Sequence[Seed]) -> list[ResolvedSeed]:
    """Look up the seeds of one playlist in the catalog. The results have the same order."""
    (resolved,) = await resolve_playlists(release, [seeds])
    return resolved


async def resolve_playlists(
    release: OpenRelease, playlists: Sequence[Sequence[Seed]]
) -> list[list[ResolvedSeed]]:
    """Look up the seeds of several playlists in the catalog. Each distinct seed is looked up once.

    If the catalog does not have the song of a seed, the seed is `Resolution.UNKNOWN`.
    """
    songs = await _find_songs(release, {seed for seeds in playlists for seed in seeds})

    def resolve(seed: Seed) -> ResolvedSeed:
        song = songs[seed]
        resolution = Resolution.SONG if song else Resolution.UNKNOWN
        return ResolvedSeed(resolution, song, seed.weight, seed.artist_key)

    return [[resolve(seed) for seed in seeds] for seeds in playlists]


def find_artists(seeds: Sequence[ResolvedSeed], songs: Iterable[Song]) -> list[ResolvedSeed]:
    """Return the seeds, with `Resolution.ARTIST` for each unknown seed whose artist is known.

    The known artists are the artists of the known seeds and of `songs`.
    """
    known = {key for song in songs for key in song.artist_keys}
    known |= {key for seed in seeds if seed.point for key in seed.point.song.artist_keys}
    return [
        replace(seed, resolution=Resolution.ARTIST)
        if seed.point is None and seed.artist_key in known
        else seed
        for seed in seeds
    ]


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
        # The song may be a version, such as a remaster, that the catalog has under the plain title.
        base = base_title(seed.title_key)
        if base != seed.title_key:
            ids.append(song_id_of_keys(seed.artist_key, base))
    return ids


async def _look_up_each(
    keys: Collection[Key], look_up: Callable[[Key], Awaitable[Result]]
) -> dict[Key, Result]:
    """Return the result for each key, with at most `MAX_CONCURRENT_LOOKUPS` look-ups at a time."""
    pending, results = list(keys), dict[Key, Result]()
    async for start in pause_between(range(0, len(pending), MAX_CONCURRENT_LOOKUPS)):
        group = pending[start : start + MAX_CONCURRENT_LOOKUPS]
        results |= zip(group, await asyncio.gather(*map(look_up, group)), strict=True)
    return results


async def _find_by_name(release: OpenRelease, seed: Seed) -> Point | None:
    """Return the most popular song with exactly the artist and the title of a seed.

    If the seed names no artist, the song must have none. This search is needed for releases that
    identify songs by track ids instead of names.
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
