"""New songs in a release: songs of catalog files, which no training playlist contains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.content import POPULARITY_STEP, content_index
from ingest.learn.arrays import StageFiles
from ingest.publish.new_songs import average_vectors
from ingest.publish.points import PointOptions, Points, assemble_points

if TYPE_CHECKING:
    from pathlib import Path

HALF = 0.5**0.5


def average(
    artists: list[list[str]],
    vectors: dict[int, list[float]],
    albums: list[str | None] | None = None,
) -> dict[int, list[float]]:
    """Return the average vectors for the songs that `vectors` lacks. Songs are numbered by row."""
    columns = {"artist_key": pa.array(artists, pa.list_(pa.string()))}
    if albums is not None:
        columns["album"] = pa.array(albums, pa.string())
    is_new = np.array([row not in vectors for row in range(len(artists))])
    rows, means = average_vectors(
        pa.table(columns),
        is_new,
        np.array(list(vectors)),
        np.array(list(vectors.values()), np.float32),
    )
    return dict(zip(rows.tolist(), means.tolist(), strict=True))


def test_a_new_song_gets_the_mean_vector_of_its_artist() -> None:
    means = average([["x"], ["x"], ["y"], ["x"], ["z"], []], {0: [1, 0], 1: [0, 1], 2: [-1, 0]})
    assert means == {3: pytest.approx([HALF, HALF])}  # no vector for songs of unknown artists


def test_a_new_song_of_several_artists_gets_the_mean_of_all() -> None:
    means = average([["x"], ["y"], ["x & y", "x", "y"]], {0: [1, 0], 1: [0, 1]})
    assert means == {2: pytest.approx([HALF, HALF])}


def test_the_album_takes_precedence_over_the_artist() -> None:
    means = average(
        [["x"], ["x"], ["y"], ["x"], ["x"], ["x"]],
        {0: [1, 0], 1: [0, 1], 2: [-1, 0]},
        ["hits", "live", "hits", "hits", "rare", None],
    )
    # The album "hits" of another artist is another album.
    assert means == {
        3: pytest.approx([1, 0]),
        4: pytest.approx([HALF, HALF]),
        5: pytest.approx([HALF, HALF]),
    }


def test_opposite_vectors_have_no_mean() -> None:
    assert average([["x"], ["x"], ["x"]], {0: [1, 0], 1: [-1, 0]}) == {}


def assemble(folder: Path, options: PointOptions, vectors: int = 1) -> tuple[list[dict], Points]:
    """Assemble a release of songs 0 to 4, of which songs 2, 3 and 4 are in no training playlist.

    Song 3 is not listed: only held-out playlists contain it.
    """
    tables = {
        "songs": {
            "song": pa.array(range(5), pa.int32()),
            "song_id": ["id0", "id1", "id2", "id3", "id4"],
            "artist": ["X", "Y", "X", "X", "Z"],
            "title": ["t0", "t1", "t2", "t3", "t4"],
            "artist_key": ["x", "y", "x", "x", "z"],
            "title_key": ["t0", "t1", "t2", "t3", "t4"],
            "artist_keys": pa.array([["x"], ["y"], ["x"], ["x"], ["z"]], pa.list_(pa.string())),
            "listed": [True, False, True, False, True],
        },
        "train": {"songs": pa.array([[0, 1], [1]], pa.list_(pa.int32()))},
        "cooccurrence": {
            "seed": pa.array([1], pa.int32()),
            "song": pa.array([0], pa.int32()),
            "strength": pa.array([0.5], pa.float32()),
        },
        "vectors": {
            "song": pa.array([0][:vectors], pa.int32()),
            "vector": pa.array([[1.0, 0.0]][:vectors], pa.list_(pa.float32(), 2)),
        },
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    paths = {name: folder / f"{name}.parquet" for name in tables}
    files = StageFiles(**paths, validation=folder / "none")
    with assemble_points(files, folder, options) as points:
        return pq.read_table(points.path).to_pylist(), points


def test_new_songs_come_last_and_have_content_entries(tmp_path: Path) -> None:
    rows, points = assemble(tmp_path, PointOptions(with_new_songs=True, song_exponent=0.5))
    assert [(row["song_id"], row["playlists"], row["ordinal"]) for row in rows] == [
        ("id1", 2, 0),
        ("id0", 1, 1),
        ("id2", 0, 2),
        ("id4", 0, 3),
    ]
    x = content_index("artist", "x")
    entries = [dict(zip(row["seeds"], row["strengths"], strict=True)) for row in rows]
    # Two songs of the release have artist x, one of them new.
    assert entries[1] == pytest.approx({0: 0.5, x: (1 - POPULARITY_STEP / 4) * HALF})
    assert entries[2] == pytest.approx({x: (1 - 2 * POPULARITY_STEP / 4) * HALF})
    assert [row["vector"] for row in rows] == [None, [1, 0], [1, 0], None]
    counts = points.counts
    assert (counts.songs, counts.vectors, counts.predicted, counts.artists) == (4, 2, 1, 3)
    assert (counts.training_plays, points.new_songs) == (3, 2)


def test_without_catalog_files_listed_songs_are_left_out(tmp_path: Path) -> None:
    rows, points = assemble(tmp_path, PointOptions())
    assert [row["song_id"] for row in rows] == ["id1", "id0"]
    assert points.new_songs == 0


def test_songs_below_the_minimum_count_as_new(tmp_path: Path) -> None:
    rows, points = assemble(tmp_path, PointOptions(catalog_min=2, with_new_songs=True), vectors=0)
    assert [(row["song_id"], row["playlists"]) for row in rows] == [
        ("id1", 2),
        ("id0", 1),
        ("id2", 0),
        ("id4", 0),
    ]
    assert points.new_songs == 3
    assert [row["vector"] for row in rows] == [None] * 4
