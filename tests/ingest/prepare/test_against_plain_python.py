"""Songs and playlists from random rows, compared with an implementation in plain Python."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import PlaylistError
from catalog.song import normalise, song_id, song_id_of_track
from tests.support.prepared import Prepared, Row, numbered, playlist, prepared, row

if TYPE_CHECKING:
    import random


def trimmed(text: str | None) -> str:
    return (text or "").strip(" \t\n\v\f\r\u00a0")


@dataclass(frozen=True)
class Expected:
    """The expected result, computed in plain Python."""

    kept: dict[str, list[str]]
    short: dict[str, list[str]]
    rejected: list[tuple[str, int, str]]
    used: int


def prepare_plainly(rows: list[Row], min_songs: int) -> Expected:
    playlists: dict[str, list[tuple[Any, str]]] = defaultdict(list)
    rejected = []
    for item in numbered(rows):
        name = trimmed(item["playlist_name"])
        key = trimmed(item["playlist_id"])
        if not key:
            owned = f"{trimmed(item['owner'])}\x1f{name}"
            key = hashlib.md5(owned.encode()).hexdigest() if name else ""
        artist, title = normalise(item["artist"] or ""), normalise(item["title"] or "")
        missing = ["artist"] * (not artist) + ["title"] * (not title) + ["playlist"] * (not key)
        if missing:
            rejected.append((item["file"], item["line"], f"no {missing[0]}"))
            continue
        track = trimmed(item["track_id"])
        song = song_id_of_track(track) if track else song_id(artist, title)
        has_none = item["position"] is None
        sort_key = (has_none, 0 if has_none else item["position"], item["file"], item["line"])
        playlists[key].append((sort_key, str(song)))
    ordered = {
        key: list(dict.fromkeys(song for _, song in sorted(plays)))
        for key, plays in playlists.items()
    }
    return Expected(
        {key: songs for key, songs in ordered.items() if len(songs) >= min_songs},
        {key: songs for key, songs in ordered.items() if len(songs) < min_songs},
        sorted(rejected),
        sum(map(len, playlists.values())),
    )


def as_ids(result: Prepared, of: list[Row]) -> dict[str, list[str]]:
    return {
        item["playlist_id"]: [result.songs[song]["song_id"] for song in item["songs"]]
        for item in of
    }


any_row = st.builds(
    row,
    st.sampled_from(["A", "a ", "Á", "B", "", "\u3000", None]),
    st.sampled_from(["x", "X", " x", "y", "z", "", None]),
    playlist_id=st.sampled_from([None, None, "1", " 1", "2", ""]),
    playlist_name=st.sampled_from([None, "m", "M ", "m"]),
    owner=st.sampled_from([None, "u", "v"]),
    track_id=st.sampled_from([None, None, None, "", "t1", "t2 "]),
    position=st.sampled_from([None, 0.0, 1.0, 1.5, -3.0]),
    file=st.sampled_from(["a.csv", "b.csv"]),
)


@settings(max_examples=25)
@given(st.lists(any_row, min_size=1, max_size=40), st.integers(2, 3))
def test_the_tables_equal_those_of_plain_python(rows: list[Row], min_songs: int) -> None:
    expected = prepare_plainly(rows, min_songs)
    with TemporaryDirectory() as name:
        if not expected.kept:
            with pytest.raises(PlaylistError):
                prepared(Path(name), rows, min_songs)
            return
        result = prepared(Path(name), rows, min_songs)
    assert as_ids(result, result.playlists) == expected.kept
    assert as_ids(result, result.short) == expected.short
    rejected = [(item["file"], item["line"], item["reason"]) for item in result.rejects]
    assert rejected == expected.rejected
    summary = result.summary
    assert summary.rows == len(rows) == summary.used + len(rejected)
    assert summary.used == expected.used
    assert summary.rejected == dict(Counter(reason for _, _, reason in rejected))
    assert sum(summary.rejected.values()) == len(rejected)
    assert summary.plays == sum(map(len, expected.kept.values()))
    different = summary.plays + sum(map(len, expected.short.values()))
    assert summary.used == different + summary.repeats
    assert (summary.playlists, summary.short_playlists) == (
        len(expected.kept),
        len(expected.short),
    )
    everything = {
        song
        for item in (expected.kept, expected.short)
        for songs in item.values()
        for song in songs
    }
    assert [song["song_id"] for song in result.songs] == sorted(everything)
    assert [song["song"] for song in result.songs] == list(range(len(everything)))
    assert summary.songs == len(everything)
    for song in result.songs:
        assert song["artist_key"] == normalise(song["artist"])
        assert song["title_key"] == normalise(song["title"])


@settings(max_examples=10)
@given(st.lists(any_row, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_the_order_in_which_rows_are_stored_does_not_matter(
    rows: list[Row], chance: random.Random
) -> None:
    rows = numbered([*rows, *playlist("9", "pqr")])
    with TemporaryDirectory() as name:
        first = prepared(Path(name), rows)
        chance.shuffle(rows)
        second = prepared(Path(name), rows)
    assert second == first


@settings(max_examples=10)
@given(st.lists(any_row, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_the_order_of_lines_matters_only_to_the_order_of_play(
    rows: list[Row], chance: random.Random
) -> None:
    rows = [*rows, *playlist("9", "pqr")]
    with TemporaryDirectory() as name:
        first = prepared(Path(name), rows)
        chance.shuffle(rows)
        second = prepared(Path(name), rows)
    assert second.summary == first.summary
    assert second.songs == first.songs
    for item, other in ((first.playlists, second.playlists), (first.short, second.short)):
        assert [{**each, "songs": sorted(each["songs"])} for each in item] == [
            {**each, "songs": sorted(each["songs"])} for each in other
        ]
