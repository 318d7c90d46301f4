"""Query playlist -> songs of the catalog: how each seed is understood, and one vector of all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from catalog.release import Filter, Point, Vector
from catalog.songs import normalise, search_text, song_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from catalog.release import OpenRelease

ARTIST_SONGS = 10
"""How many of an artist's songs, the best known, stand in for a song that is unknown."""

SAME_NAME_LIMIT = 100


class Resolution(Enum):
    """How a seed was understood."""

    SONG = "song"
    ARTIST = "artist"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Seed:
    """One song of a query playlist: by id, by artist and title, or both (the id goes first)."""

    song_id: UUID | None = None
    artist: str = ""
    title: str = ""
    weight: float = 1.0


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
    candidates = [_candidate_ids(seed) for seed in seeds]
    points = await release.points(list({one for ids in candidates for one in ids}))
    by_artist: dict[str, tuple[Point, ...]] = {}
    resolved = []
    for seed, ids in zip(seeds, candidates, strict=True):
        found = next((points[one] for one in ids if one in points), None)
        if found is None and release.manifest.origin.track_ids:
            found = await _by_name(release, seed)
        if found is not None:
            resolved.append(ResolvedSeed(Resolution.SONG, (found,), seed.weight))
            continue
        artist = normalise(seed.artist)
        if artist and artist not in by_artist:
            songs = await release.popular(ARTIST_SONGS, Filter(include_artists=frozenset([artist])))
            by_artist[artist] = tuple(songs)
        stand_ins = by_artist.get(artist, ())
        resolution = Resolution.ARTIST if stand_ins else Resolution.UNKNOWN
        resolved.append(ResolvedSeed(resolution, stand_ins, seed.weight))
    return resolved


def _candidate_ids(seed: Seed) -> list[UUID]:
    ids = [seed.song_id] if seed.song_id else []
    if seed.artist and seed.title:
        ids.append(song_id(seed.artist, seed.title))
    return ids


async def _by_name(release: OpenRelease, seed: Seed) -> Point | None:
    # Where songs are identified by track ids, the best known of those with this very name.
    artist, title = normalise(seed.artist), normalise(seed.title)
    if not (artist and title):
        return None
    where = Filter(include_artists=frozenset([artist]))
    for song in await release.search(search_text(artist, title), SAME_NAME_LIMIT, where):
        if normalise(song.title) == title:
            return (await release.points([song.song_id])).get(song.song_id)
    return None


def embed(seeds: Sequence[ResolvedSeed], decay: float) -> Vector | None:
    """One unit vector for the playlist: the mean of its seeds, recent ones counting more.

    A seed counts `weight * decay**age`, its age the number of seeds after it; an artist's songs
    share their seed's count. Where seeds cancel out, the most recent one speaks alone. Returns
    shape (dimensions,), or None when no seed has a point.
    """
    known = [(age, seed) for age, seed in enumerate(reversed(seeds)) if seed.points]
    if not known:
        return None
    youngest, last = known[0]
    # Only the ratios matter. Counted from the youngest, they never all vanish.
    counts = np.array([seed.weight * decay ** (age - youngest) for age, seed in known])
    means = [np.mean([point.vector for point in seed.points], axis=0) for _, seed in known]
    total = counts @ np.array(means, dtype=np.float64)
    norm = np.linalg.norm(total)
    if norm < 1e-6 * counts.sum():
        return last.points[0].vector
    unit: Vector = (total / norm).astype(np.float32)
    return unit
