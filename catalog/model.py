"""The model of a release: songs, points, filters and searches, the same for both stores."""

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
"""A value of an extra payload field."""


@dataclass(frozen=True, slots=True)
class Song:
    """One song of the catalog.

    - `artist`: the artist as credited; "" if the song has none.
    - `artist_keys`: the normalised names of all credited artists. The first one is part of the
      song's identity. Empty if the song has no artist.
    - `ordinal`: rank by popularity, from 0, unique in a release.
    - `playlists`: number of training playlists that contain the song.
    - `extra`: extra payload fields; fields without a value are left out.
    """

    song_id: UUID
    artist: str
    title: str
    artist_keys: tuple[str, ...]
    ordinal: int
    playlists: int
    extra: Mapping[str, Value] = field(default_factory=dict, hash=False)

    @property
    def artist_key(self) -> str:
        """The first of `artist_keys`, or ""."""
        return self.artist_keys[0] if self.artist_keys else ""


@dataclass(frozen=True, slots=True)
class Hit:
    """A search result: a song and its score (see `Search`), with its dense vector if requested."""

    song: Song
    score: float
    vector: Vector | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Point:
    """A song with its dense vector: unit length, shape (dimensions,), or None for a rare song."""

    song: Song
    vector: Vector | None


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on one extra payload field.

    A song must pass all parts that are set: its value is in `any_of`, is not in `none_of`, is a
    number from `minimum` to `maximum` (both included), or contains, for each prefix in `text`, a
    word with that prefix. `any_of` and `none_of` can contain only text and whole numbers. A song
    without the field passes only `none_of`.
    """

    field: str
    any_of: tuple[Value, ...] = ()
    none_of: tuple[Value, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """The songs that a search may return. A song must pass all parts; empty parts pass every song.

    Artists are normalised names, and all credited artists of a song are compared with them. If
    `max_playlists` is 0, there is no upper bound.
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
    """A search by a dense vector, by co-occurrence, or by both, fused.

    - With `vector` alone, shape (dimensions,), it returns the most similar songs. The score is the
      cosine similarity, from -1 to 1. Songs without a vector are not returned.
    - With `weights` alone, the weight of each seed by its ordinal and of each content key by its
      index (see `catalog.content`), it returns songs that co-occur with the seeds or share a key.
      The score is the sum of the weights, each times the song's own weight at the same index.
      Weights can be negative; songs whose score is not above 0 are not returned.
    - With both, it fuses the best songs of the two rankings (see `schema.fusion_depths`). The score
      is the co-occurrence score plus `dense_weight` times the cosine. A song that is missing in one
      of the rankings gets 0 from it.

    `exact` compares `vector` with every song instead of using the index. `with_vectors` adds the
    vectors to the hits.
    """

    vector: Vector | None = None
    weights: Mapping[int, float] = field(default_factory=dict)
    limit: int = 10
    where: Filter = ANY
    dense_weight: float = 1.0
    exact: bool = False
    with_vectors: bool = False


def by_score(hit: Hit) -> tuple[float, int]:
    """Return a sort key: the highest score first, and among equal scores the most popular song.

    Qdrant returns songs of equal score in an arbitrary order.
    """
    return -hit.score, hit.song.ordinal


def is_release_id(text: str) -> bool:
    """Return whether the text has the form of a release id, so that it is safe in a path."""
    return _ID.fullmatch(text) is not None


def song_ids(points: Collection[Point]) -> frozenset[UUID]:
    """Return the song ids of the points."""
    return frozenset(point.song.song_id for point in points)
