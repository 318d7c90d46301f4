"""Histories of plays: files of one listener, and exports from Spotify and Last.fm."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.console.progress import SilentReporter
from catalog.errors import EmptyFileError
from ingest.sources.options import ReadOptions
from ingest.sources.read import read_files
from tests.support.reading import Rows, read

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.sources.account import ReadAccount


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history"


def titles(rows: Rows) -> list[str]:
    return [row["title"] for row in rows]


def write_extended(path: Path, plays: list[dict[str, Any]]) -> None:
    """Write plays in the format of Spotify's extended streaming history."""
    play = {
        "ts": "2023-05-01T10:00:00Z",
        "ms_played": 200_000,
        "master_metadata_track_name": "x",
        "master_metadata_album_artist_name": "A",
        "spotify_track_uri": "spotify:track:1",
        "episode_name": None,
        "skipped": False,
    }
    path.write_text(json.dumps([play | changes for changes in plays], indent=1))


def test_a_history_without_a_user_is_that_of_one_listener(path: Path) -> None:
    plays = [
        {"endTime": f"2023-05-01 10:0{n}", "artistName": "A", "trackName": t, "msPlayed": 200_000}
        for n, t in enumerate("xy")
    ]
    path.write_text(json.dumps(plays))
    account, rows, unreadable = read(path)
    assert [(row["owner"], row["artist"], row["title"], row["position"]) for row in rows] == [
        ("history", "A", "x", 1682935200),
        ("history", "A", "y", 1682935260),
    ]
    assert unreadable == []
    assert account.notes[0].columns["owner"] == "@file"
    assert account.notes[0].remarks == (
        "no column for the user: each file is taken as the plays of one listener",
    )


def test_short_and_skipped_plays_and_podcasts_are_left_out_and_counted(path: Path) -> None:
    podcast = {
        "master_metadata_track_name": None,
        "master_metadata_album_artist_name": None,
        "spotify_track_uri": None,
        "episode_name": "e",
        "ms_played": 5,
        "skipped": True,
    }
    write_extended(
        path,
        [
            {"master_metadata_track_name": "whole"},
            {"master_metadata_track_name": "just long enough", "ms_played": 30_000},
            {"master_metadata_track_name": "short", "ms_played": 29_999},
            {"master_metadata_track_name": "skipped", "skipped": True},
            {"master_metadata_track_name": "unknown", "skipped": None, "ms_played": None},
            podcast,
            podcast,
            {"master_metadata_track_name": 3, "ms_played": [1]},
        ],
    )
    account, rows, unreadable = read(path)
    assert titles(rows) == ["whole", "just long enough", "unknown"]
    assert account.notes[0].left_out == {
        "not songs, such as podcasts": 2,
        "skipped": 1,
        "played for less than 30 s": 1,
    }
    assert [reject["reason"] for reject in unreadable] == ["played is a list"]
    assert account.rows + account.unreadable + sum(account.notes[0].left_out.values()) == 8


def test_the_shortest_play_is_an_option(path: Path) -> None:
    plays = [{"ms_played": 1_000}, {"ms_played": 100_000}, {"ms_played": 0}]
    write_extended(path, plays)
    account, rows, _ = read(path, options=ReadOptions(min_play=100.5))
    assert (len(rows), account.notes[0].left_out) == (0, {"played for less than 100.5 s": 3})
    account, rows, _ = read(path, options=ReadOptions(min_play=0))
    assert (len(rows), account.notes[0].left_out) == (3, {})
    assert len(read(path, {"played": ""})[1]) == 3


def test_skips_count_if_their_column_is_ignored(path: Path) -> None:
    write_extended(path, [{"skipped": True}])
    assert len(read(path, {"skipped": ""})[1]) == 1


