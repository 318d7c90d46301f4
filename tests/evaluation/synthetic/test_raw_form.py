"""Synthetic playlists in the CSV form of the #nowplaying data set, with its malformed rows."""

from __future__ import annotations

import csv
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest

from catalog.console.progress import SilentReporter
from catalog.errors import StorageError
from evaluation.synthetic.playlists import Shape, generate
from evaluation.synthetic.raw_form import HEADER, write_raw
from ingest.sources.read import read_files

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 60_000

Fields = list[str]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw") / "playlists.csv"
    write_raw(path, ROWS, seed=0)
    return path


@pytest.fixture(scope="module")
def fields(raw: Path) -> list[Fields]:
    """Return the user, artist, title and playlist name of each row, without enclosing quotes."""
    lines = raw.read_bytes().decode().split("\n")
    assert lines.pop() == ""
    return [line[1:-1].split('","') for line in lines[1:]]


def test_the_file_has_the_header_and_the_number_of_rows(raw: Path, fields: list[Fields]) -> None:
    assert raw.read_bytes().startswith(HEADER)
    assert len(fields) == ROWS
    assert {len(row) for row in fields} == {4}


def test_every_row_is_read_back(raw: Path, fields: list[Fields], tmp_path: Path) -> None:
    account = read_files(
        [raw], {}, tmp_path / "rows.parquet", tmp_path / "bad.parquet", SilentReporter()
    )
    assert (account.rows, account.unreadable) == (ROWS, 0)
    table = pq.read_table(tmp_path / "rows.parquet")
    for column, role in enumerate(("owner", "artist", "title", "playlist_name")):
        assert table[role].to_pylist() == [row[column] for row in fields]


def test_malformed_fields_occur_at_the_rates_of_the_real_file(fields: list[Fields]) -> None:
    def share(mark: str) -> float:
        return float(np.mean([any(mark in field for field in row[1:]) for row in fields]))

    assert 0.0008 < share('"') < 0.008
    assert 0.012 < share(",") < 0.055
    assert 0.001 < np.mean([row[1] == "" for row in fields]) < 0.005
    names = {(row[0], row[3]) for row in fields}
    assert 0.015 < np.mean([name.endswith(" ") for _, name in names]) < 0.05


def test_some_names_begin_with_a_lone_quote(fields: list[Fields]) -> None:
    names = {(row[0], row[3]) for row in fields if row[3].startswith('"')}
    assert names
    assert all(name.count('"') == 1 for _, name in names)


def test_a_csv_reader_misreads_the_raw_form(raw: Path, fields: list[Fields]) -> None:
    with raw.open(encoding="utf-8", newline="") as file:
        read = list(csv.reader(file))[1:]
    assert read != fields


def test_playlists_are_sorted_by_title_in_code_point_order(fields: list[Fields]) -> None:
    playlists = defaultdict(list)
    for user, _, title, name in fields:
        playlists[user, name].append(title)
    assert len(playlists) > 500
    assert all(titles == sorted(titles) for titles in playlists.values())


def test_the_same_seed_writes_the_same_file(raw: Path, tmp_path: Path) -> None:
    write_raw(tmp_path / "again.csv", ROWS, seed=0)
    assert (tmp_path / "again.csv").read_bytes() == raw.read_bytes()
    write_raw(tmp_path / "other.csv", ROWS, seed=1)
    assert (tmp_path / "other.csv").read_bytes() != raw.read_bytes()


@pytest.mark.parametrize("rows", [100, 101, 5_000])
def test_small_files_have_the_number_of_rows(tmp_path: Path, rows: int) -> None:
    write_raw(tmp_path / "playlists.csv", rows, seed=3)
    assert (tmp_path / "playlists.csv").read_bytes().count(b"\n") == rows + 1


def test_a_path_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        write_raw(tmp_path / "none" / "playlists.csv", 100, seed=0)
    assert not list(tmp_path.iterdir())


def test_collections_are_very_long_playlists() -> None:
    shape = Shape(playlists=300, songs=60_000, longest=20_000, collections=0.02)
    lengths = np.diff(generate(shape, seed=0).offsets)
    assert 1 <= (lengths > 2_500).sum() <= 15
    assert np.median(lengths) < 60
