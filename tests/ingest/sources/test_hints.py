"""Hints and error messages about unusual files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.console.progress import SilentReporter
from catalog.errors import ColumnError, FileError
from ingest.sources.options import ReadOptions
from ingest.sources.read import read_files
from tests.support.reading import read

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "songs.csv"


def test_a_date_in_the_format_of_last_fm(path: Path) -> None:
    path.write_text('pid,artist,title,timestamp\n1,a,b,"04 Apr 2010, 13:45"\n')
    assert read(path)[1][0]["position"] == 1270388700.0


def test_remark_if_most_positions_are_neither_numbers_nor_times(path: Path) -> None:
    rows = "".join(f"1,a,b{n},04/05/2010 {n}\n" for n in range(3))
    path.write_text("pid,artist,title,timestamp\n" + rows)
    account, _, unreadable = read(path)
    assert len(unreadable) == 3
    (remark,) = account.notes[0].remarks
    assert "use --column position= to keep the order of the file" in remark
    path.write_text("pid,artist,title,pos\n1,a,b,x\n1,a,c,1\n")
    assert read(path)[0].notes[0].remarks == ()


def test_each_remark_is_reported_once(tmp_path: Path) -> None:
    lines: list[str] = []

    class RecordingReporter(SilentReporter):
        def say(self, text: str) -> None:
            lines.append(text)

    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path in paths:
        path.write_text("pid,artist,title,pos\n1,a,b,x\n")
    read_files(paths, {}, tmp_path / "rows", tmp_path / "unreadable", RecordingReporter())
    assert len(lines) == 1
    assert lines[0].startswith("  note       a.csv: most of 'pos' is neither a number nor a time")


def test_a_long_field_of_an_unused_column_rejects_no_row(path: Path) -> None:
    long = "y" * 200_000
    path.write_text(f'pid,artist,title,descr\n1,a,b,"{long}\nz"\n1,c,d,e\n')
    _, rows, unreadable = read(path)
    assert [row["title"] for row in rows] == ["b", "d"]
    assert unreadable == []


def test_message_about_a_file_without_a_header_names_the_option(path: Path) -> None:
    path.write_text("u1\t2009-05-04T23:08:57Z\tm1\tDeep Dish\tFlashdance\n" * 2)
    with pytest.raises(ColumnError, match=r"use --no-header: .*1 \('u1'\), .*5 \('Flashdance'\)"):
        read(path)
    path.write_text("1,a,b\n1,c,d\n")
    with pytest.raises(ColumnError, match=r"the columns are called 1 \('1'\), 2 \('a'\)"):
        read(path, options=ReadOptions(header=False))
    path.write_text("pid,artist,name\n1,a,b\n")
    with pytest.raises(ColumnError) as caught:
        read(path)
    assert "--no-header" not in str(caught.value)


def test_a_file_without_artists_is_read_with_a_note(path: Path) -> None:
    path.write_text("order_id,product,price\n1,milk,2\n1,bread,3\n")
    account, rows, unreadable = read(path)
    assert [(row["playlist_id"], row["title"], row["artist"]) for row in rows] == [
        ("1", "milk", None),
        ("1", "bread", None),
    ]
    assert unreadable == []
    (remark,) = account.notes[0].remarks
    assert remark == (
        "no column for the artist: items are identified by 'product' alone; if that is right, "
        "use --column artist=, else name the column of the artist (one of 'price')"
    )
    assert read(path, {"artist": ""})[0].notes[0].remarks == ()


def test_an_item_without_a_title_is_shown_by_its_id(path: Path) -> None:
    path.write_text("userId,movieId,rating,timestamp\n1,318,5,964982703\n1,0527,4,964982931\n")
    rows = read(path)[1]
    assert [(row["title"], row["track_id"]) for row in rows] == [("318", "318"), ("0527", "0527")]
    assert [(row["owner"], row["position"]) for row in rows] == [("1", 964982703), ("1", 964982931)]


def test_orders_in_json(path: Path) -> None:
    path.write_text(
        '{"order_id": 7, "items": [{"product": "milk", "price": 2}, {"product": "bread"}]}\n'
        '{"order_id": 8, "items": [{"product": "milk"}]}\n'
    )
    rows = read(path)[1]
    assert [(row["playlist_id"], row["title"]) for row in rows] == [
        ("7", "milk"),
        ("7", "bread"),
        ("8", "milk"),
    ]


def test_a_line_that_names_the_delimiter(path: Path) -> None:
    path.write_bytes(b"sep=;\r\npid;artist;title\r\n1;a;b,c\r\n")
    assert [(row["title"], row["line"]) for row in read(path)[1]] == [("b,c", 3)]
    path.write_text('"sep=|"\npid|artist|title\n1|a|b\n')
    assert read(path)[1][0]["title"] == "b"


def test_parquet_under_another_format(path: Path) -> None:
    pq.write_table(pa.table({"pid": [1], "artist": ["a"], "title": ["b"]}), path)
    with pytest.raises(FileError, match="is a Parquet file, not csv: leave --format out"):
        read(path, options=ReadOptions(format="csv"))
