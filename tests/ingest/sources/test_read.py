import datetime as dt
import errno
import os
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.console.progress import SilentReporter
from catalog.errors import ColumnError, FileError, StorageError
from ingest.sources import read as reading
from ingest.sources.files import content as contents
from ingest.sources.read import read_files
from ingest.sources.tables import ROWS, UNREADABLE

HEADER = "pid,artist,title\n"


@pytest.fixture
def read(tmp_path):
    def read(*files, given=None):
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        account = read_files(
            list(files),
            given or {},
            out / "rows.parquet",
            out / "unreadable.parquet",
            SilentReporter(),
        )
        rows = pq.read_table(out / "rows.parquet")
        unreadable = pq.read_table(out / "unreadable.parquet")
        assert rows.schema.equals(ROWS)
        assert unreadable.schema.equals(UNREADABLE)
        assert (rows.num_rows, unreadable.num_rows) == (account.rows, account.unreadable)
        return account, rows.to_pylist(), unreadable.to_pylist()

    return read


@pytest.fixture
def write(tmp_path):
    def write(content, name="songs.csv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if isinstance(content, dict):
            pq.write_table(pa.table(content), path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_a_row_has_the_values_of_the_file(read, write):
    path = write(
        "user_id,session_id,Playlist,artist,track,timestamp,uri\n"
        "u1,s1, My list ,  A ,B,2020-01-01T00:00:10Z,spotify:1\n"
    )
    account, rows, unreadable = read(path)
    assert rows == [
        {
            "file": "songs.csv",
            "line": 2,
            "playlist_id": "s1",
            "playlist_name": " My list ",
            "owner": "u1",
            "artist": "  A ",
            "title": "B",
            "position": 1577836810.0,
            "track_id": "spotify:1",
        }
    ]
    assert unreadable == []
    assert account.notes[0].kind == "CSV, standard quoting"
    assert account.notes[0].columns["title"] == "track"


def test_columns_that_the_file_lacks_are_null(read, write):
    _, rows, _ = read(write(HEADER + "1,a,b\n"))
    assert {role for role, value in rows[0].items() if value is None} == {
        "playlist_name",
        "owner",
        "position",
        "track_id",
    }


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("-1.5e3", -1500.0),
        ("+3", 3.0),
        ("", None),
        ("1970-01-02", 86400.0),
        ("1970-01-01 00:00:01", 1.0),
        ("1970-01-01 00:00:01.5 UTC", 1.5),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("04 Apr 2010 13:45", 1270388700.0),
        ("Sun Apr 04 13:45:00 +0000 2010", 1270388700.0),
    ],
)
@pytest.mark.parametrize("others", [[], ["3"], ["1970-01-01T00:00:00Z", "3"]], ids=len)
def test_numbers_and_times_become_positions(read, write, text, number, others):
    lines = [f"1,a,b,{position}\n" for position in [text, *others]]
    _, rows, unreadable = read(write("pid,artist,title,pos\n" + "".join(lines)))
    assert rows[0]["position"] == number
    assert unreadable == []


@pytest.mark.parametrize("text", ["first", "nan", "inf", "1e999", "1_000", "2020-13-01"])
def test_position_that_is_neither_number_nor_time(read, write, text):
    account, rows, unreadable = read(
        write(f'pid,artist,title,pos\n"1",a,b,1\n"1",c,d,{text}\n1,e\n"1",f,g,2\n')
    )
    assert [row["position"] for row in rows] == [1.0, 2.0]
    assert unreadable[0] == {
        "file": "songs.csv",
        "line": 3,
        "reason": f"the position is neither a number nor a time: '{text}'",
        "text": f'"1",c,d,{text}',
    }
    assert unreadable[1]["line"] == 4
    assert (account.rows, account.unreadable) == (2, 2)


def test_text_of_an_unreadable_line_is_shortened(read, write):
    _, _, unreadable = read(write(HEADER + "1,a,b\n" + "x" * 9000 + "\n2,caf\\,b\n"))
    assert unreadable[0]["text"] == "x" * 500


def test_bytes_that_are_not_text_are_shown_escaped(read, write):
    good = "1,é,b\n1,c,d\n".encode()
    _, rows, unreadable = read(write(HEADER.encode() + good + b"1,caf\xe9,b\n"))
    assert len(rows) == 2
    assert unreadable[0]["text"] == "1,caf\\xe9,b"


