"""Parquet files whose rows are playlists or contain lists and structs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.errors import FileError
from ingest.sources.formats import parquet
from ingest.sources.options import ReadOptions
from ingest.sources.values.payload import parse_payload_columns
from tests.support.reading import read

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.reading import Rows


def rows_of(folder: Path, columns: Any, payload: tuple[str, ...] = ()) -> tuple[Rows, Rows]:
    path = folder / "playlists.parquet"
    pq.write_table(pa.table(columns), path)
    _, rows, unreadable = read(path, options=ReadOptions(payload=parse_payload_columns(payload)))
    return rows, unreadable


def seen(rows: Rows, *roles: str) -> list[tuple[Any, ...]]:
    return [tuple(row[role] for role in roles) for row in rows]


TRACKS = [
    [{"artist": "A", "name": "a", "uri": "u:a"}, {"artist": "B", "name": "b", "uri": "u:b"}],
    [{"artist": "C", "name": "c", "uri": None}],
]


@pytest.mark.parametrize("size", [1, 1 << 16])
def test_a_row_with_a_list_of_structs_is_a_playlist(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "BATCH_SIZE", size)
    rows, unreadable = rows_of(tmp_path, {"name": ["x", "y"], "tracks": TRACKS, "year": [1, 2]})
    assert unreadable == []
    assert seen(rows, "playlist_id", "playlist_name", "artist", "title", "track_id", "line") == [
        ("playlists.parquet 1", "x", "A", "a", "u:a", 1),
        ("playlists.parquet 1", "x", "B", "b", "u:b", 1),
        ("playlists.parquet 2", "y", "C", "c", None, 2),
    ]
    assert [row["position"] for row in rows][:2] == [0.0, 1.0]


def test_parallel_lists_are_a_playlist(tmp_path: Path) -> None:
    columns = {
        "pid": [1, 2, 3, 4],
        "artist": [["A", "B"], ["C"], [], None],
        "title": [["a", "b"], ["c", "d"], [], None],
        "tags": [["x", "y"], [], [], []],
        "year": [[1, 2], [3], [], None],
    }
    rows, unreadable = rows_of(tmp_path, columns, payload=("year",))
    assert seen(rows, "playlist_id", "artist", "title", "payload:year", "position") == [
        ("1", "A", "a", 1, 0.0),
        ("1", "B", "b", 2, 1.0),
    ]
    assert [(item["line"], item["reason"]) for item in unreadable] == [
        (2, "lists of different lengths"),
        (3, "a playlist without songs"),
        (4, "a playlist without songs"),
    ]


def test_songs_in_a_list_that_name_their_playlist_are_rows(tmp_path: Path) -> None:
    songs = [[{"pid": n % 2, "artist": "A", "title": f"t{n}"} for n in range(4)]]
    rows, _ = rows_of(tmp_path, {"batch": [1], "rows": songs})
    assert seen(rows, "playlist_id", "title", "position") == [
        ("0", "t0", None),
        ("1", "t1", None),
        ("0", "t2", None),
        ("1", "t3", None),
    ]


def test_a_list_of_artists_or_genres_is_joined(tmp_path: Path) -> None:
    columns = {
        "pid": [1, 1],
        "artists": [["A", "B"], ["C"]],
        "title": ["a", "b"],
        "genres": [["x", "y"], []],
    }
    rows, _ = rows_of(tmp_path, columns, payload=("genres",))
    assert seen(rows, "artist", "title", "payload:genres") == [
        ("A\x1fB", "a", "x, y"),
        ("C", "b", None),
    ]


def test_a_list_of_artists_with_ids_is_joined_by_name(tmp_path: Path) -> None:
    artists = [[{"name": "A", "id": 1}, {"name": "B", "id": 2}], None]
    path = tmp_path / "songs.parquet"
    pq.write_table(pa.table({"pid": [1, 1], "artists": artists, "title": ["a", "b"]}), path)
    _, rows, _ = read(path, {"artist": "artists.name"})
    assert seen(rows, "artist", "title") == [("A\x1fB", "a"), (None, "b")]


def test_a_playlist_without_songs_beside_a_list_of_nulls(tmp_path: Path) -> None:
    columns = {"pid": [1, 2], "title": [["a", "b"], []], "pos": [[None, None], []]}
    rows, unreadable = rows_of(tmp_path, columns)
    assert seen(rows, "playlist_id", "title", "position") == [("1", "a", None), ("1", "b", None)]
    assert [item["reason"] for item in unreadable] == ["a playlist without songs"]


def test_the_list_of_songs_is_chosen_as_in_json(tmp_path: Path) -> None:
    path = tmp_path / "playlists.parquet"
    similar = [[{"creator": "X", "name": "x"}]]
    pq.write_table(pa.table({"name": ["n"], "similar": similar, "tracks": TRACKS[:1]}), path)
    account, rows, _ = read(path)
    assert seen(rows, "artist", "title") == [("A", "a"), ("B", "b")]
    assert account.notes[0].remarks == ("not read: 'similar'",)
    pq.write_table(pa.table({"name": ["n"], "songs": similar, "tracks": TRACKS[:1]}), path)
    with pytest.raises(FileError, match="several lists of songs: 'songs', 'tracks'"):
        read(path)


def test_structs_are_named_with_dots(tmp_path: Path) -> None:
    track = [{"artist": "A", "title": "a"}, {"artist": "B", "title": "b"}]
    rows, _ = rows_of(tmp_path, {"pid": [1, 1], "track": track})
    assert seen(rows, "artist", "title", "position") == [("A", "a", None), ("B", "b", None)]
    rows, _ = rows_of(
        tmp_path, {"pid": [1], "x": [{"artist": "Q"}], "artist": ["A"], "title": ["a"]}
    )
    assert seen(rows, "artist") == [("A",)]


def test_damaged_pages_are_detected_by_their_checksums(tmp_path: Path) -> None:
    path = tmp_path / "songs.parquet"
    titles = [f"title {n}" for n in range(999)]
    table = pa.table({"pid": [1] * 999, "artist": ["a"] * 999, "title": titles})
    pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"title 500", b"title 50X"))
    with pytest.raises(FileError, match=r"cannot be read: .*CRC"):
        read(path)
