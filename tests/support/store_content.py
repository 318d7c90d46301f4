"""Content for tests of stores: synthetic songs with extra fields, dense and sparse vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.content import ARTIST, content_index
from catalog.draft import Draft
from catalog.manifest import Counts
from catalog.song import normalise, search_text
from tests.support.embedded_releases import ORIGIN, make_songs, vectors_of

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.model import Hit, Song, Vector

SONGS, DIMENSIONS = 500, 12
KINDS: Any = {"genre": "keyword", "year": "integer", "tempo": "float", "notes": "text"}
GENRES = ["rock", "pop", "jazz"]


def songs() -> list[Song]:
    """Return synthetic songs. Some have two artists, and some have none."""
    return [
        replace(song, extra=extra_of(song.ordinal), **artists_of(song))
        for song in make_songs(SONGS)
    ]


def artists_of(song: Song) -> dict[str, Any]:
    if song.ordinal % 50 == 49:
        return {"artist": "", "artist_keys": ()}
    if song.ordinal % 10 == 9:
        guest = f"Guest {song.ordinal // 10 % 3}"
        keys = (song.artist_key, normalise(guest))
        return {"artist": f"{song.artist} & {guest}", "artist_keys": keys}
    return {}


def extra_of(place: int) -> dict[str, Any]:
    if place % 7 == 6:
        return {}
    return {
        "genre": GENRES[place % 3],
        "year": 1950 + place % 70,
        "tempo": 60 + place / 8,
        "notes": f"take {place % 5} très live",
    }


@dataclass(frozen=True)
class Content:
    """Songs, dense vectors (missing for every ninth song), co-occurrence weights, and a draft."""

    songs: list[Song]
    vectors: list[Vector | None]
    strengths: list[dict[int, float]]
    draft: Draft


def made(folder: Path, seed: int) -> Content:
    chance = np.random.default_rng(seed)
    all_vectors = vectors_of(SONGS, DIMENSIONS, seed)
    vectors = [None if place % 9 == 8 else all_vectors[place] for place in range(SONGS)]
    strengths = []
    for place in range(SONGS):
        seeds = sorted(chance.choice(SONGS, size=0 if place % 11 == 10 else 30, replace=False))
        values = chance.random(len(seeds)).astype(np.float32)
        strengths.append(dict(zip(map(int, seeds), map(float, values), strict=True)))
    for song, entries in zip(songs(), strengths, strict=True):
        entries |= {content_index(ARTIST, key): 0.5 for key in song.artist_keys if entries}
    rows = [
        {
            "song_id": str(song.song_id),
            "artist": song.artist,
            "title": song.title,
            "artist_key": list(song.artist_keys),
            "ordinal": song.ordinal,
            "playlists": song.playlists,
            "search_text": search_text(song.artist_keys, normalise(song.title)),
            "vector": None if vector is None else vector.tolist(),
            "seeds": list(predicted) or None,
            "strengths": list(predicted.values()) or None,
            **{name: song.extra.get(name) for name in KINDS},
        }
        for song, vector, predicted in zip(songs(), vectors, strengths, strict=True)
    ]
    columns = {"ordinal": pa.uint32(), "playlists": pa.int32(), "vector": pa.list_(pa.float32())}
    columns |= {"seeds": pa.list_(pa.uint32()), "strengths": pa.list_(pa.float32())}
    inferred = pa.Table.from_pylist(rows)
    schema = pa.schema(
        [pa.field(field.name, columns.get(field.name, field.type)) for field in inferred.schema]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "songs.parquet")
    counts = Counts(
        SONGS,
        sum(vector is not None for vector in vectors),
        sum(bool(predicted) for predicted in strengths),
        len({key for song in songs() for key in song.artist_keys}),
        10,
        100,
    )
    origin = replace(ORIGIN, content_fingerprint=f"{seed:064x}")
    draft = Draft(folder / "songs.parquet", DIMENSIONS, counts, origin, KINDS)
    return Content(songs(), vectors, strengths, draft)


VECTOR = vectors_of(1, DIMENSIONS, seed=99)[0]


WEIGHTS = {3: 1.0, 17: 0.5, 111: 0.25, 400: 2.0}


def assert_same(found: list[Hit], expected: list[Hit]) -> None:
    """Assert that songs and scores are the same. Songs with equal scores may be in any order."""
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=2e-6)
    if not expected:
        return
    last = expected[-1].score + 1e-5  # songs with the same score as the last song may differ
    assert {h.song.song_id for h in found if h.score > last} == {
        h.song.song_id for h in expected if h.score > last
    }
    for one, other in zip(found, expected, strict=True):
        near = [hit for hit in expected if abs(hit.score - one.score) < 1e-5]
        if len(near) == 1:
            assert one.song == other.song
            assert (one.vector is None) == (other.vector is None)
            if one.vector is not None and other.vector is not None:
                assert one.vector.tobytes() == other.vector.tobytes()
