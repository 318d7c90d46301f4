"""What a release holds and how it is asked, the same for both homes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path
    from uuid import UUID

    from catalog.draft import Draft
    from catalog.manifest import Manifest
    from catalog.reporting import Reporter

_ID = re.compile(r"\d{8}T\d{9}-\w{1,8}", re.ASCII)

KEPT = 2
"""How many old releases stay beside the current one."""

Vector = NDArray[np.float32]


Value = str | int | float
"""What an extra payload field may hold."""


@dataclass(frozen=True, slots=True)
class Song:
    """One song of the catalog.

    `ordinal` is its place by popularity, 0 the first, unique in a release; `playlists` the number
    of training playlists that hold it; `artist_key` the normalised artist; `extra` its extra
    payload fields, those without a value left out.
    """

    song_id: UUID
    artist: str
    title: str
    artist_key: str
    ordinal: int
    playlists: int
    extra: Mapping[str, Value] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Hit:
    """A song found, and its score: see `Search`. `vector` is there if it was asked for."""

    song: Song
    score: float
    vector: Vector | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Point:
    """A song with its vector: unit length, shape (dimensions,), or None where it is too rare."""

    song: Song
    vector: Vector | None


@dataclass(frozen=True, slots=True)
class Condition:
    """What an extra payload field must hold; but for `none_of`, a song without the field fails.

    All that is given must hold: one of `any_of`, none of `none_of`, a number from `minimum` to
    `maximum`, both included, and a word for each beginning in `text`; text and whole numbers alone
    can be in `any_of` and `none_of`.
    """

    field: str
    any_of: tuple[Value, ...] = ()
    none_of: tuple[Value, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    text: str = ""


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
    conditions: tuple[Condition, ...] = ()


ANY = Filter()


@dataclass(frozen=True, slots=True)
class Search:
    """A ranking that is asked for: by a vector, by co-occurring seeds, or by both, fused.

    - `vector` alone, shape (dimensions,): the most similar songs; a score is the cosine
      similarity, -1 to 1. Songs without a vector are not found.
    - `weights` alone, what each seed counts by its ordinal: the songs that co-occur with the seeds;
      a score is the sum, over the seeds, of weight times strength. Weights may be negative; songs
      whose score is not above 0 are not found.
    - both: the first songs of the two rankings (see `schema.fused_depths`), fused. A score is the
      song's score by co-occurrence divided by the best one, so that it is from 0 to 1, plus
      `dense_weight` times the cosine; what a song lacks in one ranking counts 0.

    `exact` compares `vector` with every song instead of going through the index; `with_vectors`
    gives hits their vectors.
    """

    vector: Vector | None = None
    weights: Mapping[int, float] = field(default_factory=dict)
    limit: int = 10
    where: Filter = ANY
    dense_weight: float = 1.0
    exact: bool = False
    with_vectors: bool = False


def by_score(hit: Hit) -> tuple[float, int]:
    """A sort key: the highest score first, and of equal ones the best-known song.

    The engine gives songs of equal scores in any order, another one each time.
    """
    return -hit.score, hit.song.ordinal


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

    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        """The songs that each search finds, best first, all asked in one go."""

    async def strengths(self, song_ids: Sequence[UUID]) -> dict[UUID, dict[int, float]]:
        """How strongly each seed, by its ordinal, predicts these songs; unknown ids left out."""

    async def similarities(
        self, asked: Sequence[tuple[Vector, Sequence[UUID]]]
    ) -> list[dict[UUID, float]]:
        """The cosines of a vector with these songs, -1 to 1, for each that is asked about.

        Songs without a vector, and unknown ids, are left out.
        """

    async def popular(self, limit: int, where: Filter = ANY) -> list[Point]:
        """At most `limit` songs, those in the most training playlists first."""

    async def search(self, text: str, limit: int, where: Filter = ANY) -> list[Song]:
        """At most `limit` songs with a word in artist or title for each beginning in `text`.

        Those in the most training playlists come first.
        """

    def close(self) -> None:
        """Let go of the engine; nothing may be asked afterwards."""


Gate = Callable[[OpenRelease], None]
"""Looks at a new release before it becomes current; raises `GateError` where it must not."""


class Home(Protocol):
    """A place that keeps releases, of which at most one is current.

    All methods wait for disk or network: a program that serves calls them in a thread. A server
    that cannot be reached raises `UnavailableError`.
    """

    @property
    def place(self) -> str:
        """Where it is, for people."""

    def current(self) -> str | None:
        """The id of the current release, or None if nothing has been published."""

    def releases(self) -> list[str]:
        """The ids of all finished releases, the oldest first."""

    def manifest(self, release: str) -> Manifest:
        """The account of a release. Raises `NoReleaseError` or `CorruptReleaseError`."""

    def open(self, release: str | None = None) -> OpenRelease:
        """Open a release, the current one if none is named, and verify it.

        Raises `NoReleaseError`, `CorruptReleaseError` or `EngineError`.
        """

    def publish(self, draft: Draft, reporter: Reporter, gate: Gate | None = None) -> Manifest:
        """Make a release of the draft, verify it and make it the current one.

        `gate` is given the new release before it becomes current, and raises `GateError` where it
        must not. Whatever goes wrong, the current release stays as it was. Raises `BusyError`,
        `StorageError`, `EngineError` or `CorruptReleaseError`.
        """

    def rollback(self, release: str | None = None) -> str:
        """Make an older release current, the one before the current if none is named.

        It is verified first. Returns its id. Raises `NoReleaseError` where there is none.
        """

    def prune(self, keep: int) -> list[str]:
        """Remove all releases but the current one and the `keep` newest others; returns them."""

    def remove(self, release: str) -> None:
        """Remove a release that is not current. Raises `NoReleaseError` or `InputError`."""

    def verify(self, release: str, reporter: Reporter) -> Manifest:
        """Read all of a release; raises `CorruptReleaseError` saying what is not as published."""

    def batches(self, release: OpenRelease) -> Iterator[list[dict[str, Any]]]:
        """All songs of a release that was opened here, as a draft has them, some at a time."""

    def export(self, release: str, path: Path, reporter: Reporter) -> Draft:
        """Write all songs of a release to the Parquet file `path`: a draft to publish elsewhere."""

    def close(self) -> None:
        """Let go of connections."""


def is_release_id(text: str) -> bool:
    """Whether this can be the id of a release: of another, no file may be looked for."""
    return _ID.fullmatch(text) is not None


def song_ids(points: Collection[Point]) -> frozenset[UUID]:
    """The ids of these points' songs."""
    return frozenset(point.song.song_id for point in points)
