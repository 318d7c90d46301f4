"""Folders, patterns and archives: selection, order and labels of the files to read."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.reading import read

if TYPE_CHECKING:
    from pathlib import Path

from catalog.errors import EmptyFileError, FileError
from ingest.sources.account import summarize
from ingest.sources.files.find import find_files
from ingest.sources.options import ReadOptions
from tests.support.corpus import GOOD, mpd, slice_of


def labels(*given: Path) -> list[str]:
    return [file.label for file in find_files(given).files]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for name in (
        "mpd.slice.10000-10999.json",
        "mpd.slice.2000-2999.json",
        "mpd.slice.0-999.json",
        "more/z.csv.gz",
        "README.md",
        ".hidden.csv",
        "_temporary/part.csv",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(GOOD)
    return folder


def test_a_folder_in_natural_order(folder: Path) -> None:
    assert labels(folder) == [
        "z.csv.gz",
        "mpd.slice.0-999.json",
        "mpd.slice.2000-2999.json",
        "mpd.slice.10000-10999.json",
    ]
    assert find_files([folder]).skipped == (str(folder / "README.md"),)


def test_a_pattern(folder: Path) -> None:
    assert labels(folder / "mpd.slice.[02]*.json") == [
        "mpd.slice.0-999.json",
        "mpd.slice.2000-2999.json",
    ]
    with pytest.raises(FileError, match="no file matches"):
        find_files([folder / "*.parquet"])


def test_a_file_that_looks_like_a_pattern(tmp_path: Path) -> None:
    path = tmp_path / "a[1]*.csv"
    path.write_bytes(GOOD)
    assert labels(path) == ["a[1]*.csv"]


def test_each_file_is_read_once_and_has_its_own_label(folder: Path, tmp_path: Path) -> None:
    twin = tmp_path / "z.csv.gz"
    twin.write_bytes(GOOD)
    first = folder / "more" / "z.csv.gz"
    assert labels(first, first) == ["z.csv.gz"]
    assert labels(first, twin) == [str(first), str(twin)]


def test_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("data/b10.csv", "data/b9.csv", "stats.txt", "__MACOSX/data/._b9.csv"):
            archive.writestr(name, GOOD)
    result = find_files([path])
    assert [file.label for file in result.files] == ["all.zip/data/b9.csv", "all.zip/data/b10.csv"]
    assert result.skipped == (f"{path}/stats.txt",)
    assert result.paths == [path]
    account, rows, _ = read(path)
    assert account.rows == 6
    assert account.passed_over == result.skipped
    assert {row["file"] for row in rows} == {file.label for file in result.files}


def test_an_archive_of_one_file_of_any_name(tmp_path: Path) -> None:
    path = tmp_path / "one.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("playlists", mpd(slice_of(0, "x")))
    assert read(path)[0].rows == 1


def test_an_archive_within_an_archive_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "nest.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inner.zip", b"x")
        archive.writestr("a.csv", GOOD)
    assert find_files([path]).skipped == (f"{path}/inner.zip",)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_archive_is_reported_in_one_line(method: int, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        rows = "".join(f"{i // 5},Artist {i % 97},Title {i * 7919 % 1000}\n" for i in range(900))
        archive.writestr("a.csv", "pid,artist,title\n" + rows)
    path, draw, messages = tmp_path / "all.zip", random.Random(1), []
    for _ in range(60):
        damaged = bytearray(packed.getvalue())
        damaged[draw.randrange(40, len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            read(path)
        except FileError as error:
            messages.append(str(error))
    assert len(messages) > 30
    assert not any("\n" in item for item in messages)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_archive_is_refused(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name in ("x.csv", "y.csv"):
            info = tarfile.TarInfo(name)
            info.size = len(GOOD)
            archive.addfile(info, io.BytesIO(GOOD))
    with pytest.raises(FileError, match=r"is a \.tar archive: unpack it first"):
        read(path)


@pytest.mark.parametrize("content", [GOOD, b"<html>404</html>", b"PK", bytes(range(200))])
def test_a_file_with_the_extension_zip_that_is_not_an_archive(
    content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"not a \.zip archive.*download it again, or rename"):
        read(path)


EMPTY = {
    "empty.json": b'{"info": {}, "playlists": []}',
    "indented.json": b'{\n "info": {},\n "playlists": [\n ]\n}',
    "list.json": b"[]",
    "no_songs.json": b'{"playlists": [{"name": "x", "pid": 3, "tracks": []}]}',
    "nothing.csv": b"",
    "header.csv": b"playlist_id,artist,title\n",
    "blank.jsonl": b"\n \n",
    "no_songs.jsonl": b'{"name": "x", "tracks": []}\n{"name": "y", "tracks": []}\n',
    "packed.csv.gz": gzip.compress(b""),
}


@pytest.mark.parametrize("name", [*EMPTY, "empty.parquet"])
def test_an_empty_file_is_skipped_unless_it_is_the_only_file(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    if name in EMPTY:
        (folder / name).write_bytes(EMPTY[name])
    else:
        pq.write_table(pa.table({"pid": [1], "artist": ["a"], "title": ["b"]})[:0], folder / name)
    with pytest.raises(EmptyFileError, match=name):
        read(folder)
    (folder / "good.json").write_bytes(mpd(slice_of(0, "x")))
    account, rows, _ = read(folder)
    assert (account.files, account.rows, len(rows)) == (1, 1, 1)
    (message,) = account.empty
    assert name in message
    assert "1 empty file skipped" in summarize(account)


def test_files_that_are_all_empty_are_an_error(tmp_path: Path) -> None:
    for name, content in EMPTY.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(EmptyFileError, match=f"all {len(EMPTY)} files are empty"):
        read(tmp_path)


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9])
def test_truncated_json_is_an_error(indent: int | None, share: float, tmp_path: Path) -> None:
    whole = mpd(*(slice_of(pid, "x", "y") for pid in range(9)), indent=indent)
    path = tmp_path / "a.json"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(FileError, match="is cut short: its JSON ends in the middle"):
        read(path)


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="holds no playlist file"):
        find_files([tmp_path])
    with pytest.raises(FileError, match="no playlist file was given"):
        find_files([])
    with pytest.raises(FileError, match="does not exist"):
        find_files([tmp_path / "none.csv"])


def test_plays_without_playlists_have_sessions(tmp_path: Path) -> None:
    path = tmp_path / "plays.tsv"
    path.write_text("user_1\t2009-05-04T23:08:57Z\tm1\tDeep Dish\tm2\tFlashdance\n" * 2)
    columns = {"owner": "1", "position": "2", "artist": "4", "title": "6"}
    account, rows, _ = read(path, columns, ReadOptions(header=False))
    assert account.notes[0].columns == columns
    assert rows[0]["position"] == 1241478537.0
    assert rows[0]["playlist_id"] is None