def test_parquet_types_become_text(read, write):
    columns = {
        "pid": pa.array([1, 2], pa.int32()),
        "playlist": pa.array([1.0, None]),
        "user": pa.array(["u", "v"]).dictionary_encode(),
        "artist": pa.array(["é", None], pa.large_string()),
        "title": pa.array([b"x", b"y"], pa.binary()),
        "pos": pa.array([dt.datetime(1970, 1, 1, 0, 0, 2, tzinfo=dt.UTC), None]),
        "track_id": pa.array([Decimal("1.50"), None]),
    }
    account, rows, _ = read(write(columns, "songs.csv"))
    assert account.notes[0].kind == "Parquet"
    assert list(rows[0].values()) == ["songs.csv", 1, "1", "1", "u", "é", "x", 2.0, "1.50"]
    assert list(rows[1].values()) == ["songs.csv", 2, "2", None, "v", None, "y", None, None]


def test_positions_of_parquet_are_numbers_times_or_null(read, write):
    base = {"pid": ["1"] * 3, "artist": ["a"] * 3, "title": ["b"] * 3}
    _, rows, unreadable = read(write(base | {"pos": [1.5, float("nan"), float("inf")]}))
    assert [row["position"] for row in rows] == [1.5, None]
    assert unreadable[0]["line"] == 3
    assert unreadable[0]["text"] == "playlist_id=1, artist=a, title=b, position=inf"
    _, rows, unreadable = read(write(base | {"pos": ["2", "x", None]}))
    assert [row["position"] for row in rows] == [2.0, None]
    _, rows, _ = read(write(base | {"pos": [dt.date(1970, 1, 2)] * 3}))
    assert rows[0]["position"] == 86400.0


def test_parquet_text_that_is_not_utf8(read, write):
    path = write({"pid": [1, 2], "artist": [b"caf\xe9", b"a"], "title": ["x", "y"]})
    _, rows, unreadable = read(path)
    assert [row["line"] for row in rows] == [2]
    assert unreadable[0]["reason"] == "not valid UTF-8"
    assert unreadable[0]["text"] == "playlist_id=1, artist=caf\\xe9, title=x"


def test_parquet_column_that_cannot_be_text(read, write):
    length = pa.array([dt.timedelta(1)])
    path = write({"pid": [1], "artist": length, "title": ["x"]})
    with pytest.raises(ColumnError, match=r"'artist' \(artist\) holds duration"):
        read(path)


def test_several_files_in_order(read, write):
    first, second = write(HEADER + "1,a,b\n"), write({"pid": [2], "artist": ["c"], "title": ["d"]})
    second = second.rename(second.with_name("more"))
    first = write(HEADER + "1,a,b\n2,x\n")
    account, rows, unreadable = read(first, second)
    assert [(row["file"], row["line"]) for row in rows] == [("songs.csv", 2), ("more", 1)]
    assert unreadable[0]["file"] == "songs.csv"
    assert (account.files, account.rows, account.unreadable) == (2, 2, 1)
    assert [(note.rows, note.unreadable) for note in account.notes] == [(1, 1), (1, 0)]


def test_files_of_the_same_name_have_their_paths_as_labels(read, write):
    paths = [write(HEADER + "1,a,b\n", f"{folder}/songs.csv") for folder in "ab"]
    _, rows, _ = read(*paths)
    assert [row["file"] for row in rows] == [str(path) for path in paths]


def test_result_of_the_task_names_the_format(write, tmp_path):
    class RecordingReporter(SilentReporter):
        def task(self, title):
            self.title, self.progress, self.text = title, [], ""
            return self

        def __enter__(self):
            return self

        def __exit__(self, *exc):
            return None

        def advance(self, done, total=None):
            self.progress.append((done, total))

        def result(self, text):
            self.text = text

    path, reporter = write('"pid","artist","title"\n"1","a "b" c","d"\n'), RecordingReporter()
    read_files([path], {}, tmp_path / "rows", tmp_path / "unreadable", reporter)
    assert reporter.title == "read"
    assert reporter.text == "1 rows of 1 file (CSV, wrapped quotes), 0 unreadable"
    done, total = reporter.progress[-1]
    assert done == total >= path.stat().st_size


def _content(tmp_path):
    return sorted(path.name for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["missing.csv", "missing/songs.csv"])
def test_a_missing_file_is_refused(read, tmp_path, name):
    with pytest.raises(FileError, match="does not exist"):
        read(tmp_path / name)


def test_no_file_at_all_is_refused(read):
    with pytest.raises(FileError, match="no playlist file"):
        read()


