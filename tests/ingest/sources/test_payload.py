"""Payload columns: additional columns that are stored with each song."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.console.progress import SilentReporter
from catalog.embedded.store import EmbeddedStore
from catalog.errors import ColumnError, InputError
from catalog.model import Condition, Filter
from catalog.schema import RESERVED_FIELDS
from ingest import pipeline
from ingest.sources.options import ReadOptions
from ingest.sources.values.payload import (
    PayloadColumn,
    PayloadTally,
    parse_payload_column,
    parse_payload_columns,
)
from tests.support.prepared import prepared, row
from tests.support.reading import read
from tests.support.road import QUICK

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "extra"),
    [
        ("album", PayloadColumn("album", "album")),
        ("year:integer", PayloadColumn("year", "year", "integer")),
        ("y=Release Year:integer", PayloadColumn("y", "Release Year", "integer")),
        ("Album Name", PayloadColumn("Album_Name", "Album Name")),
        ("a=b:c:float", PayloadColumn("a", "b:c", "float")),
        ("a=tracks.album", PayloadColumn("a", "tracks.album")),
    ],
)
def test_payload_columns_are_parsed(text: str, extra: PayloadColumn) -> None:
    assert parse_payload_column(text) == extra


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("year:number", "the kinds are keyword, integer"),
        ("=x", "write FIELD=COLUMN:KIND"),
        ("x=", "write FIELD=COLUMN:KIND"),
        ("2x=y", "write FIELD"),
        ("a.b=y", "write FIELD"),
        *[(name, "every song has a field") for name in sorted(RESERVED_FIELDS)],
        ("seeds=x", "every song has a field"),
        ("Playlists=genre", "every song has a field 'playlists' already"),
        ("SONG=genre", "every song has a field 'song' already"),
        ("Title=genre", "every song has a field 'title' already"),
    ],
)
def test_text_that_does_not_name_a_field(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_payload_column(text)


def test_two_fields_with_the_same_name() -> None:
    with pytest.raises(InputError, match="two fields are called 'a'"):
        parse_payload_columns(["a", "a=b"])


def test_two_fields_whose_names_differ_only_in_case() -> None:
    with pytest.raises(InputError, match="two fields are called 'Year' and 'year': give one"):
        parse_payload_columns(["Year", "year=Year:integer"])


def test_integers_beyond_int64_are_wrong_values() -> None:
    values = pa.array([2**63 + 5, 2**63 - 1, None], pa.uint64())
    tally = PayloadTally("integer")
    assert tally.convert(values, "f", np.arange(3)).to_pylist() == [None, 2**63 - 1, None]
    assert (tally.wrong, tally.filled, tally.empty) == (1, 1, 1)
    assert tally.examples == ["'9223372036854775813' (f, line 0)"]
    assert PayloadTally("float").convert(values, "f", np.arange(3)).to_pylist()[0] == 2.0**63


def test_an_unusable_value_is_left_out_and_its_row_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    long, nul = "y" * 20_000, "a\0b"
    rows = "".join(f"1,A,{title},{x}\n" for title, x in (("a", long), ("b", nul), ("c", "x")))
    path.write_text("pid,artist,title,descr\n" + rows)
    for kind in ("text", "keyword", "integer"):
        account, actual, _ = read(
            path, options=ReadOptions(payload=parse_payload_columns([f"descr:{kind}"]))
        )
        assert [item["title"] for item in actual] == ["a", "b", "c"]
        assert actual[0]["payload:descr"] is None
        assert actual[1]["payload:descr"] is None
        assert account.payload["descr"].wrong == (3 if kind == "integer" else 2)


def test_infinity_is_text(tmp_path: Path) -> None:
    path = tmp_path / "songs.json"
    song = '"pid": 1, "artist": "A", "title": "a"'
    path.write_text(f'[{{{song}, "year": ""}}, {{{song}, "year": Infinity}}]')
    account, rows, _ = read(path, options=ReadOptions(payload=parse_payload_columns(["year"])))
    assert (account.rows, rows[1]["payload:year"]) == (2, "inf")


LINES = np.arange(2, 20)


@pytest.mark.parametrize(
    ("kind", "values", "result", "wrong"),
    [
        ("keyword", [" x ", "", None, "\u00a0"], ["x", None, None, None], 0),
        ("text", ["x y"], ["x y"], 0),
        ("integer", ["1", " 2 ", "3.0", "+4", "-5"], [1, 2, 3, 4, -5], 0),
        (
            "integer",
            ["1", "x", "1.5", "", "1e3", "9" * 30, "1_0"],
            [1, None, None, None, 1000, None, None],
            4,
        ),
        ("integer", ["9007199254740993", "x"], [9007199254740993, None], 1),
        ("float", ["1", "1.5", "nan", "inf", "x", "1_0"], [1.0, 1.5, None, None, None, None], 4),
        ("boolean", ["True", "no", "1", "maybe", ""], ["true", "false", "true", None, None], 1),
        ("integer", pa.array([1.0, 2.5, float("nan"), None]), [1, None, None, None], 1),
        ("integer", pa.array([1, None], pa.uint8()), [1, None], 0),
        ("float", pa.array([1, None]), [1.0, None], 0),
        ("float", pa.array([Decimal("1.5")]), [1.5], 0),
        ("boolean", pa.array([True, False, None]), ["true", "false", None], 0),
        ("keyword", pa.array([True, None]), ["true", None], 0),
        ("keyword", pa.array([1.0, 1.5]), ["1", "1.5"], 0),
        ("keyword", pa.array([dt.date(2020, 1, 2)]), ["2020-01-02"], 0),
        ("integer", pa.array([dt.date(2020, 1, 2)]), [None], 1),
    ],
)
def test_values_by_kind(kind: Any, values: Any, result: list[Any], wrong: int) -> None:
    tally = PayloadTally(kind)
    array = values if isinstance(values, pa.Array) else pa.array(values, pa.string())
    assert tally.convert(array, "f.csv", LINES).to_pylist() == result
    assert tally.wrong == wrong
    assert tally.filled == sum(value is not None for value in result)
    assert tally.filled + tally.empty + tally.wrong == len(result)
    assert len(tally.examples) == min(wrong, 5)


@given(
    values=st.lists(
        st.none() | st.text(max_size=4) | st.sampled_from(["1", "0.5", "true", "1e999"])
    ),
    kind=st.sampled_from(["keyword", "integer", "float", "boolean", "text"]),
)
def test_every_value_is_filled_empty_or_wrong(values: list[str | None], kind: Any) -> None:
    tally = PayloadTally(kind)
    result = tally.convert(pa.array(values, pa.string()), "f", np.arange(len(values)))
    assert tally.filled + tally.empty + tally.wrong == len(values) == len(result)
    assert result.null_count == tally.empty + tally.wrong


def test_wrong_values_are_reported_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    path.write_text("pid,artist,title,year\n1,a,b,1999\n1,c,d,soon\n1,,e,later\n1,f,g,\n")
    account, rows, unreadable = read(
        path, options=ReadOptions(payload=parse_payload_columns(["year:integer"]))
    )
    assert [row["payload:year"] for row in rows] == [1999, None, None, None]
    assert unreadable == []
    assert account.payload == {
        "year": PayloadTally(
            kind="integer",
            filled=1,
            empty=1,
            wrong=2,
            examples=["'soon' (songs.csv, line 3)", "'later' (songs.csv, line 4)"],
        )
    }


def test_a_payload_column_that_the_file_lacks(tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    path.write_text("pid,artist,title\n1,a,b\n")
    with pytest.raises(ColumnError, match=r"no column 'albun' \(--payload albun\).*'title'"):
        read(path, options=ReadOptions(payload=parse_payload_columns(["albun"])))


def test_kinds_come_from_typed_files(tmp_path: Path) -> None:
    path = tmp_path / "songs.parquet"
    columns = {"year": [1999, None], "loud": [1.5, 2.0], "live": [True, False], "mood": ["a", "b"]}
    base = {"pid": [1, 1], "artist": ["a", "b"], "title": ["x", "y"]}
    pq.write_table(pa.table(base | columns), path)
    account, rows, _ = read(
        path, options=ReadOptions(payload=parse_payload_columns([*columns, "text=year:text"]))
    )
    kinds = {name: tally.kind for name, tally in account.payload.items()}
    assert kinds == {
        "year": "integer",
        "loud": "float",
        "live": "boolean",
        "mood": "keyword",
        "text": "text",
    }
    values = [rows[0][f"payload:{name}"] for name in kinds]
    assert values == [1999, 1.5, "true", "a", "1999"]


def test_the_value_of_a_song_is_the_most_frequent_one_of_its_rows(tmp_path: Path) -> None:
    def rows_of(title: str, *albums: str | None) -> list[dict[str, Any]]:
        return [
            row("A", title, playlist_id=f"{title}{at}", **{"payload:album": album})
            for at, album in enumerate(albums)
        ]

    rows = [
        *rows_of("x", "One", "Two", "Two", None, None, None),
        *rows_of("y", "Z", "B", "Z", "B"),
        *rows_of("z", None, None),
    ]
    rows += [
        row("A", "w", playlist_id=item["playlist_id"], **{"payload:album": "W"}) for item in rows
    ]
    for _ in range(2):
        actual = prepared(tmp_path, rows, fields=["album"])
        albums = {song["title"]: song["album"] for song in actual.songs}
        assert albums == {"x": "Two", "y": "B", "z": None, "w": "W"}
        rows.reverse()


def test_a_payload_field_of_a_file_can_be_filtered_on(tmp_path: Path) -> None:
    lines = ["pid,artist,title,album,year,live"]
    for playlist in range(60):
        for song in range(6):
            n = (playlist + song * song) % 30
            lines.append(f"{playlist},A{n % 4},T{n},Album {n % 3},{1990 + n},{n % 2}")
    file = tmp_path / "songs.csv"
    file.write_text("\n".join(lines) + "\n")
    how = ReadOptions(payload=parse_payload_columns(["album", "year:integer", "live:boolean"]))
    home = EmbeddedStore(tmp_path / "home")
    outcome = pipeline.run(
        [file], home, tmp_path / "work", QUICK, SilentReporter(), pipeline.RunOptions(reading=how)
    )
    assert outcome.manifest.payload == {"album": "keyword", "year": "integer", "live": "keyword"}
    release = home.open()
    where = Filter(
        conditions=(
            Condition("album", any_of=("Album 1",)),
            Condition("year", minimum=2000),
            Condition("live", any_of=("true",)),
        )
    )
    songs = [point.song for point in asyncio.run(release.popular(100, where))]
    release.close()
    assert {song.title for song in songs} == {f"T{n}" for n in range(10, 30) if n % 6 == 1}
    for song in songs:
        n = int(song.title[1:])
        assert song.extra == {"album": "Album 1", "year": 1990 + n, "live": "true"}
