"""Data model of a release: songs, points, filters and searches, independent of the store."""

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
        """The first of `artist_keys`, or "" if there are none."""
        return self.artist_keys[0] if self.artist_keys else ""


@dataclass(frozen=True, slots=True)
class Hit:
    """A search result: a song and its score (see `Search`), with its dense vector if requested."""

    song: Song
    score: float
    vector: Vector | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class SimilarName:
    """A song whose name is similar to a requested name.

    - `playlists`: number of training playlists that contain the song.
    - `similarity`: similarity of the two names, from 0 to 1 (equal).
    """

    song_id: UUID
    artist: str
    title: str
    playlists: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Point:
    """A song with its dense vector, which has unit length and shape (dimensions,).

    `vector` is None if the song is in too few training playlists for Word2Vec.
    """

    song: Song
    vector: Vector | None


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on one extra payload field.

    The song's value of the field must meet each of these requirements that is set:

    - `any_of`: the value is in this list.
    - `none_of`: the value is not in this list.
    - `minimum`, `maximum`: the value is a number between these bounds, both included.
    - `text`: each word of this text is the beginning of a word in the value.

    `any_of` and `none_of` can contain only text and whole numbers. A song without the field meets
    no requirement except `none_of`.
    """

    field: str
    any_of: tuple[Value, ...] = ()
    none_of: tuple[Value, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """The songs that a search may return: those that meet all fields. Empty fields allow any song.

    Artists are given by their normalised names and compared with all credited artists of a song.
    `min_playlists` and `max_playlists` are bounds on `Song.playlists`, both included; 0 means no
    bound.
    """

    include_artists: frozenset[str] = field(default=frozenset())
    exclude_artists: frozenset[str] = field(default=frozenset())
    exclude_songs: frozenset[UUID] = field(default=frozenset())
    min_playlists: int = 0
    max_playlists: int = 0
    conditions: tuple[Condition, ...] = ()


ANY = Filter()  # every song passes


@dataclass(frozen=True, slots=True)
class Search:
    """A search by a dense vector, by co-occurrence, or by a fusion of the two.

    - With `vector` alone, shape (dimensions,), the search returns the most similar songs. The score
      is the cosine similarity, from -1 to 1. Songs without a vector are not returned.
    - With `weights` alone, the search returns songs that co-occur with the seeds or share a content
      key with them. `weights` maps the ordinals of the seeds and the indexes of their content keys
      (see `catalog.content`) to weights. The score is the sum of these weights, each multiplied by
      the song's own weight at the same index. Weights can be negative; songs whose score is not
      above 0 are not returned.
    - With both, the search fuses the best songs of the two rankings (see `schema.fusion_depths`).
      The score is the co-occurrence score plus `dense_weight` times the cosine similarity. If a
      song is missing from one of the rankings, that part of its score is 0.

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
    """Return a sort key: highest score first, and the most popular song first among equal scores.

    Qdrant returns songs with equal scores in an arbitrary order.
    """
    return -hit.score, hit.song.ordinal


def is_release_id(text: str) -> bool:
    """Return whether the text has the form of a release id, and so is safe in a path."""
    return _ID.fullmatch(text) is not None


def song_ids(points: Collection[Point]) -> frozenset[UUID]:
    """Return the song ids of the points."""
    return frozenset(point.song.song_id for point in points)
