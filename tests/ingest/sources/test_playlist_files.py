"""Files that contain a single playlist: M3U, XSPF, JSPF, and tables."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest

from catalog.console.progress import SilentReporter
from catalog.errors import ColumnError, EmptyFileError, FileError
from ingest.sources.formats.track_list import name_of_location
from ingest.sources.options import ReadOptions
from ingest.sources.read import read_files
from tests.support.reading import Rows, read

if TYPE_CHECKING:
    from pathlib import Path


def names(rows: Rows) -> list[tuple[str | None, str]]:
    return [(row["artist"], row["title"]) for row in rows]


# M3U files.


def test_an_m3u_playlist_is_named_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "Late Night.m3u8"
    path.write_text(
        "#EXTM3U\n"
        "#EXTINF:123,Night Owls - First Light\n"
        "C:\\Music\\whatever.mp3\n"
        "\n"
        "# a comment\n"
        '#EXTINF:-1 tvg-id="a,b" group-title="x",Ä, B – Low - High\n'
        "http://example.com/stream\n"
        "#EXTINF:9,Untitled\n"
        "x.mp3\n"
        "#EXTINF:9,\n"
        "Music/The Tide/03 - The Tide - Ebb.flac\n"
        "../Flow.mp3\n"
    )
    account, rows, unreadable = read(path)
    assert names(rows) == [
        ("Night Owls", "First Light"),
        ("Ä, B", "Low - High"),
        (None, "Untitled"),
        ("The Tide", "Ebb"),
        (None, "Flow"),
    ]
    assert [row["line"] for row in rows] == [3, 7, 9, 11, 12]
    assert {(row["playlist_id"], row["playlist_name"]) for row in rows} == {
        ("Late Night.m3u8", "Late Night")
    }
    assert unreadable == []
    (note,) = account.notes
    assert (note.kind, note.needs_artist, note.remarks) == ("M3U", False, ())


def test_an_m3u_playlist_may_name_itself(tmp_path: Path) -> None:
    path = tmp_path / "1.m3u"
    path.write_bytes(b"#EXTM3U\r\n#PLAYLIST: Caf\xe9 \r\n#EXTINF:1,Zo\xeb - \xc9t\xe9\r\na.mp3\r\n")
    account, rows, _ = read(path)
    assert names(rows) == [("Zoë", "Été")]
    assert (rows[0]["playlist_id"], rows[0]["playlist_name"]) == ("1.m3u", "Café")
    assert account.notes[0].kind == "M3U, Windows-1252"


def test_a_plain_list_of_files_is_m3u_by_its_ending_or_by_option(tmp_path: Path) -> None:
    lines = "A - x.mp3\nA - y.mp3\n"
    path = tmp_path / "mix.M3U.gz"
    path.write_bytes(gzip.compress(lines.encode()))
    account, rows, _ = read(path)
    assert names(rows) == [("A", "x"), ("A", "y")]
    assert rows[0]["playlist_name"] == "mix"
    assert account.notes[0].kind == "M3U, gzip"
    path = tmp_path / "mix.txt"
    path.write_text(lines)
    assert len(read(path, options=ReadOptions(format="m3u"))[1]) == 2


def test_names_in_m3u_that_are_not_text_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "mix.m3u8"
    path.write_bytes(
        "#EXTINF:1,Ä - x\n1\n#EXTINF:1,Ö - y\n2\n".encode() + b"#EXTINF:1,\xff - z\n3\n"
    )
    _, rows, unreadable = read(path)
    assert names(rows) == [("Ä", "x"), ("Ö", "y")]
    assert [(reject["line"], reject["reason"]) for reject in unreadable] == [(6, "not valid UTF-8")]


@pytest.mark.parametrize("content", ["#EXTM3U\n", "#EXTM3U\n#EXTINF:1,A - x\n", ""])
def test_an_m3u_playlist_without_songs_is_empty(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mix.m3u"
    path.write_text(content)
    with pytest.raises(EmptyFileError, match="is a playlist without songs"):
        read(path)


@pytest.mark.parametrize(
    ("location", "artist", "title"),
    [
        ("file:///music/The%20Tide/01%20Ebb%20%231.mp3", None, "Ebb #1"),
        ("D:\\Music\\01. The Tide - Ebb - Live.mp3", "The Tide", "Ebb - Live"),
        ("Night_Owls_-_First_Light.ogg", "Night Owls", "First Light"),
        ("99 Luftballons.mp3", None, "99 Luftballons"),
        ("100% - Pure.mp3", "100%", "Pure"),
        ("http://example.com/a/Ebb.mp3?token=1/2", None, "Ebb"),
        ("07.mp3", None, "07"),
        (" - x.mp3", None, "- x"),
    ],
)
def test_artist_and_title_are_derived_from_the_file_name(
    location: str, artist: str | None, title: str
) -> None:
    expected = {"title": title} if artist is None else {"artist": artist, "title": title}
    assert name_of_location(location) == expected


# XSPF and JSPF files.

XSPF = """<?xml version="1.0" encoding="ISO-8859-1"?>
<playlist version="1" xmlns="http://xspf.org/ns/0/">
  <title> Späte Nacht </title><creator>me</creator>
  <trackList>
    <track><location>file:///a.mp3</location><title>First Light</title>
      <creator>Night Owls</creator><album>Zoë</album></track>
    <track><location>file:///music/The%20Tide%20-%20Ebb.flac</location></track>
    <track><title>Flow &amp; Ebb</title><location/></track>
    <track><creator>Nobody</creator></track>
  </trackList>
