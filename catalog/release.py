"""What a release holds and how it is asked, the same for both homes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from uuid import UUID

    from catalog.manifest import Manifest

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Song:
    """One song of the catalog.

    `ordinal` is its place by popularity, 0 the first, unique in a release; `playlists` the number
    of training playlists that hold it; `artist_key` the normalised artist.
    """

    song_id: UUID
    artist: str
    title: str
    artist_key: str
    ordinal: int
    playlists: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A song found, and its score: see the search that found it."""

    song: Song
    score: float


@dataclass(frozen=True, slots=True)
class Point:
    """A song with its vector: unit length, shape (dimensions,), or None where it is too rare."""

    song: Song
    vector: Vector | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which songs may be found; all conditions must hold, and an empty one always does.

    Artists are given by their normalised names. `max_playlists` 0 means no upper bound.
    """

    include_artists: frozenset[str] = field(default=frozenset())
    exclude_artists: frozenset[str] = field(default=frozenset())
    exclude_songs: frozenset[UUID] = field(default=frozenset())
    min_playlists: int = 0
    max_playlists: int = 0


ANY = Filter()


class OpenRelease(Protocol):
    """A release opened for reading.

    The methods are coroutines because one of the two homes is across a network. All of them raise
    `EngineError` when Qdrant fails.
    """

    @property
    def manifest(self) -> Manifest:
        """The account of the release."""

    async def points(self, song_ids: Sequence[UUID]) -> dict[UUID, Point]:
        """The songs of these ids with their vectors; unknown ids are left out."""

    async def nearest(self, vector: Vector, limit: int, where: Filter = ANY) -> list[Hit]:
        """At most `limit` songs, the most similar to `vector` (shape (dimensions,)) first.

        A hit's score is its cosine similarity, -1 to 1. Songs without a vector are not found.
        """

    async def predicted(
        self, weights: Mapping[int, float], limit: int, where: Filter = ANY
    ) -> list[Hit]:
        """At most `limit` songs that co-occur with seeds, the most strongly predicted first.

        `weights` maps the seeds' ordinals to what each counts; a hit's score is the sum, over the
        seeds, of weight times strength. Songs that no seed predicts are not found.
        """

    async def fused(
        self,
        vector: Vector,
        weights: Mapping[int, float],
        dense_weight: float,
        limit: int,
        where: Filter = ANY,
    ) -> list[Hit]:
        """At most `limit` songs from `predicted` and `nearest`, fused by reciprocal rank.

        A hit's score is 1 / (k + r) for its place r, from 0, among the predicted songs, plus
        1 / (k - 1 + (r + 1) / dense_weight) for its place among the nearest.
        """

    async def popular(self, limit: int, where: Filter = ANY) -> list[Point]:
        """At most `limit` songs, those in the most training playlists first."""

    async def search(self, text: str, limit: int, where: Filter = ANY) -> list[Song]:
        """At most `limit` songs with a word in artist or title for each beginning in `text`.

        Those in the most training playlists come first.
        """

    def close(self) -> None:
        """Let go of the engine; nothing may be asked afterwards."""


class Home(Protocol):
    """A place that keeps releases, of which at most one is current."""

    def current(self) -> str | None:
        """The id of the current release, or None if nothing has been published."""

    def open(self, release: str | None = None) -> OpenRelease:
        """Open a release, the current one if none is named, and verify it.

        Raises `NoReleaseError`, `CorruptReleaseError` or `EngineError`.
        """


def song_ids(points: Collection[Point]) -> frozenset[UUID]:
    """The ids of these points' songs."""
    return frozenset(point.song.song_id for point in points)
