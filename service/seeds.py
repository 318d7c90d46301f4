"""Query playlist -> songs of the catalog: how each seed is understood, and one vector of all."""

from __future__ import annotations

from dataclasses import dataclass, replace
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

SMALLEST_SHARE = 1e-30
"""Songs that count less than this, far below what float32 can add up, are left out."""


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
    shape (dimensions,), or None when no seed has a vector.
    """
    counts = _counts([_with_vectors(seed) for seed in seeds], decay)
    if not counts:
        return None
    means = [
        np.mean([point.vector for point in seed.points if point.vector is not None], axis=0)
        for _, seed in counts
    ]
    shares = np.array([count for count, _ in counts])
    total = shares @ np.array(means, dtype=np.float64)
    norm = np.linalg.norm(total)
    if norm < 1e-6 * shares.sum():
        return counts[0][1].points[0].vector
    unit: Vector = (total / norm).astype(np.float32)
    return unit


def weigh(seeds: Sequence[ResolvedSeed], decay: float) -> dict[int, float]:
    """What each song of the playlist counts in `OpenRelease.predicted`, by its ordinal.

    Seeds count as in `embed`, and a song that comes twice counts twice. Empty when no seed has a
    song.
    """
    weights: dict[int, float] = {}
    for count, seed in _counts(seeds, decay):
        for point in seed.points:
            share = count / len(seed.points)
            if share > SMALLEST_SHARE:
                weights[point.song.ordinal] = weights.get(point.song.ordinal, 0.0) + share
    return weights


def _with_vectors(seed: ResolvedSeed) -> ResolvedSeed:
    return replace(seed, points=tuple(p for p in seed.points if p.vector is not None))


def _counts(seeds: Sequence[ResolvedSeed], decay: float) -> list[tuple[float, ResolvedSeed]]:
    known = [(age, seed) for age, seed in enumerate(reversed(seeds)) if seed.points]
    # Only the ratios matter. Counted from the youngest, they never all vanish.
    return [(seed.weight * decay ** (age - known[0][0]), seed) for age, seed in known]
