"""Versions of a song: base titles, and merging of songs with the same base title."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest

from catalog.song import normalise, song_id, song_id_of_track
from catalog.versions import HINT, bare_title, base_title
from tests.support.prepared import playlist, prepared, row

if TYPE_CHECKING:
    from pathlib import Path

SAME = [
    ("Heroes - 2017 Remaster", "heroes"),
    ("Heroes - Remastered", "heroes"),
    ("Heroes - Remastered 2014", "heroes"),
    ("Heroes (2009 Digital Remaster)", "heroes"),
    ("Heroes [Remastered Version]", "heroes"),
    ("Heroes - 2011 - Remaster", "heroes"),
    ("Heroes \N{EN DASH} Single Version", "heroes"),
    ("Heroes - Mono / Remastered", "heroes"),
    ("Heroes - Remastered / 2009", "heroes"),
    ("Heroes (Live) - 2005 Remaster", "heroes (live)"),
    ("Roar (feat. X & Y)", "roar"),
    ("Roar [Ft. X] - Radio Edit", "roar"),
    ("Roar (feat. X) - Live", "roar - live"),
    ("Roar featuring X", "roar featuring x"),  # "featuring X" may be part of the title
    ("Roar feat. X", "roar"),
    ("Roar {Ft. X}", "roar"),
    ("Roar (with X)", "roar"),
    ("Roar [with X & Y] - Live", "roar - live"),
    ("Roar - 50th Anniversary Remaster", "roar"),
    ("Roar (2019 50th Anniversary Mix)", "roar"),
    ("Roar - 2019 Mix", "roar"),
    ("Roar - 2019 Mix / Remastered", "roar"),
    ("Roar - Explicit", "roar"),
    ("Roar - Bonus Track", "roar"),
]
OTHERS = [
    "heroes - live",
    "heroes (live at wembley)",
    "heroes - acoustic",
    "heroes - remix",
    "heroes (instrumental)",
    "heroes - demo",
    "heroes - karaoke version",
    "heroes - taylor's version",
    "heroes - part 2",
    "stay (with me)",
    "gone (without you)",
    "with x",
    "(with x)",
    "heroes - 2019 remix",
    "heroes - dance mix",
    "50th anniversary",
    "ft. lauderdale",
    "feat. nothing",
    "radio edit",
    "(remastered)",
    "mono",
    "explicit",
    "remaster of puppets",
    "1979 - 1983",
]


@pytest.mark.parametrize(("title", "base"), SAME)
def test_base_title_of_editions(title: str, base: str) -> None:
    import re

    key = normalise(title)
    assert base_title(key) == base
    assert base_title(base) == base
    if key != base:
        assert re.search(HINT, key)


@pytest.mark.parametrize("title", OTHERS)
def test_base_title_of_other_recordings(title: str) -> None:
    assert base_title(normalise(title)) == title


@pytest.mark.parametrize(("title", "base"), SAME)
def test_bare_title_of_editions(title: str, base: str) -> None:
    assert bare_title(normalise(title)) == bare_title(base)


@pytest.mark.parametrize(
    ("title", "bare"),
    [
        ("Heroes - Live", "heroes"),
        ("Heroes (Live)", "heroes"),
        ("Heroes [Live at Wembley, 1985]", "heroes"),
        ("Heroes \N{EN DASH} Live in Berlin (2002)", "heroes"),
        ("Heroes - Live 1985", "heroes"),
        ("Heroes - Live / 2011 Remaster", "heroes"),
        ("Heroes - 2009 Remaster - Live", "heroes"),
        ("Heroes (feat. X) - Live Version", "heroes"),
        ("Heroes - Acoustic", "heroes - acoustic"),
        ("Heroes (Live Remix)", "heroes (live remix)"),
        ("007 - Live and Let Die", "007 - live and let die"),
        ("Live", "live"),
        ("(Live)", "(live)"),
        ("Long Live (Live)", "long live"),
    ],
)
def test_bare_title_of_live_versions(title: str, bare: str) -> None:
    assert bare_title(normalise(title)) == bare
    assert bare_title(bare) == bare


ROWS = [
    *[row("Bowie", "Heroes", playlist_id=str(n)) for n in range(2)],
    *[row("Bowie", "Heroes - 2017 Remaster", playlist_id=str(n)) for n in range(2, 5)],
    row("bowie", "HEROES (Remastered)", playlist_id="0"),
    row("Bowie", "Heroes - Live", playlist_id="1"),
    row("Queen", "Heroes - Remastered", playlist_id="1"),
    *[row("Bowie", "Fame", playlist_id=str(n)) for n in range(5)],
]


def test_versions_are_counted_but_not_merged_by_default(tmp_path: Path) -> None:
    found = prepared(tmp_path, ROWS)
    assert asdict(found.summary.versions) == {
        "songs": 1,
        "more": 2,
        "merged": False,
        "examples": [
            {
                "artist": "bowie",
                "titles": ["heroes - 2017 remaster", "heroes", "heroes (remastered)"],
            }
        ],
    }
    assert len(found.songs) == 6


def test_versions_are_merged(tmp_path: Path) -> None:
    found = prepared(tmp_path, ROWS, merge_versions=True)
    songs = {song["song_id"]: (song["artist"], song["title"]) for song in found.songs}
    # The spelling without an edition is used, even if another spelling is more common.
    assert songs[str(song_id("Bowie", "Heroes"))] == ("Bowie", "Heroes")
    assert songs[str(song_id("Queen", "Heroes"))] == ("Queen", "Heroes - Remastered")
    assert len(songs) == 4
    assert found.summary.versions.merged
    assert found.summary.versions.songs == 1
    assert found.summary.repeats == 1  # the repeated song of playlist 0
    keys = {song["title_key"] for song in found.songs}
    assert keys == {"heroes", "heroes - live", "fame"}


def test_merged_versions_get_the_track_id_of_the_most_played_one(tmp_path: Path) -> None:
    rows = [
        row("Bowie", "Heroes", playlist_id="0", track_id="t:1"),
        *[row("Bowie", "Heroes - Remastered", playlist_id=str(n), track_id="t:2") for n in (1, 2)],
        row("Bowie", "Heroes", playlist_id="3"),
        *[row("Bowie", "Fame", playlist_id=str(n), track_id="t:9") for n in range(4)],
    ]
    apart = prepared(tmp_path, rows)
    assert len(apart.songs) == 4
    merge_candidates = prepared(tmp_path, rows, merge_versions=True)
    assert {song["song_id"]: song["title"] for song in merge_candidates.songs} == {
        str(song_id_of_track("t:2")): "Heroes",
        str(song_id_of_track("t:9")): "Fame",
    }
    assert all(len(one["songs"]) == 2 for one in merge_candidates.playlists)


def test_playlists_with_the_same_name_or_songs_are_counted(tmp_path: Path) -> None:
    rows = [
        *playlist("1", "abc", owner="u", playlist_name="Mix"),
        *playlist("2", "abd", owner="u", playlist_name="Mix"),
        *playlist("3", "abc", owner="v", playlist_name="Mix"),
        *playlist("4", "abc"),
        *playlist("5", "x"),
        *playlist("6", "x"),
    ]
    summary = prepared(tmp_path, rows).summary
    assert summary.same_names == 2
    assert summary.same_songs == 2
