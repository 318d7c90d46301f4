"""Query playlist -> songs of the catalog: how each seed is understood, and one vector of all."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from catalog.model import Filter, Point, Vector
from catalog.song import normalise, search_text, song_id_of_keys
from catalog.turns import turn
from catalog.versions import base_title

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from uuid import UUID

    from catalog.store import OpenRelease

Key = TypeVar("Key")
Found = TypeVar("Found")

ARTIST_SONGS = 10
"""How many of an artist's songs, the best known, stand in for a song that is unknown."""

SAME_NAME_LIMIT = 100

LONGEST_SEARCH = 200
"""Characters of a name that are searched for: all of it is compared with the songs found."""

AT_ONCE = 16
"""So many questions about single artists or names are put to the engine side by side."""

SMALLEST_SHARE = 1e-30
"""Songs that count less than this, far below what float32 can add up, are left out."""


class Resolution(Enum):
    """How a seed was understood."""

    SONG = "song"
    ARTIST = "artist"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Seed:
    """One song of a query playlist: by id, by artist and title, or both (the id goes first).

    A seed with a negative weight pushes away songs that are like it.
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
    """A seed as it was understood.

    `points` is the song itself; or the best-known songs of its artist; or empty.
    """

    resolution: Resolution
    points: tuple[Point, ...]
    weight: float


async def resolve(release: OpenRelease, seeds: Sequence[Seed]) -> list[ResolvedSeed]:
    """Find each seed in the catalog: one answer for each, in the same order."""
    (resolved,) = await resolve_many(release, [seeds])
    return resolved


async def resolve_many(
    release: OpenRelease, playlists: Sequence[Sequence[Seed]]
) -> list[list[ResolvedSeed]]:
    """Find the seeds of several playlists, all asked for in one go."""
    ids: dict[Seed, list[UUID]] = {}
    for seeds in playlists:
        for seed in seeds:
            ids[seed] = _candidate_ids(seed)
            await turn()
    points = await release.points(list({one for some in ids.values() for one in some}))
    found = {seed: next((points[one] for one in ids[seed] if one in points), None) for seed in ids}
    missing = [seed for seed in found if found[seed] is None]
    if release.manifest.origin.track_ids:
        found |= await _each(missing, partial(_by_name, release))
    artists = {seed.artist_key for seed in missing if found[seed] is None} - {""}
    stand_ins = await _each(artists, partial(_best_known, release))

    def resolved(seed: Seed) -> ResolvedSeed:
        point = found[seed]
        if point is not None:
            return ResolvedSeed(Resolution.SONG, (point,), seed.weight)
        songs = stand_ins.get(seed.artist_key, ())
        resolution = Resolution.ARTIST if songs else Resolution.UNKNOWN
        return ResolvedSeed(resolution, songs, seed.weight)

    return [[resolved(seed) for seed in seeds] for seeds in playlists]


async def _each(
    asked: Iterable[Key], answer: Callable[[Key], Awaitable[Found]]
) -> dict[Key, Found]:
    """What `answer` says to each, a few at once: a server takes no thousands of questions."""
    waiting, found = list(asked), dict[Key, Found]()
    for start in range(0, len(waiting), AT_ONCE):
        some = waiting[start : start + AT_ONCE]
        answers = await asyncio.gather(*(answer(one) for one in some))
        found |= zip(some, answers, strict=True)
        await turn()
    return found


async def _best_known(release: OpenRelease, artist: str) -> tuple[Point, ...]:
    where = Filter(include_artists=frozenset([artist]))
    return tuple(await release.popular(ARTIST_SONGS, where))


def _candidate_ids(seed: Seed) -> list[UUID]:
    ids = [seed.song_id] if seed.song_id else []
    if seed.artist and seed.title:
        ids.append(song_id_of_keys(seed.artist_key, seed.title_key))
        # A version of a song that the catalog has under its plain title alone.
        base = base_title(seed.title_key)
        if base != seed.title_key:
            ids.append(song_id_of_keys(seed.artist_key, base))
    return ids


async def _by_name(release: OpenRelease, seed: Seed) -> Point | None:
    # Where songs are identified by track ids, the best known of those with this very name.
    artist, title = seed.artist_key, seed.title_key
    if not (artist and title):
        return None
    where = Filter(include_artists=frozenset([artist]))
    words = search_text(artist, title)[:LONGEST_SEARCH]
    for song in await release.search(words, SAME_NAME_LIMIT, where):
        if normalise(song.title) == title:
            return (await release.points([song.song_id])).get(song.song_id)
    return None


def embed(seeds: Sequence[ResolvedSeed], decay: float) -> Vector | None:
    """One unit vector for the playlist: the mean of its seeds, recent ones counting more.

    A seed counts what `counts_of` says; an artist's songs share their seed's count. Where seeds
    cancel out, the most recent one speaks alone. Returns shape (dimensions,), or None when no seed
    that is not negative has a vector.
    """
    counts = counts_of([with_vectors(seed) for seed in seeds], decay)
    if not counts:
        return None
    shares = np.array([count for count, _ in counts])
    total = shares @ np.array([mean_of(seeds[place]) for _, place in counts], dtype=np.float64)
    norm = np.linalg.norm(total)
    if norm < 1e-6 * np.abs(shares).sum():
        return with_vectors(seeds[counts[0][1]]).points[0].vector
    unit: Vector = (total / norm).astype(np.float32)
    return unit


def weigh(seeds: Sequence[ResolvedSeed], decay: float) -> dict[int, float]:
    """What each song of the playlist counts in `Search.weights`, by its ordinal.

    Seeds count as in `embed`, and a song that comes twice counts twice. Empty when no seed that is
    not negative has a song.
    """
    weights: dict[int, float] = {}
    for count, place in counts_of(seeds, decay):
        points = seeds[place].points
        share = count / len(points)
        if abs(share) > SMALLEST_SHARE:
            for point in points:
                weights[point.song.ordinal] = weights.get(point.song.ordinal, 0.0) + share
    return {ordinal: weight for ordinal, weight in weights.items() if weight}


def counts_of(seeds: Sequence[ResolvedSeed], decay: float) -> list[tuple[float, int]]:
    """What each seed that has songs counts, and its place: the youngest first, then negative ones.

    A seed counts `weight * decay**age`, its age the number of seeds after it. Negative ones are
    none of the songs that were played: they count their weight wherever they stand, and age nobody.
    Nothing counts where no other seed has songs.
    """
    played = [place for place, seed in enumerate(seeds) if seed.weight > 0][::-1]
    known = [(age, place) for age, place in enumerate(played) if seeds[place].points]
    # Only the ratios matter. Counted from the youngest, they never all vanish.
    counts = [(seeds[place].weight * decay ** (age - known[0][0]), place) for age, place in known]
    away = [(s.weight, place) for place, s in enumerate(seeds) if s.weight < 0 and s.points]
    return counts + away if counts else []


def with_vectors(seed: ResolvedSeed) -> ResolvedSeed:
    """The seed with only those of its songs that have a vector."""
    return replace(seed, points=tuple(p for p in seed.points if p.vector is not None))


def mean_of(seed: ResolvedSeed) -> Vector:
    """The mean vector of a seed's songs, of which at least one must have a vector."""
    if len(seed.points) == 1 and seed.points[0].vector is not None:
        return seed.points[0].vector
    mean: Vector = np.mean([p.vector for p in seed.points if p.vector is not None], axis=0)
    return mean