</playlist>
"""


def test_an_xspf_playlist_is_read(tmp_path: Path) -> None:
    path = tmp_path / "night.xspf"
    path.write_text(XSPF, encoding="utf-8")
    account, rows, _ = read(path)
    assert names(rows) == [
        ("Night Owls", "First Light"),
        ("The Tide", "Ebb"),
        (None, "Flow & Ebb"),
        ("Nobody", None),  # without a title; rejected later, by the `prepare` stage
    ]
    assert {(row["playlist_id"], row["playlist_name"]) for row in rows} == {
        ("night.xspf", "Späte Nacht")
    }
    assert [row["line"] for row in rows] == [1, 2, 3, 4]
    assert account.notes[0].kind == "XSPF"
    path.write_text(XSPF.replace("Späte Nacht", ""), encoding="utf-8")
    assert read(path)[1][0]["playlist_name"] == "night"


@pytest.mark.parametrize(
    "content",
    [
        XSPF[:-20],
        XSPF.replace("?>\n", '?>\n<!DOCTYPE p [<!ENTITY e "x">]>\n').replace("Ebb", "&e;"),
    ],
    ids=["cut short", "entities"],
)
def test_a_malformed_xspf_playlist_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "night.xspf"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(FileError, match=r"night\.xspf is not valid XSPF: ") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_an_xspf_playlist_without_tracks_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "night.xspf"
    path.write_text('<playlist xmlns="http://xspf.org/ns/0/"><trackList/></playlist>')
    with pytest.raises(EmptyFileError, match="is a playlist without songs"):
        read(path)


def test_a_jspf_playlist_is_read(tmp_path: Path) -> None:
    path = tmp_path / "night.jspf"
    tracks = [
        {"title": "First Light", "creator": "Night Owls", "location": ["file:///a.mp3"]},
        {"title": "Ebb", "creator": "The Tide", "identifier": ["https://example.com/1"]},
    ]
    playlist = {"title": "Late Night", "creator": "me", "track": tracks}
    path.write_text(json.dumps({"playlist": playlist}))
    account, rows, _ = read(path)
    assert account.notes[0].kind == "JSON"
    assert names(rows) == [("Night Owls", "First Light"), ("The Tide", "Ebb")]
    assert [row["position"] for row in rows] == [0, 1]
    assert {row["playlist_name"] for row in rows} == {"Late Night"}
    assert len({row["playlist_id"] for row in rows}) == 1
    path.write_text(2 * (json.dumps({"playlist": playlist}) + "\n"))  # one playlist per line
    assert len({row["playlist_id"] for row in read(path)[1]}) == 2


# Tables that contain a single playlist.

EXPORTED = (
    "Track URI,Track Name,Artist Name(s),Album Name,Added By,Added At\n"
    'spotify:track:1,First Light,"Night Owls, The Tide",A,me,2023-05-02T00:00:00Z\n'
    "spotify:track:2,Ebb,The Tide,B,me,2023-05-01T00:00:00Z\n"
)


def test_each_file_in_a_folder_of_exports_is_a_playlist(tmp_path: Path) -> None:
    folder = tmp_path / "spotify_playlists"
    for name in ("a/late_night.csv", "b/late_night.csv", "b/morning.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(EXPORTED)
    outputs = tmp_path / "rows.parquet", tmp_path / "unreadable.parquet"
    account = read_files([folder], {}, *outputs, SilentReporter())
    assert (account.files, account.rows) == (3, 6)
    _, rows, _ = read(folder / "b" / "morning.csv")
    assert [(row["title"], row["track_id"], row["position"]) for row in rows] == [
        ("First Light", "spotify:track:1", None),  # songs stay in file order, without positions
        ("Ebb", "spotify:track:2", None),
    ]
    assert {(row["playlist_id"], row["playlist_name"]) for row in rows} == {
        ("morning.csv", "morning")
    }


def test_songs_can_be_ordered_by_the_time_they_were_added(tmp_path: Path) -> None:
    path = tmp_path / "morning.csv"
    path.write_text(EXPORTED)
    rows = read(path, {"position": "Added At"})[1]
    assert [row["position"] for row in rows] == [1682985600, 1682899200]


def test_the_file_is_the_playlist_by_option(tmp_path: Path) -> None:
    path = tmp_path / "morning.csv"
    path.write_text("artist,title\nA,x\nA,y\n")
    with pytest.raises(ColumnError, match=r"one playlist, say --column playlist_id=@file$"):
        read(path)
    rows = read(path, {"playlist_id": "@file"})[1]
    assert {(row["playlist_id"], row["playlist_name"]) for row in rows} == {
        ("morning.csv", "morning")
    }


def test_nested_records_with_times_of_adding_are_one_playlist(tmp_path: Path) -> None:
    path = tmp_path / "page.json"
    items = [
        {"added_at": f"2023-05-0{9 - n}T00:00:00Z", "track": {"title": title, "artist": "A"}}
        for n, title in enumerate("xy")
    ]
    path.write_text(json.dumps(items))
    rows = read(path)[1]
    assert [(row["title"], row["playlist_name"], row["position"]) for row in rows] == [
        ("x", "page", None),
        ("y", "page", None),
    ]
