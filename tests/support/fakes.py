"""Fake releases: an `OpenRelease` in memory, and a store of such releases."""

from __future__ import annotations

import hashlib
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.console.progress import SilentReporter
from catalog.content import compute_entries, content_index, list_content_keys
from catalog.draft import Draft
from catalog.manifest import FORMAT, Counts, Manifest, Origin
from catalog.model import ANY, Filter, Hit, Point, Search, Song
from catalog.song import normalise, search_text, song_id, song_id_of_track
from catalog.spelling import build_spelling_query, build_spelling_vector

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from uuid import UUID

    from catalog.embedded.store import EmbeddedStore
    from catalog.schema import Kind

PARAMETERS: dict[str, Any] = {
    "query_decay": 0.5,
    "cooccurrence_decay": 0.5,
    "dense_weight": 0.5,
    "cooccurrence_scale": 1.0,
    "epochs": 3,
    "skip_gram": True,
}


CONTENT_PARAMETERS: dict[str, Any] = {
    "recency": 1.0,
    "dense_recency": 1.0,
    "dense_weight": 0.5,
    "cooccurrence_scale": 2.0,
}
"""Parameters of a release with content entries, in addition to `content_shares`."""


def points_of(
    *rows: tuple[str, str, int, Sequence[float]], track_ids: Sequence[str] = ()
) -> list[Point]:
    """Return points for rows of (artist, title, playlists, vector).

    Ordinals follow the number of playlists. Vectors are scaled to unit length. If `track_ids` is
    given, with one id per row, songs are identified by track id.
    """
    order = sorted(range(len(rows)), key=lambda row: -rows[row][2])
    points = []
    for row, (artist, title, playlists, vector) in enumerate(rows):
        own_id = song_id_of_track(track_ids[row]) if track_ids else song_id(artist, title)
        keys = (normalise(artist),) if artist else ()
        song = Song(own_id, artist, title, keys, order.index(row), playlists)
        unit = np.asarray(vector, np.float32) / np.float32(np.linalg.norm(vector))
        points.append(Point(song, unit))
    return points


def content_entries(
    points: Sequence[Point], fields: Collection[str], scale: float
) -> dict[int, dict[int, float]]:
    """Return the content entries of songs: values by key index, and then by song ordinal."""
    songs_of: dict[int, list[int]] = defaultdict(list)
    for point in points:
        for field in fields:
            for key in list_content_keys(point.song, field):
                songs_of[content_index(field, key)].append(point.song.ordinal)
    entries = {}
    for index, ordinals in songs_of.items():
        counts = np.full(len(ordinals), len(ordinals))
        values = compute_entries(scale, counts, np.array(ordinals), len(points))
        entries[index] = dict(zip(ordinals, map(float, values), strict=True))
    return entries


def with_content(
    strengths: Mapping[int, Mapping[int, float]] | None,
    points: Sequence[Point],
    shares: Mapping[str, float] | None,
) -> Mapping[int, Mapping[int, float]]:
    if shares is None:
        return strengths or {}
    scale = CONTENT_PARAMETERS["cooccurrence_scale"]
    return {**(strengths or {}), **content_entries(points, shares, scale)}


def origin_of(
    name: str,
    *,
    decay: float = 0.5,
    track_ids: bool = False,
    shares: Mapping[str, float] | None = None,
) -> Origin:
    parameters = PARAMETERS | {"query_decay": decay, "cooccurrence_decay": decay}
    if shares is not None:
        parameters = CONTENT_PARAMETERS | {"content_shares": dict(shares)}
    return Origin(
        data_fingerprint=f"data of {name}",
        split_fingerprint=f"split of {name}",
        content_fingerprint=hashlib.sha256(name.encode()).hexdigest(),
        code_version="1.2.3",
        parameters=parameters,
        sources=["by-hand.csv"],
        track_ids=track_ids,
    )


def counts_of(points: Sequence[Point], training_playlists: int) -> Counts:
    return Counts(
        songs=len(points),
        vectors=sum(point.vector is not None for point in points),
        predicted=0,
        artists=len({key for point in points for key in point.song.artist_keys}),
        training_playlists=training_playlists,
        training_plays=sum(point.song.playlists for point in points),
    )


def dimensions_of(points: Sequence[Point]) -> int:
    return next(len(point.vector) for point in points if point.vector is not None)


