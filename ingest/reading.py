"""Playlist files to one table of rows, and one of the records that could not be read."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.errors import FileError, StorageError
from ingest.columns import ROLES, find_columns
from ingest.delimited import open_delimited
from ingest.parquet import MAGIC, open_parquet
from ingest.positions import to_positions
from ingest.sources import Batch, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from catalog.reporting import Reporter
    from ingest.sources import Source

ROWS = pa.schema(
    [("file", pa.string()), ("line", pa.int64())]
    + [(role, pa.float64() if role == "position" else pa.string()) for role in ROLES]
)
UNREADABLE = pa.schema(
    [("file", pa.string()), ("line", pa.int64()), ("reason", pa.string()), ("text", pa.string())]
)
_LONGEST_TEXT = 500  # characters
_COMPRESSION = "snappy"


@dataclass(frozen=True)
class FileNote:
    """How one file was understood: its kind, its column for each role, and what it gave."""

    file: str
    kind: str
    columns: Mapping[str, str]
    rows: int
    unreadable: int


@dataclass(frozen=True)
class ReadAccount:
    """What reading gave: every record of the files is a row or unreadable."""

    files: int
    rows: int
    unreadable: int
    notes: tuple[FileNote, ...]


def read_files(
    files: Sequence[Path],
    given: Mapping[str, str],
    rows_path: Path,
    unreadable_path: Path,
    reporter: Reporter,
) -> ReadAccount:
    """Write the records of `files` to `rows_path`, and those that cannot be read beside them.

    `given` maps roles (see `ingest.columns.ROLES`) to column names. Rows have the columns of
    `ROWS`, with values as they stand in the file, in its order; `line` is the line (of Parquet:
    the row) on which the record starts, from 1. Unreadable records have the columns of
    `UNREADABLE`. Both appear when they are complete, or not at all.

    Raises FileError and ColumnError for what is wrong with the files, StorageError for what is
    wrong with the folder written to.
    """
    if not files:
        raise FileError("no playlist file was given")
    total = sum(_regular_size(path) for path in files)
    with reporter.task("read") as task:
        opened = [
            _opened(path, label, given) for path, label in zip(files, _labels(files), strict=True)
        ]
        notes: list[FileNote] = []
        done = 0
        with _staged({rows_path: ROWS, unreadable_path: UNREADABLE}) as (to_rows, to_unreadable):
            for file in opened:
                rows = unreadable = 0
                for batch in _guarded(file.source.batches(file.columns), file.path):
                    table, refused = _checked(batch, file.label)
                    _write(to_rows, rows_path, table)
                    _write(to_unreadable, unreadable_path, _refusals(refused, file.label))
                    rows += table.num_rows
                    unreadable += len(refused)
                    task.advance(done + batch.done, total)
                    if batch.done > file.state[0]:
                        break  # it grows, perhaps faster than we read
                _require_unchanged(file)
                done += file.state[0]
                notes.append(FileNote(file.label, file.source.kind, file.columns, rows, unreadable))
        account = ReadAccount(
            len(files),
            sum(note.rows for note in notes),
            sum(note.unreadable for note in notes),
            tuple(notes),
        )
        task.result(_summary(account))
    return account


def _summary(account: ReadAccount) -> str:
    kinds = "; ".join(dict.fromkeys(note.kind for note in account.notes))
    files = "1 file" if account.files == 1 else f"{account.files:,} files"
    return f"{account.rows:,} rows of {files} ({kinds}), {account.unreadable:,} unreadable"


def _labels(files: Sequence[Path]) -> list[str]:
    names = [path.name for path in files]
    return names if len(set(names)) == len(names) else [str(path) for path in files]


@dataclass(frozen=True)
class _Opened:
    path: Path
    label: str
    state: tuple[int, int, int]
    source: Source
    columns: Mapping[str, str]


def _opened(path: Path, label: str, given: Mapping[str, str]) -> _Opened:
    with _reading(path):
        state = _state(path)
        with path.open("rb") as handle:
            magic = handle.read(len(MAGIC))
        source: Source = open_parquet(path) if magic == MAGIC else open_delimited(path)
    return _Opened(path, label, state, source, find_columns(source.names, given, path))


def _require_unchanged(file: _Opened) -> None:
    with _reading(file.path):
        state = _state(file.path)
    if state != file.state:
        raise FileError(
            f"{file.path} changed while it was read: wait until it is complete, then try again"
        )


def _checked(batch: Batch, label: str) -> tuple[pa.Table, list[Refusal]]:
    """The rows of `batch` in the columns of `ROWS`, and all its refusals, by line."""
    fields, line = dict(batch.fields), batch.line
    refused = list(batch.refused)
    if "position" in fields:
        text = fields["position"]
        fields["position"], wrong = to_positions(text)
        if wrong.any():
            refused += [
                Refusal(
                    int(line[i]),
                    f"the position is neither a number nor a time: {str(text[int(i)])[:40]!r}",
                    batch.text(int(i)),
                )
                for i in np.flatnonzero(wrong)
            ]
            refused.sort(key=lambda refusal: refusal.line)
            right = np.flatnonzero(~wrong)
            line = line[right]
            fields = {role: values.take(pa.array(right)) for role, values in fields.items()}
    columns = [pa.repeat(pa.scalar(label), len(line)), pa.array(line)]
    for role in ROLES:
        missing = pa.nulls(len(line), ROWS.field(role).type)
        columns.append(fields.get(role, missing))
    return pa.table(columns, schema=ROWS), refused


def _refusals(refused: Sequence[Refusal], label: str) -> pa.Table:
    columns = {
        "file": [label] * len(refused),
        "line": [refusal.line for refusal in refused],
        "reason": [refusal.reason for refusal in refused],
        "text": [refusal.text[:_LONGEST_TEXT] for refusal in refused],
    }
    return pa.table(columns, schema=UNREADABLE)


def _regular_size(path: Path) -> int:
    with _reading(path):
        if path.is_dir():
            raise FileError(f"{path} is a folder: name the files in it")
        size = path.stat().st_size
    if not path.is_file():
        raise FileError(f"{path} is not a regular file: save it to one first")
    if size == 0:
        raise FileError(f"{path} is empty")
    return size


def _state(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise FileError(f"{path} does not exist") from error
    except PermissionError as error:
        raise FileError(f"{path} may not be read: check its permissions") from error
    except (OSError, pa.ArrowException) as error:
        raise FileError(f"{path} cannot be read: {error}") from error


def _guarded(batches: Iterator[Batch], path: Path) -> Iterator[Batch]:
    with _reading(path):
        yield from batches


@contextmanager
def _staged(schemas: Mapping[Path, pa.Schema]) -> Iterator[list[pq.ParquetWriter]]:
    """Writers of Parquet files that take their names at the end, when all are complete."""
    staged = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in schemas}
    writers: list[pq.ParquetWriter] = []
    try:
        for path, schema in schemas.items():
            with _writing(path):
                writers.append(pq.ParquetWriter(staged[path], schema, compression=_COMPRESSION))
        yield writers
        for path, writer in zip(schemas, writers, strict=True):
            with _writing(path):
                writer.close()
        for path in schemas:
            with _writing(path):
                staged[path].replace(path)
    finally:
        _discard(writers, staged.values())


def _discard(writers: Sequence[pq.ParquetWriter], paths: Iterable[Path]) -> None:
    """Close and remove what is left after a failure; after success nothing is."""
    for writer in writers:
        with suppress(OSError, pa.ArrowException):
            writer.close()
    for path in paths:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _write(writer: pq.ParquetWriter, path: Path, table: pa.Table) -> None:
    if table.num_rows:
        with _writing(path):
            writer.write_table(table)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"{path} cannot be written ({error}): check the folder and the space on its disk"
        ) from error
