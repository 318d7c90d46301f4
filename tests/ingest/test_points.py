"""The sparse vectors of points: weights with a song exponent, and content entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import catalog.content
from catalog.content import content_index
from ingest.learn.arrays import StageFiles
from ingest.publish import points
from ingest.publish.points import PointOptions, assemble_points

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.manifest import Counts

STEP = catalog.content.POPULARITY_STEP


@pytest.fixture
def files(tmp_path: Path) -> StageFiles:
    """Files of songs 0 to 3, which are in 4, 2, 1 and 0 playlists.

    Song 0 predicts songs 1 and 2. Song 1 has two artists.
    """
    tables = {
        "songs": {
            "song": pa.array([0, 1, 2, 3], pa.int32()),
            "song_id": ["id0", "id1", "id2", "id3"],
            "artist": ["X", "X, Y", "", "Y"],
            "title": ["t0", "t1", "t2", "t3"],
            "artist_key": ["x", "x, y", "", "y"],
            "title_key": ["t0", "t1", "t2", "t3"],
            "artist_keys": pa.array([["x"], ["x", "y"], [], ["y"]], pa.list_(pa.string())),
            "album": ["a", None, "a", "a"],
        },
        "train": {
            "songs": pa.array([[0, 1, 2], [0, 1], [0], [0]], pa.list_(pa.int32())),
        },
        "cooccurrence": {
            "seed": pa.array([0, 0], pa.int32()),
            "song": pa.array([1, 2], pa.int32()),
            "strength": pa.array([0.5, 0.25], pa.float32()),
        },
        "vectors": {
            "song": pa.array([0], pa.int32()),
            "vector": pa.array([[1.0, 0.0]], pa.list_(pa.float32(), 2)),
        },
    }
    paths = {}
    for name, columns in tables.items():
        paths[name] = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table(columns), paths[name])
    return StageFiles(**paths, validation=tmp_path / "none", fields=["album"])


def assemble(
    files: StageFiles, tmp_path: Path, options: PointOptions
) -> tuple[list[dict[int, float]], Counts, int]:
    with assemble_points(files, tmp_path, options) as result:
        rows = pq.read_table(result.path).to_pylist()
    assert [row["artist_key"] for row in rows] == [["x"], ["x", "y"], []]
    assert [row["search_text"] for row in rows] == ["x t0", "x, y t1", "t2"]
    vectors = [dict(zip(row["seeds"] or [], row["strengths"] or [], strict=True)) for row in rows]
    assert all(list(vector) == sorted(vector) for vector in vectors)
    return vectors, result.counts, result.collided_keys


def test_content_entries_by_hand(files: StageFiles, tmp_path: Path) -> None:
    vectors, counts, collided = assemble(
        files, tmp_path, PointOptions(payload=["album"], scale=2.0)
    )
    x, y = content_index("artist", "x"), content_index("artist", "y")
    album = content_index("album", "a")
    # In the catalog, two songs have artist x, one has artist y, and two have the album. Song 3 is
    # in no playlist.
    second, third = 1 - STEP / 3, 1 - 2 * STEP / 3
    expected = [
        {x: 2 / 2**0.5, album: 2 / 2**0.5},
        {0: 0.5, x: second * 2 / 2**0.5, y: second * 2},
        {0: 0.25, album: third * 2 / 2**0.5},
    ]
    assert vectors == [pytest.approx(vector) for vector in expected]
    assert (counts.songs, counts.predicted, counts.artists, collided) == (3, 2, 2, 0)


def test_the_song_exponent_leaves_content_entries_as_they_are(
    files: StageFiles, tmp_path: Path
) -> None:
    plain, _, _ = assemble(files, tmp_path, PointOptions(payload=["album"], scale=2.0))
    scaled, _, _ = assemble(
        files, tmp_path, PointOptions(payload=["album"], scale=2.0, song_exponent=0.5)
    )
    assert scaled[0] == plain[0]
    assert scaled[1] == pytest.approx(plain[1] | {0: 0.5 / 2**0.5})
    assert scaled[2] == pytest.approx(plain[2])  # the song has one play, and 1 ** 0.5 is 1


def test_keys_with_the_same_index_get_no_entries(
    files: StageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = content_index("artist", "x")

    def collide(field: str, key: str) -> int:
        return x if (field, key) in {("artist", "y"), ("album", "a")} else content_index(field, key)

    monkeypatch.setattr(points, "content_index", collide)
    monkeypatch.setattr(catalog.content, "content_index", collide)
    vectors, counts, collided = assemble(
        files, tmp_path, PointOptions(payload=["album"], scale=2.0)
    )
    assert vectors == [{}, {0: 0.5}, {0: 0.25}]
    assert (counts.predicted, collided) == (2, 3)