def passes(song: Song, where: Filter) -> bool:
    """Return whether a song passes a filter, as `catalog.model.Filter` documents it."""
    return (
        (not where.include_artists or not where.include_artists.isdisjoint(song.artist_keys))
        and where.exclude_artists.isdisjoint(song.artist_keys)
        and song.song_id not in where.exclude_songs
        and song.playlists >= where.min_playlists
        and (where.max_playlists == 0 or song.playlists <= where.max_playlists)
    )


class FakeRelease:
    """A release in memory with exact search.

    - `call_counts`: number of calls to each method.
    - `deadline`: the last deadline that was set.
    - `strengths`: co-occurrence weights, by ordinal of the seed and by ordinal of the song.
    - `shares`: content shares. If given, the release has content entries, and seed weights are
      powers of the age. Otherwise, seed weights decay exponentially, as in releases of format 2.
    """

    def __init__(
        self,
        points: Sequence[Point],
        *,
        name: str = "fake",
        decay: float = 0.5,
        track_ids: bool = False,
        training_playlists: int = 100,
        strengths: Mapping[int, Mapping[int, float]] | None = None,
        shares: Mapping[str, float] | None = None,
    ) -> None:
        self.predictions = with_content(strengths, points, shares)
        self.by_popularity = sorted(points, key=lambda point: point.song.ordinal)
        self.call_counts: dict[str, int] = {}
        self.closed = False
        self.deadline: float | None = None
        self.manifest = Manifest(
            format=FORMAT,
            release=name,
            created="2026-11-23T12:00:00+00:00",
            dimensions=dimensions_of(points),
            counts=counts_of(points, training_playlists),
            origin=origin_of(name, decay=decay, track_ids=track_ids, shares=shares),
            files={},
            canaries=[],
            payload={},
        )

    def with_deadline(self, deadline: float | None) -> FakeRelease:
        self.deadline = deadline
        return self

    async def points(self, song_ids: Sequence[UUID]) -> dict[UUID, Point]:
        self._count("points")
        wanted = set(song_ids)
        return {
            point.song.song_id: point
            for point in self.by_popularity
            if point.song.song_id in wanted
        }

    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        self._count("find")
        return [self._found(search)[: search.limit] for search in searches]

    async def cooccurrence_weights(self, song_ids: Sequence[UUID]) -> dict[UUID, dict[int, float]]:
        self._count("strengths")
        return {
            song_id: {
                seed: songs[point.song.ordinal]
                for seed, songs in self.predictions.items()
                if point.song.ordinal in songs
            }
            for song_id, point in (await self.points(song_ids)).items()
        }

    async def cooccurrence_scores(
        self, pairs: Sequence[tuple[Mapping[int, float], Sequence[Song]]]
    ) -> list[dict[UUID, float]]:
        self._count("scores")
        hits = [(self._predicted(Search(weights=weights)), songs) for weights, songs in pairs]
        return [
            {hit.song.song_id: hit.score for hit in own if hit.song in songs} for own, songs in hits
        ]

    def _found(self, search: Search) -> list[Hit]:
        predicted = self._predicted(search) if search.weights else []
        nearest = [] if search.vector is None else self._nearest(search)
        if search.vector is None or not search.weights:
            return predicted or nearest
        songs: dict[UUID, Hit] = {}
        scores: dict[UUID, float] = defaultdict(float)
        for hits, weight in ((predicted, 1.0), (nearest, search.dense_weight)):
            for hit in hits:
                songs[hit.song.song_id] = hit
                scores[hit.song.song_id] += weight * hit.score
        fused = [replace(hit, score=scores[song_id]) for song_id, hit in songs.items()]
        return sorted(fused, key=lambda hit: -hit.score)

    def _nearest(self, search: Search) -> list[Hit]:
        hits = [
            self._hit(point, float(point.vector @ search.vector), search)
            for point in self.by_popularity
            if point.vector is not None and passes(point.song, search.where)
        ]
        return sorted(hits, key=lambda hit: -hit.score)

    def _predicted(self, search: Search) -> list[Hit]:
        scores: dict[int, float] = defaultdict(float)
        for seed, weight in search.weights.items():
            for song, strength in self.predictions.get(seed, {}).items():
                scores[song] += weight * strength
        hits = [
            self._hit(point, scores[point.song.ordinal], search)
            for point in self.by_popularity
            if scores.get(point.song.ordinal, 0.0) > 0 and passes(point.song, search.where)
        ]
        return sorted(hits, key=lambda hit: -hit.score)

    def _hit(self, point: Point, score: float, search: Search) -> Hit:
        return Hit(point.song, score, point.vector if search.with_vectors else None)

    async def popular(self, limit: int, where: Filter = ANY) -> list[Point]:
        self._count("popular")
        return [point for point in self.by_popularity if passes(point.song, where)][:limit]

    async def search(self, text: str, limit: int, where: Filter = ANY) -> list[Song]:
        self._count("search")
        beginnings = normalise(text).split()
        return [
            point.song
            for point in self.by_popularity
            if passes(point.song, where)
            and all(
                any(word.startswith(beginning) for word in _words(point.song))
                for beginning in beginnings
            )
        ][:limit]

    async def search_spelling(self, text: str, limit: int, where: Filter = ANY) -> list[Song]:
        self._count("search_spelling")
        wanted = build_spelling_query(text)
        if not self.manifest.has_spelling:
            return []
        scores = {
            point.song: len(
                wanted.keys()
                & build_spelling_vector(
                    search_text(point.song.artist_keys, normalise(point.song.title)), 0
                ).keys()
            )
            for point in self.by_popularity
            if passes(point.song, where)
        }
        ranked = sorted(scores, key=lambda song: -scores[song])
        return [song for song in ranked if scores[song]][:limit]

    def close(self) -> None:
        self.closed = True

    def _count(self, method: str) -> None:
        assert not self.closed
        self.call_counts[method] = self.call_counts.get(method, 0) + 1


