"""The `catalog` stage: songs of catalog files are matched with songs of playlists, or added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.console.progress import SilentReporter
from catalog.song import song_id_of_keys, song_id_of_track
from ingest.prepare.catalog_songs import CatalogOptions, CatalogSummary, add_catalog_songs
from ingest.sources.account import FileNote, ReadAccount
from ingest.sources.tables import ROWS, UNREADABLE
from ingest.sources.values.payload import PayloadTally
from tests.support.prepared import numbered, prepared, row

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.sources.values.payload import PayloadKind
    from tests.support.prepared import Row


@dataclass(frozen=True)
class Added:
    """The output of the `catalog` stage. `before` are the songs of the playlists."""

    before: list[Row]
    songs: list[Row]
    rejects: list[Row]
    summary: CatalogSummary

    def listed(self) -> list[str]:
        return [song["title"] for song in self.songs if song["listed"]]

    def new(self) -> list[Row]:
        return self.songs[len(self.before) :]


def listed(artist: str | None = "A", title: str | None = "x", **fields: Any) -> Row:
    return row(artist, title, playlist_id="list.csv", **fields) | {"file": "list.csv"}


def add(
    folder: Path,
    plays: list[Row],
    rows: list[Row],
    kinds: dict[str, PayloadKind] | None = None,
    fields: tuple[str, ...] = (),
    *,
    merge: bool = False,
    needs_artist: bool = True,
) -> Added:
    """Run the `prepare` stage on `plays`, and the `catalog` stage on `rows` of a catalog file."""
    folder.joinpath("playlists").mkdir()
    first = prepared(folder / "playlists", plays, 1, merge_versions=merge, fields=fields)
    out = folder / "catalog"
    out.mkdir()
    table = pa.Table.from_pylist(numbered(rows), ROWS)
    for name in kinds or {}:
        values = pa.array([one.get(f"payload:{name}") for one in rows])
        table = table.append_column(f"payload:{name}", values)
    pq.write_table(table, out / "rows.parquet")
    pq.write_table(pa.Table.from_pylist([], UNREADABLE), out / "unreadable.parquet")
    note = FileNote("list.csv", "CSV", {}, len(rows), 0, {}, needs_artist)
    tallies = {name: PayloadTally(kind) for name, kind in (kinds or {}).items()}
    read = ReadAccount(1, len(rows), 0, (note,), tallies)
    options = CatalogOptions(merge, first.summary.track_ids, fields)
    songs = first.folder / "songs.parquet"
    summary = add_catalog_songs(songs, out, read, options, SilentReporter())
    after, rejects = (
        pq.read_table(out / f"{name}.parquet").to_pylist() for name in ("songs", "rejects")
    )
    return Added(first.songs, after, rejects, summary)


def plays(*titles: str, **fields: Any) -> list[Row]:
    return [row(title=title, playlist_id="p", **fields) for title in titles]


def test_new_songs_follow_the_songs_of_playlists(tmp_path: Path) -> None:
    added = add(tmp_path, plays("x", "y"), [listed("B", "New"), listed("a", " X ")])
    assert [
        {name: value for name, value in song.items() if name != "listed"}
        for song in added.songs[: len(added.before)]
    ] == added.before
    assert added.new() == [
        {
            "song": 2,
            "song_id": str(song_id_of_keys("b", "new")),
            "artist": "B",
            "title": "New",
            "artist_key": "b",
            "title_key": "new",
            "artist_keys": ["b"],
            "listed": True,
        }
    ]
    assert set(added.listed()) == {"x", "New"}
    assert (added.summary.songs, added.summary.new, added.summary.used) == (2, 1, 2)
    assert added.summary.text == "2 songs, 1 of them in no playlist file"


def test_songs_of_short_playlists_keep_their_numbers(tmp_path: Path) -> None:
    added = add(tmp_path, [*plays("x", "y"), row(title="z", playlist_id="q")], [listed(title="z")])
    assert (added.new(), added.listed()) == ([], ["z"])


def test_rows_without_artist_or_title_are_rejected(tmp_path: Path) -> None:
    rows = [listed(None, "t"), listed("A", None), listed("B", "t"), listed("B", "T")]
    added = add(tmp_path, plays("x", "y"), rows)
    assert [(one["file"], one["line"], one["reason"]) for one in added.rejects] == [
        ("list.csv", 2, "no artist"),
        ("list.csv", 3, "no title"),
    ]
    summary = added.summary
    assert (summary.rejected, summary.used, summary.songs) == (
        {"no artist": 1, "no title": 1},
        2,
        1,
    )
    assert "2 rows rejected (1 no artist, 1 no title)" in summary.text


def test_artists_are_not_needed_in_a_file_without_an_artist_column(tmp_path: Path) -> None:
    added = add(tmp_path, plays("x"), [listed(None, "t")], needs_artist=False)
    assert [(song["title"], song["artist_keys"]) for song in added.new()] == [("t", [])]


def test_track_ids_identify_songs_if_playlists_have_them(tmp_path: Path) -> None:
    rows = [
        listed(title="another spelling", track_id="t1"),
        listed(title="x", track_id="t3"),
        listed(title="Y"),
        listed(title="z"),
    ]
    tracks = [*plays("x", track_id="t1"), *plays("y", track_id="t2")]
    added = add(tmp_path, tracks, rows)
    # The row without a track id names the song t2 of playlists, by artist and title.
    assert {song["song_id"] for song in added.new()} == {
        str(song_id_of_track("t3")),
        str(song_id_of_keys("a", "z")),
    }
    assert [song["title"] for song in added.songs if song["listed"]][:2] == ["x", "y"]


def test_track_ids_are_ignored_if_playlists_have_none(tmp_path: Path) -> None:
    rows = [listed(title="x", track_id="t1"), listed(title="z", track_id="t2")]
    added = add(tmp_path, plays("x", "y"), rows)
    assert [song["song_id"] for song in added.new()] == [str(song_id_of_keys("a", "z"))]


def test_versions_are_merged_with_songs_of_playlists(tmp_path: Path) -> None:
    rows = [
        listed(title="x - 2011 Remaster", track_id="t5"),
        listed(title="z - 2011 Remaster", track_id="t6"),
        listed(title="z", track_id="t7"),
    ]
    added = add(tmp_path, plays("x", track_id="t1"), rows, merge=True)
    assert [song["title"] for song in added.new()] == ["z"]
    assert sorted(added.listed()) == ["x", "z"]


def test_credits_of_new_songs_are_split_by_names_of_playlists(tmp_path: Path) -> None:
    names = [*plays("x", artist="P"), *plays("y", artist="Q")]
    added = add(tmp_path, names, [listed("P, Q", "t"), listed("R, S", "t")])
    keys = {song["artist"]: song["artist_keys"] for song in added.new()}
    assert keys == {"P, Q": ["p, q", "p", "q"], "R, S": ["r, s"]}


def test_payload_values_fill_gaps_only(tmp_path: Path) -> None:
    rows = [
        listed(title="x", **{"payload:album": "other", "payload:year": 1990}),
        listed(title="y", **{"payload:album": "Y", "payload:year": None}),
        listed(title="z", **{"payload:album": "Z", "payload:year": 2020}),
    ]
    first = [*plays("x", **{"payload:album": "X"}), *plays("y", "w", **{"payload:album": None})]
    added = add(tmp_path, first, rows, {"album": "keyword", "year": "integer"}, ("album",))
    values = {song["title"]: (song["album"], song["year"]) for song in added.songs}
    assert values == {"x": ("X", 1990), "y": ("Y", None), "w": (None, None), "z": ("Z", 2020)}
    assert (added.summary.described, added.summary.new) == (2, 1)


def test_fields_of_playlists_alone_are_kept(tmp_path: Path) -> None:
    first = plays("x", **{"payload:album": "X"})
    added = add(tmp_path, first, [listed(title="z")], fields=("album",))
    assert [song["album"] for song in added.songs] == ["X", None]
