"""Credits with several artists: the artist names of a song. Song ids depend on whole credits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from catalog.song import song_id
from ingest.prepare.credits import CreditExample
from tests.support.prepared import Prepared, playlist, prepared, row

if TYPE_CHECKING:
    from pathlib import Path


def prepare_artists(folder: Path, *artists: str) -> Prepared:
    rows = [row(artist, f"x{n}", playlist_id="1") for n, artist in enumerate(artists)]
    return prepared(folder, [*rows, *playlist("1", "ab")])


def keys_of(result: Prepared, artist: str) -> list[str]:
    (song,) = [song for song in result.songs if song["artist"] == artist]
    assert song["song_id"] == str(song_id(artist, song["title"]))
    keys: list[str] = song["artist_keys"]
    assert keys[0] == song["artist_key"]
    return keys[1:]


@pytest.mark.parametrize(
    ("credit", "artists"),
    [
        ("Zoë feat. The Tide", ["zoe", "the tide"]),
        ("Zoë (Feat The Tide)", ["zoe", "the tide"]),
        ("Zoë ft. The Tide [Remix]", ["zoe", "the tide [remix]"]),
        ("Zoë FEATURING The Tide ft Night", ["zoe", "the tide", "night"]),
        ("Zoë feat. Zoe", ["zoe"]),
        ("Daft Feature", []),
        ("feat. Nobody", []),
        ("Zoë feat.", []),
        ("Left", []),
    ],
)
def test_guests_are_always_split_off(tmp_path: Path, credit: str, artists: list[str]) -> None:
    assert keys_of(prepare_artists(tmp_path, credit), credit) == artists


@pytest.mark.parametrize(
    ("credit", "others", "artists"),
    [
        ("Tyler, The Creator", ["Tyler"], []),
        ("Tyler, The Creator", ["TYLER", "The  Creator"], ["tyler", "the creator"]),
        ("Night & Day", ["Day"], []),
        ("Night & Day", ["Day", "Night"], ["night", "day"]),
        ("R&B", ["R", "B"], []),
        ("Ebb;Flow; Tide", ["Flow", "Ebb", "Tide"], ["ebb", "flow", "tide"]),
        ("Ebb, Flow & Tide", ["Flow", "Ebb", "Tide"], ["ebb", "flow", "tide"]),
        ("Ebb, Flow & Tide", ["Ebb, Flow", "Tide"], ["ebb, flow", "tide"]),
        ("Ebb, Flow & Tide", ["Ebb", "Flow & Tide", "Flow", "Tide"], ["ebb", "flow & tide"]),
        ("Ebb, Flow & Tide", ["Ebb", "Flow"], []),
        ("Ebb,", ["Ebb"], []),
        ("Zoë feat. Ebb & Flow", ["Flow", "Ebb"], ["zoe", "ebb", "flow"]),
        ("Zoë feat. Ebb & Flow", ["Flow"], ["zoe", "ebb & flow"]),
    ],
)
def test_other_separators_split_if_all_parts_are_artists(
    tmp_path: Path, credit: str, others: list[str], artists: list[str]
) -> None:
    assert keys_of(prepare_artists(tmp_path, credit, *others), credit) == artists


def test_lists_are_always_split_and_their_names_are_known(tmp_path: Path) -> None:
    rows = [
        row("Tyler, The Creator\x1fÉbb", "x", playlist_id="1"),
        row("Ebb & Flow", "y", playlist_id="1"),
        row("Flow", "z", playlist_id="1"),
    ]
    result = prepared(tmp_path, rows)
    assert keys_of(result, "Tyler, The Creator, Ébb") == ["tyler, the creator", "ebb"]
    assert keys_of(result, "Ebb & Flow") == ["ebb", "flow"]


def test_songs_of_one_artist_or_none_have_one_name_or_none(tmp_path: Path) -> None:
    rows = [row(None, "x", playlist_id="1", file="orders.csv"), *playlist("1", "ab")]
    result = prepared(tmp_path, rows, without_artist=["orders.csv"])
    assert sorted(song["artist_keys"] for song in result.songs) == [[], ["a"], ["a"]]
    assert result.summary.credits.credits == 0


def test_split_credits_are_counted_with_examples(tmp_path: Path) -> None:
    rows = [row("Zoë feat. Ebb", title, playlist_id="1") for title in "xy"]
    rows += [row("Zoe ft. Flow", "z", playlist_id="1"), row("Zoë", "z", playlist_id="1")]
    summary = prepared(tmp_path, rows).summary
    assert (summary.credits.credits, summary.credits.songs) == (2, 3)
    assert summary.credits.examples == [
        CreditExample("Zoë feat. Ebb", ["zoe", "ebb"]),
        CreditExample("Zoe ft. Flow", ["zoe", "flow"]),
    ]
    assert summary.artists == 5  # three single artists, and two whole credits