class FakeStore:
    """A store of fake releases. Instead of a release, `put` can store an error for `open` to raise.

    The release or error that was `put` last is current.
    """

    def __init__(self, release: FakeRelease) -> None:
        self._contents: dict[str, FakeRelease | Exception] = {}
        self._current = ""
        self.opened: list[str] = []
        self.put(release.manifest.release, release)

    def put(self, name: str, content: FakeRelease | Exception) -> None:
        self._contents[name] = content
        self._current = name

    def count_popular_queries(self, name: str) -> int:
        """Return how often the popular songs of a release were queried."""
        content = self._contents[name]
        return content.call_counts.get("popular", 0) if isinstance(content, FakeRelease) else 0

    def forget(self, name: str) -> None:
        del self._contents[name]

    def current(self) -> str | None:
        return self._current

    def open(self, release: str | None = None) -> FakeRelease:
        name = release or self._current
        self.opened.append(name)
        content = self._contents[name]
        if isinstance(content, Exception):
            raise content
        content.closed = False
        return content


def publish(
    home: EmbeddedStore,
    points: Sequence[Point],
    *,
    name: str = "fake",
    track_ids: bool = False,
    training_playlists: int = 1_000,
    strengths: Mapping[int, Mapping[int, float]] | None = None,
    payload: Mapping[str, Kind] | None = None,
    shares: Mapping[str, float] | None = None,
) -> Manifest:
    """Publish points as a release. For `strengths` and `shares`, see `FakeRelease`."""
    predictions = with_content(strengths, points, shares)
    rows = []
    for point in points:
        ordinal = point.song.ordinal
        seeds = {
            seed: float(songs[ordinal]) for seed, songs in predictions.items() if ordinal in songs
        }
        rows.append(
            {
                name: getattr(point.song, name)
                for name in ("artist", "title", "ordinal", "playlists")
            }
            | dict(point.song.extra)
            | {
                "song_id": str(point.song.song_id),
                "artist_key": list(point.song.artist_keys),
                "search_text": search_text(point.song.artist_keys, normalise(point.song.title)),
                "vector": None if point.vector is None else point.vector.tolist(),
                "seeds": list(seeds) or None,
                "strengths": list(seeds.values()) or None,
            }
        )
    with tempfile.TemporaryDirectory() as folder:
        songs_path = Path(folder) / "songs.parquet"
        pq.write_table(pa.Table.from_pylist(rows), songs_path)
        draft = Draft(
            songs_path,
            dimensions_of(points),
            counts_of(points, training_playlists),
            origin_of(name, track_ids=track_ids, shares=shares),
            dict(payload or {}),
        )
        return home.publish(draft, SilentReporter())


def _words(song: Song) -> list[str]:
    return search_text(song.artist_keys, normalise(song.title)).split()
