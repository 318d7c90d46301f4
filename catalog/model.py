"""What a release holds and how it is asked, the same for both homes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from uuid import UUID


_ID = re.compile(r"\d{8}T\d{9}-\w{1,8}", re.ASCII)


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


def is_release_id(text: str) -> bool:
    """Whether this can be the id of a release: of another, no file may be looked for."""
    return _ID.fullmatch(text) is not None


def song_ids(points: Collection[Point]) -> frozenset[UUID]:
    """The ids of these points' songs."""
    return frozenset(point.song.song_id for point in points)