def test_a_folder_without_playlist_files_is_refused(read, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing to read")
    with pytest.raises(FileError, match="the folder holds no playlist file"):
        read(tmp_path)


def test_an_empty_file_is_refused(read, write):
    with pytest.raises(FileError, match="is empty"):
        read(write(""))


def test_a_named_pipe_is_refused(read, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="not a regular file"):
        read(tmp_path / "pipe")


def test_file_without_permission(read, write, monkeypatch):
    path = write(HEADER + "1,a,b\n")

    def forbidden(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(FileError, match="check its permissions"):
        read(path)


@pytest.mark.parametrize("keep", [4, 20, -9])
def test_corrupt_parquet_is_refused(read, write, keep):
    path = write({"pid": [1], "artist": ["a"], "title": ["b"]})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileError, match="corrupt Parquet"):
        read(path)


def test_parquet_with_damaged_pages(read, write, tmp_path):
    path = write({"pid": [1] * 999, "artist": ["a"] * 999, "title": ["b"] * 999})
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 40 + content[44:])
    with pytest.raises(FileError, match="cannot be read"):
        read(path)
    assert _content(tmp_path) == []


def test_parquet_without_rows(read, write):
    with pytest.raises(FileError, match="no rows"):
        read(write({"pid": pa.array([], pa.string())}))


def test_file_that_changes_while_it_is_read(read, write, monkeypatch, tmp_path):
    path = write(HEADER + "1,a,b\n")

    def check(*arguments):
        with path.open("a") as handle:
            handle.write("2,c,d\n")
        return original(*arguments)

    original = reading._check
    monkeypatch.setattr(reading, "_check", check)
    with pytest.raises(FileError, match="changed while it was read"):
        read(path)
    assert _content(tmp_path) == []


def test_missing_columns_are_reported_before_anything_is_written(read, write, tmp_path):
    with pytest.raises(ColumnError, match=r"b\.csv: the columns found are 'x'"):
        read(write(HEADER + "1,a,b\n", "a.csv"), write("x\n1\n", "b.csv"))
    assert _content(tmp_path) == []


def test_given_columns_are_used(read, write):
    _, rows, _ = read(
        write("a,b,c\n1,2,3\n"), given={"playlist_id": "a", "artist": "b", "title": "c"}
    )
    assert [rows[0][role] for role in ("playlist_id", "artist", "title")] == ["1", "2", "3"]


def test_folder_that_cannot_be_written(write, tmp_path):
    path = write(HEADER + "1,a,b\n")
    with pytest.raises(StorageError, match="cannot write"):
        read_files([path], {}, tmp_path / "no" / "rows", tmp_path / "unreadable", SilentReporter())
    assert sorted(tmp_path.iterdir()) == [path]


def test_full_disk_leaves_the_old_files(read, write, monkeypatch, tmp_path):
    path = write(HEADER + "1,a,b\n")
    read(path)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    write(HEADER + "2,c,d\n")
    with pytest.raises(StorageError, match="the disk is full"):
        read(path)
    assert _content(tmp_path) == ["rows.parquet", "unreadable.parquet"]
    assert pq.read_table(tmp_path / "out" / "rows.parquet")["artist"].to_pylist() == ["a"]


@settings(max_examples=100)
@given(
    content=st.binary()
    | st.lists(st.sampled_from(["1,a,b,1\n", "2,", '"', "x\n", ",", "2020-01-01", "\r\n"])).map(
        lambda parts: ("pid,artist,title,pos\n" + "".join(parts)).encode()
    )
    | st.binary().map(lambda tail: b"PAR1" + tail),
    block=st.sampled_from([5, 1 << 20]),
)
def test_any_file_is_read_or_refused(tmp_path_factory, content, block):
    folder = tmp_path_factory.mktemp("any")
    path = folder / "songs"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents, "BLOCK_SIZE", block)
        try:
            account = read_files(
                [path], {}, folder / "rows", folder / "unreadable", SilentReporter()
            )
        except (FileError, ColumnError):
            assert list(folder.iterdir()) == [path]
            return
    assert account.rows == pq.read_metadata(folder / "rows").num_rows
    assert account.unreadable == pq.read_metadata(folder / "unreadable").num_rows
    if b'"' not in content:
        filled = [line for line in content.split(b"\n")[1:] if line.removesuffix(b"\r")]
        assert account.rows + account.unreadable == len(filled)


def test_real_files_are_read_without_rejects(read, shared_data):
    names = ["nowplaying_head.csv", "spotify_archive.tsv", "radio_sessions.parquet"]
    account, _, _ = read(*(shared_data / name for name in names))
    assert [(note.kind, note.rows, note.unreadable) for note in account.notes] == [
        ("CSV, wrapped quotes", 10_000, 0),
        ("TSV, no quoting", 33_124, 0),
        ("Parquet", 132_609, 0),
    ]
