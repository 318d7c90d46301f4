"""Songs and playlists made from small tables of rows, with expected results written by hand."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.errors import PlaylistError
from catalog.song import song_id, song_id_of_track
from tests.support.prepared import Row, playlist, prepared, row

if TYPE_CHECKING:
    from pathlib import Path

# Spellings of artists and titles.


def test_names_are_trimmed(tmp_path: Path) -> None:
    result = prepared(
        tmp_path,
        [
            row(" \tThe  The\u00a0", "\r\nx \v\f", playlist_id=" 1\t", track_id=" ", owner=" u "),
            row("The  The", "y", playlist_id="1", playlist_name="\u00a0Mix ", owner="u"),
        ],
    )
    assert result.playlists == [
        {"playlist_id": "1", "name": "Mix", "owner": "u", "songs": result.playlists[0]["songs"]}
    ]
    assert {song["artist"] for song in result.songs} == {"The  The"}
    assert result.titles() == {"1": "xy"}
    assert {song["artist_key"] for song in result.songs} == {"the the"}


def test_a_song_has_its_keys_and_its_stable_id(tmp_path: Path) -> None:
    result = prepared(tmp_path, [row("Beyoncé", "Déjà Vu", playlist_id="1"), *playlist("1", "x")])
    (song,) = [song for song in result.songs if song["artist"] == "Beyoncé"]
    assert song == {
        "song": song["song"],
        "song_id": str(song_id("beyonce", "deja vu")),
        "artist": "Beyoncé",
        "title": "Déjà Vu",
        "artist_key": "beyonce",
        "title_key": "deja vu",
        "artist_keys": ["beyonce"],
    }


def test_spellings_are_one_song_under_the_most_common_one(tmp_path: Path) -> None:
    spellings = ["Beyonce", "Beyoncé", "BEYONCÉ", "Beyoncé", "beyoncé  "]
    rows = [row(name, "Halo", playlist_id=str(i)) for i, name in enumerate(spellings)]
    rows += [row("Other", "Song", playlist_id=str(i)) for i in range(5)]
    result = prepared(tmp_path, rows)
    assert {(song["artist"], song["title"]) for song in result.songs} == {
        ("Beyoncé", "Halo"),
        ("Other", "Song"),
    }
    assert len(result.playlists) == 5
    assert all(sorted(item["songs"]) == [0, 1] for item in result.playlists)


def test_artist_and_title_are_of_the_same_spelling(tmp_path: Path) -> None:
    # "ABBA" and "SOS" are the most common spellings of artist and title, but are never in the same
    # row.
    pairs = [("ABBA", "sos")] * 2 + [("abba", "SOS")] * 3 + [("ABBA", "Sos")] * 2
    rows = [row(*pair, playlist_id=str(i)) for i, pair in enumerate(pairs)]
    rows += [row("Other", "Song", playlist_id=str(i)) for i in range(len(pairs))]
    result = prepared(tmp_path, rows)
    assert ("abba", "SOS") in {(song["artist"], song["title"]) for song in result.songs}


def test_equally_common_spellings_are_ordered_by_the_alphabet(tmp_path: Path) -> None:
    rows = [row(name, "x", playlist_id=name) for name in ("b B", "B b", "B B")]
    rows += [row("Z", "z", playlist_id=name) for name in ("b B", "B b", "B B")]
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        result = prepared(tmp_path, rows)
        assert {song["artist"] for song in result.songs} == {"B B", "Z"}


def test_songs_are_numbered_from_0_in_the_order_of_their_ids(tmp_path: Path) -> None:
    result = prepared(tmp_path, playlist("1", "abcdefghij") + playlist("2", "jklm"))
    assert [song["song"] for song in result.songs] == list(range(13))
    ids = [song["song_id"] for song in result.songs]
    assert ids == sorted(ids)
    assert ids == sorted(str(song_id("A", title)) for title in "abcdefghijklm")


def test_the_types_of_the_tables(tmp_path: Path) -> None:
    result = prepared(tmp_path, playlist("1", "ab"))
    songs = pq.read_schema(result.folder / "songs.parquet")
    names = ["song", "song_id", "artist", "title", "artist_key", "title_key", "artist_keys"]
    assert songs.names == names
    assert songs.field("song").type == pa.int32()
    for name in ("playlists", "short_playlists"):
        schema = pq.read_schema(result.folder / f"{name}.parquet")
        assert schema.names == ["playlist_id", "name", "owner", "songs"]
        assert schema.field("songs").type.value_type == pa.int32()
    rejects = pq.read_schema(result.folder / "rejects.parquet")
    assert rejects.names == ["file", "line", "reason", "text"]


# Identity by track id.


def test_track_ids_identify_songs(tmp_path: Path) -> None:
    result = prepared(
        tmp_path,
        [
            row("Queen", "Bohemian Rhapsody", playlist_id="1", track_id="t:1"),
            row("Queen", "Bohemian Rhapsody", playlist_id="1", track_id="t:2"),  # a different song
            row("QUEEN", "Bohemian Rhapsody - Remastered", playlist_id="1", track_id=" t:1 "),
            row(
                "Queen", "Bohemian Rhapsody", playlist_id="1", track_id=""
            ),  # identified by artist and title
        ],
    )
    assert {song["song_id"] for song in result.songs} == {
        str(song_id_of_track("t:1")),
        str(song_id_of_track("t:2")),
        str(song_id("queen", "bohemian rhapsody")),
    }
    assert result.summary.repeats == 1
    assert result.summary.track_ids is True
    assert result.summary.artists == 1


def test_blank_track_ids_do_not_count(tmp_path: Path) -> None:
    assert prepared(tmp_path, playlist("1", "ab", track_id=" ")).summary.track_ids is False


def test_a_track_without_a_name_is_rejected(tmp_path: Path) -> None:
    rows = [*playlist("1", "ab"), row("", "x", playlist_id="1", track_id="t:1")]
    result = prepared(tmp_path, rows)
    assert [reject["reason"] for reject in result.rejects] == ["no artist"]


# Songs without an artist.


def test_an_item_without_an_artist_is_known_by_its_title(tmp_path: Path) -> None:
    rows = [row(None, title, playlist_id="1", file="orders.csv") for title in ("Milk", "Bread")]
    result = prepared(tmp_path, rows, without_artist=["orders.csv"])
    assert {(song["song_id"], song["artist"], song["artist_key"]) for song in result.songs} == {
        (str(song_id("", "milk")), "", ""),
        (str(song_id("", "bread")), "", ""),
    }
    assert result.titles() == {"1": "MilkBread"}
    assert result.summary.artists == 0
    assert result.summary.text == "1 playlists, 2 songs"


def test_a_file_with_artists_needs_one_in_each_row(tmp_path: Path) -> None:
    rows = [
        *playlist("1", "ab"),
        row("", "c", playlist_id="1"),
        row(None, "d", playlist_id="2", file="orders.csv"),
        row(None, "e", playlist_id="2", file="orders.csv"),
    ]
    result = prepared(tmp_path, rows, without_artist=["orders.csv"])
    assert [(reject["file"], reject["reason"]) for reject in result.rejects] == [
        ("songs.csv", "no artist")
    ]
    assert result.titles() == {"1": "ab", "2": "de"}
    assert result.summary.artists == 1


def test_an_item_known_by_its_id_shows_its_title_if_any_row_has_one(tmp_path: Path) -> None:
    def rate(title: str, track: str) -> Row:
        return row(None, title, track_id=track, playlist_id="1", file="ratings.csv")

    rows = [rate("318", "318"), rate("318", "318"), rate("Heat", "318"), rate("6", "6")]
    result = prepared(tmp_path, rows, without_artist=["ratings.csv"])
    assert {(song["song_id"], song["title"]) for song in result.songs} == {
        (str(song_id_of_track("318")), "Heat"),
        (str(song_id_of_track("6")), "6"),
    }


# Order, identity and length of playlists.


def test_songs_are_in_the_order_of_the_file(tmp_path: Path) -> None:
    rows = playlist("1", "cab") + playlist("2", "bca") + playlist("1", "d")
    assert prepared(tmp_path, rows).titles() == {"1": "cabd", "2": "bca"}


def test_positions_determine_the_order_of_songs(tmp_path: Path) -> None:
    rows = [
        row(title=title, playlist_id="1", position=position)
        for title, position in [
            ("f", None),
            ("d", 3.0),
            ("b", -1.5),
            ("c", 0.0),
            ("e", 3.0),
            ("g", None),
            ("a", -1e9),
        ]
    ]
    assert prepared(tmp_path, rows).titles() == {"1": "abcdefg"}


def test_equal_positions_are_ordered_by_file_and_line(tmp_path: Path) -> None:
    rows = [
        row(title=title, playlist_id="1", file=file, line=line, position=position)
        for title, file, line, position in [
            ("e", "b.csv", 2, 7.0),
            ("d", "a.csv", 11, 7.0),
            ("c", "a.csv", 9, 7.0),
            ("a", "b.csv", 3, 1.0),
            ("b", "b.csv", 4, 1.0),
        ]
    ]
    assert prepared(tmp_path, rows).titles() == {"1": "abcde"}


def test_the_first_of_repeated_songs_is_kept(tmp_path: Path) -> None:
    result = prepared(tmp_path, playlist("1", "abacbba"))
    assert result.titles() == {"1": "abc"}
    assert result.summary.repeats == 4
    assert result.summary.used == 7
    assert result.summary.plays == 3


def test_of_repeated_songs_the_one_at_the_lowest_position_is_kept(tmp_path: Path) -> None:
    rows = [
        row(title=title, playlist_id="1", position=position)
        for title, position in [("a", 9.0), ("b", 2.0), ("a", 1.0), ("c", 3.0)]
    ]
    assert prepared(tmp_path, rows).titles() == {"1": "abc"}


def test_playlists_without_an_id_are_identified_by_owner_and_name(tmp_path: Path) -> None:
    def mix(songs: str, **fields: Any) -> list[Row]:
        return [row(title=song, **fields) for song in songs]

    result = prepared(
        tmp_path,
        mix("ab", owner="u", playlist_name="Mix")
        + mix("bc", owner="v", playlist_name="Mix")
        + mix("cd", owner="u", playlist_name="Rock")
        + mix("e", owner=" u", playlist_name="Mix ")
        + mix("ef", playlist_name="Mix")
        + mix("gh", owner="u", playlist_name="mix")
        + mix("ij", owner="uM", playlist_name="ix"),
    )
    assert sorted(
        (item["owner"], item["name"], result.titles()[item["playlist_id"]])
        for item in result.playlists
    ) == [
        ("", "Mix", "ef"),
        ("u", "Mix", "abe"),
        ("u", "Rock", "cd"),
        ("u", "mix", "gh"),
        ("uM", "ix", "ij"),
        ("v", "Mix", "bc"),
    ]
    expected = hashlib.md5(b"u\x1fMix").hexdigest()  # splits depend on this id
    assert expected in result.titles()


def test_an_id_takes_precedence_over_owner_and_name(tmp_path: Path) -> None:
    rows = [
        row(title="a", playlist_id="1", owner="u", playlist_name="Mix"),
        row(title="b", playlist_id="2", owner="u", playlist_name="Mix"),
        row(title="b", playlist_id="1", owner="v", playlist_name="Rock"),
        row(title="a", playlist_id="2", owner="u", playlist_name="Mix"),
    ]
    result = prepared(tmp_path, rows)
    assert result.titles() == {"1": "ab", "2": "ba"}
    assert [item["owner"] for item in result.playlists] == ["u", "u"]


def test_a_playlist_with_several_names_has_the_alphabetically_first_one(tmp_path: Path) -> None:
    rows = [
        row(title=title, playlist_id="1", owner=owner, playlist_name=name)
        for title, owner, name in [("a", "", "N"), ("b", "v", ""), ("c", "u", "M"), ("d", None, "")]
    ]
    (item,) = prepared(tmp_path, rows).playlists
    assert (item["name"], item["owner"]) == ("M", "u")


def test_a_playlist_may_continue_in_another_file(tmp_path: Path) -> None:
    rows = playlist("1", "ab", file="a.csv") + playlist("1", "bc", file="b.csv")
    assert prepared(tmp_path, rows).titles() == {"1": "abc"}


def test_merged_playlists_are_counted(tmp_path: Path) -> None:
    rows = [
        *playlist("1", "ab", file="a.csv"),
        *playlist("1", "bc", file="b.csv"),
        *playlist("2", "ab", file="a.csv"),
        *playlist("2 ", "cd", file="a.csv"),
        *(row(title=title, owner="u", playlist_name=name) for title in "ab" for name in "xy"),
        row(title="c", owner="u ", playlist_name="x"),
    ]
    result = prepared(tmp_path, rows)
    assert len(result.playlists) == 4
    assert result.summary.merged_files == 1
    assert result.summary.merged_blanks == 2


def test_a_row_without_an_id_belongs_to_the_playlist_of_its_owner_and_name(tmp_path: Path) -> None:
    def named(title: str, **fields: Any) -> Row:
        return row(title=title, owner="u", playlist_name="Mix", **fields)

    rows = [named("a", playlist_id=" "), named("b", playlist_id=None), named("c", playlist_id="1")]
    result = prepared(tmp_path, [*rows, named("d", playlist_id="1"), row(playlist_id="")])
    assert sorted(result.titles().values()) == ["ab", "cd"]
    assert [item["reason"] for item in result.rejects] == ["no playlist"]


def test_playlists_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    result = prepared(tmp_path, [item for name in "cab" for item in playlist(name, "xy")])
    assert [item["playlist_id"] for item in result.playlists] == ["a", "b", "c"]


def test_short_playlists_are_written_separately(tmp_path: Path) -> None:
    rows = playlist("1", "abc") + playlist("2", "ab") + playlist("3", "aab") + playlist("4", "cccc")
    result = prepared(tmp_path, rows, min_songs=3)
    assert result.titles() == {"1": "abc"}
    assert result.titles(result.short) == {"2": "ab", "3": "ab", "4": "c"}
    assert result.summary.playlists == 1
    assert result.summary.short_playlists == 3
    assert result.summary.plays == 3
    dropped = "3 playlists shorter than 3 songs dropped, with 9 rows"
    assert dropped in result.summary.text
    assert result.summary.short_rows == 9


def test_songs_are_numbered_if_they_are_in_a_playlist(
    tmp_path: Path,
) -> None:
    rows = playlist("1", "ab") + playlist("2", "c") + playlist("", "d")
    result = prepared(tmp_path, rows)
    assert sorted(song["title"] for song in result.songs) == ["a", "b", "c"]
    assert result.summary.songs == 3


# Rows that cannot be used.


def test_rejects_have_their_reason_file_line_and_text(tmp_path: Path) -> None:
    result = prepared(
        tmp_path,
        [
            *playlist("1", "ab"),
            row("", "x", playlist_id="1", line=17, owner="u", playlist_name="Mix"),
            row("A", " \u3000", playlist_id="1", line=18, track_id="t:1"),
            row("A", "x", playlist_id="  ", line=19),
            row("A", "x", owner="u", line=20),
            row(None, None, line=21),
            row(None, "x", playlist_id="1", line=4, file="other.csv"),
            row("\u0301", "x", playlist_id="1", line=22),  # a combining accent without a letter
        ],
        unreadable=[{"file": "songs.csv", "line": 3, "reason": "not UTF-8", "text": "?"}],
    )
    assert result.rejects == [
        {"file": file, "line": line, "reason": reason, "text": text}
        for file, line, reason, text in [
            ("other.csv", 4, "no artist", "1 |  |  |  | x | "),
            ("songs.csv", 3, "not UTF-8", "?"),
            ("songs.csv", 17, "no artist", "1 | Mix | u |  | x | "),
            ("songs.csv", 18, "no title", "1 |  |  | A | \u3000 | t:1"),
            ("songs.csv", 19, "no playlist", "   |  |  | A | x | "),
            ("songs.csv", 20, "no playlist", " | u | A | x | "),
            ("songs.csv", 21, "no artist", " |  |  |  | "),
            ("songs.csv", 22, "no artist", "1 |  |  | \u0301 | x | "),
        ]
    ]
    assert result.titles() == {"1": "ab"}
    assert result.summary.rows == 9
    assert result.summary.used == 2
    assert result.summary.rejected == {
        "no artist": 4,
        "no playlist": 2,
        "no title": 1,
        "not UTF-8": 1,
    }
    assert (
        "8 rows rejected (4 no artist, 2 no playlist, 1 no title, 1 not UTF-8)"
        in result.summary.text
    )


def test_reasons_are_counted_by_their_kind(tmp_path: Path) -> None:
    unreadable = [
        {"file": "f", "line": line, "reason": f"the position is no number: '{line}'", "text": ""}
        for line in range(1000)
    ]
    result = prepared(tmp_path, playlist("1", "ab"), unreadable=unreadable)
    assert result.summary.rejected == {"the position is no number": 1000}
    assert len({reject["reason"] for reject in result.rejects}) == 1000


def test_the_text_omits_rejects_if_there_are_none(tmp_path: Path) -> None:
    result = prepared(tmp_path, playlist("1", "ab") + playlist("2", "bc"))
    assert result.summary.text == "2 playlists, 3 songs of 1 artists"
    assert result.rejects == []


def test_an_error_is_raised_if_all_playlists_are_too_short(tmp_path: Path) -> None:
    rows = [*playlist("1", "ab"), *playlist("2", "c"), row("", "x", playlist_id="3")]
    with pytest.raises(PlaylistError) as caught:
        prepared(tmp_path, rows, min_songs=3)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "no playlist has 3 songs or more",
        "4 rows gave 2 shorter playlists and 1 rejected rows",
        "--column playlist_id=NAME",
        "--min-songs",
    ):
        assert part in message


def test_no_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PlaylistError, match="0 rows gave 0 shorter playlists"):
        prepared(tmp_path, [])


def test_the_name_of_the_folder_may_have_quotes_and_wildcards(tmp_path: Path) -> None:
    folder = tmp_path / "it's [a] *?"
    folder.mkdir()
    assert prepared(folder, playlist("1", "ab")).titles() == {"1": "ab"}