@pytest.mark.parametrize(
    ("name", "values", "kept"),
    [
        ("ms_played", ["29999", "30000", "", "?"], "bcd"),
        ("seconds_played", ["29.9", "30", "", "?"], "bcd"),
        ("skipped", ["TRUE", "0", "1", ""], "bd"),
    ],
)
def test_short_or_skipped_plays_in_text_are_left_out(
    path: Path, name: str, values: list[str], kept: str
) -> None:
    lines = [f"1,A,{title},{value}\n" for title, value in zip("abcd", values, strict=True)]
    path.write_text(f"pid,artist,title,{name}\n" + "".join(lines))
    assert titles(read(path)[1]) == list(kept)


def test_short_or_skipped_plays_in_parquet_are_left_out(path: Path) -> None:
    table = {
        "user": ["u"] * 3,
        "ts": pa.array([1, 2, 3], pa.timestamp("s")),
        "artist": ["A"] * 3,
        "track": ["a", "b", "c"],
        "ms_played": [30_000, 29_999, 40_000],
        "skipped": [False, None, True],
    }
    pq.write_table(pa.table(table), path)
    account, rows, _ = read(path)
    assert titles(rows) == ["a"]
    assert account.notes[0].left_out == {"skipped": 1, "played for less than 30 s": 1}


def test_a_given_column_is_in_milliseconds_if_its_name_says_so(path: Path) -> None:
    path.write_text("pid,artist,title,heard,heard_ms\n1,A,a,31,31\n1,A,b,29,31000\n")
    assert titles(read(path, {"played": "heard"})[1]) == ["a"]
    assert titles(read(path, {"played": "heard_ms"})[1]) == ["b"]


def read_all(folder: Path) -> ReadAccount:
    rows, unreadable = folder / "rows.parquet", folder / "unreadable.parquet"
    return read_files(sorted(folder.glob("*.json")), {}, rows, unreadable, SilentReporter())


def test_a_history_of_podcasts_is_skipped(tmp_path: Path) -> None:
    podcasts = [{"endTime": "2023-05-01 10:00", "podcastName": "p", "episodeName": "e"}]
    (tmp_path / "StreamingHistory_podcast_0.json").write_text(json.dumps(podcasts))
    with pytest.raises(EmptyFileError, match="is a history of podcasts, without songs"):
        read_all(tmp_path)
    write_extended(tmp_path / "StreamingHistory_music_0.json", [{}])
    account = read_all(tmp_path)
    assert account.rows == 1
    (message,) = account.empty
    assert message.endswith(
        "StreamingHistory_podcast_0.json is a history of podcasts, without songs"
    )


def test_the_thousand_users_of_last_fm_need_no_option(path: Path) -> None:
    path.write_text(
        "user_000001\t2009-05-04T23:08:57Z\tf1b1cf71\tNight Owls\t\tFirst Light\n"
        'user_000001\t2009-05-04T13:54:10Z\ta7f7df4a\tThe "Tide" Band\tc9\tLow, High\n'
    )
    account, rows, unreadable = read(path)
    assert [(row["line"], row["owner"], row["artist"], row["title"]) for row in rows] == [
        (1, "user_000001", "Night Owls", "First Light"),
        (2, "user_000001", 'The "Tide" Band', "Low, High"),
    ]
    assert [row["position"] for row in rows] == [1241478537, 1241445250]
    assert [row["track_id"] for row in rows] == [None, None]  # many plays have no track id
    assert unreadable == []
    assert account.notes[0].kind == ("TSV, no quoting, Last.fm's thousand users, without a header")


def test_plays_exported_from_last_fm_need_no_option(path: Path) -> None:
    path.write_text('A,"Album, The",x,04 Apr 2010 13:45\n"B, C",,y,04 Apr 2010 13:41\n')
    account, rows, _ = read(path)
    assert [(row["owner"], row["artist"], row["title"], row["position"]) for row in rows] == [
        ("history", "A", "x", 1270388700),
        ("history", "B, C", "y", 1270388460),
    ]
    assert account.notes[0].kind.endswith("exported from Last.fm, without a header")
    rows = read(path, {"artist": "1", "title": "3", "playlist_id": "2"}, ReadOptions(header=False))[
        1
    ]
    assert [row["playlist_id"] for row in rows] == ["Album, The", ""]
