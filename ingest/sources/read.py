"""Playlist files to one table of rows, and one of the records that could not be read."""

from __future__ import annotations

import os
from collections.abc import Mapping  # noqa: TC003 -- pydantic reads the annotations
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.errors import EmptyFileError, FileError, StorageError
from ingest.sources.columns import ROLES
from ingest.sources.detect import Opened, open_input, readable, tallies_of
from ingest.sources.files import Inputs, find_inputs, state_of
from ingest.sources.payload import PREFIX, row_type
from ingest.sources.source import AUTO, Batch, How, Refusal
from ingest.sources.timestamps import to_positions
from ingest.sources.usable import unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from catalog.progress import Reporter
    from ingest.sources.files import Input
    from ingest.sources.payload import Tally

ROWS = pa.schema(
    [("file", pa.string()), ("line", pa.int64())]
    + [(role, pa.float64() if role == "position" else pa.string()) for role in ROLES]
)
UNREADABLE = pa.schema(
    [("file", pa.string()), ("line", pa.int64()), ("reason", pa.string()), ("text", pa.string())]
)
_LONGEST_TEXT = 500  # characters
_COMPRESSION = "snappy"
_UNPLACED = "the position is neither a number nor a time"
_SAID = 5  # empty files that are named while reading; the account has all
_LOOK = 1 << 20  # to look at a file takes about as long as to read so many bytes of it


@dataclass(frozen=True)
class FileNote:
    """How one file was understood: its kind, its column for each role, and what it gave.

    `remarks` say what is odd about it.
    """

    file: str
    kind: str
    columns: Mapping[str, str]
    rows: int
    unreadable: int
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReadAccount:
    """What reading gave: every record of the files is a row or unreadable.

    `payload` has, for each payload field, its kind, in how many rows it is filled, empty, or wrong
    (not of its kind), and examples of the last. `passed_over` are files in folders and archives
    that are no playlist files by their names; `empty` says of files beside others that they hold no
    record.
    """

    files: int
    rows: int
    unreadable: int
    notes: tuple[FileNote, ...]
    payload: Mapping[str, Mapping[str, Any]]
    passed_over: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()


def read_files(
    files: Sequence[Path] | Inputs,
    given: Mapping[str, str],
    rows_path: Path,
    unreadable_path: Path,
    reporter: Reporter,
    how: How = AUTO,
) -> ReadAccount:
    """Write the records of `files` to `rows_path`, and those that cannot be read beside them.

    `given` maps roles (see `ingest.sources.columns.ROLES`) to column names. Rows have the columns
    of `ROWS`, with values as they stand in the file, in its order, and those of `how.payload`;
    `line` is the line (of Parquet: the row; of a JSON list: the song) on which the record starts,
    from 1. Unreadable records have the columns of `UNREADABLE`. Both appear when they are complete,
    or not at all. A file that holds no record is passed over, unless no other file holds any.

    Raises FileError and ColumnError for what is wrong with the files, StorageError for what is
    wrong with the folder written to.
    """
    inputs = files if isinstance(files, Inputs) else find_inputs(files)
    with reporter.task("read") as task:
        size = sum(path.stat().st_size for path in inputs.paths)
        look = min(size // 4, len(inputs.files) * _LOOK)
        total = look + size
        opened, empty = _open_all(
            inputs, given, how, lambda share: task.advance(look * share, total)
        )
        for nothing in empty[:_SAID]:
            reporter.say(f"  {'note':<10} {nothing}: passed over")
        tallies = tallies_of(opened, how)
        extras = [pa.field(PREFIX + name, row_type(tally.kind)) for name, tally in tallies.items()]
        schema = pa.schema([*ROWS, *extras])
        notes: list[FileNote] = []
        done = look
        with _staged({rows_path: schema, unreadable_path: UNREADABLE}) as (to_rows, to_unreadable):
            for one in opened:
                rows = unreadable = unplaced = 0
                batch_done = 0
                for batch in _guarded(one.source.batches(one.columns), one.input):
                    table, refused = _checked(batch, one, schema, tallies)
                    _write(to_rows, rows_path, table)
                    _write(to_unreadable, unreadable_path, _refusals(refused, one.input.label))
                    rows += table.num_rows
                    unreadable += len(refused)
                    unplaced += sum(one.reason.startswith(_UNPLACED) for one in refused)
                    batch_done = batch.done
                    task.advance(done + batch_done, total)
                    if batch_done > one.state[0]:
                        break  # it grows, perhaps faster than we read
                _require_unchanged(one)
                done += batch_done if one.input.member else one.state[0]
                notes.append(_note(one, rows, unreadable, unplaced))
                for remark in dict.fromkeys(notes[-1].remarks):
                    if not any(remark in note.remarks for note in notes[:-1]):
                        reporter.say(f"  {'note':<10} {one.input.label}: {remark}")
        account = ReadAccount(
            len(opened),
            sum(note.rows for note in notes),
            sum(note.unreadable for note in notes),
            tuple(notes),
            {name: tally.as_json() for name, tally in tallies.items()},
            inputs.passed_over,
            tuple(empty),
        )
        task.result(summary(account))
    return account


def summary(account: ReadAccount) -> str:
    """The account in a line."""
    kinds = "; ".join(dict.fromkeys(note.kind for note in account.notes))
    files = f"{account.files:,} {_files(account.files)}"
    text = f"{account.rows:,} rows of {files} ({kinds}), {account.unreadable:,} unreadable"
    if account.passed_over:
        text += f"; {len(account.passed_over):,} other files passed over"
    if account.empty:
        text += f"; {len(account.empty):,} empty {_files(len(account.empty))} passed over"
    for name, tally in account.payload.items():
        if tally["wrong"]:
            text += f"; {name}: {tally['wrong']:,} values are no {tally['kind']}"
    return text


def _files(count: int) -> str:
    return "file" if count == 1 else "files"


def _open_all(
    inputs: Inputs, given: Mapping[str, str], how: How, on_share: Callable[[float], None]
) -> tuple[list[Opened], list[str]]:
    """Return the files that hold records, and what to say of those that hold none.

    `on_share(done)` is called with the share of the files that have been opened. Raises
    `EmptyFileError` when every file is empty.
    """
    opened: list[Opened] = []
    empty: list[str] = []
    for at, file in enumerate(inputs.files, start=1):
        try:
            opened.append(open_input(file, given, how))
        except EmptyFileError as error:
            empty.append(str(error))
        on_share(at / len(inputs.files))
    if opened:
        return opened, empty
    if len(empty) == 1:
        raise EmptyFileError(empty[0])
    raise EmptyFileError(f"all {len(empty):,} files are empty; of the first: {empty[0]}")


def _note(file: Opened, rows: int, unreadable: int, unplaced: int) -> FileNote:
    names = {role: name for role, name in file.columns.items() if role[: len(PREFIX)] != PREFIX}
    remarks = list(file.source.remarks)
    if unplaced > rows:
        remarks.append(
            f"most of '{file.columns['position']}' is neither a number nor a time such as "
            f"2010-04-04 13:45: say --column position= to keep the order of the file"
        )
    return FileNote(file.input.label, file.source.kind, names, rows, unreadable, tuple(remarks))


def _require_unchanged(file: Opened) -> None:
    if state_of(file.input.path) != file.state:
        raise changed(file.input.path)


def changed(path: Path) -> FileError:
    """What to raise for a file that is not what it was."""
    return FileError(f"{path} changed while it was read: wait until it is complete, then try again")


def _checked(
    batch: Batch, file: Opened, schema: pa.Schema, tallies: Mapping[str, Tally]
) -> tuple[pa.Table, list[Refusal]]:
    """The rows of `batch` in the columns of `schema`, and all its refusals, by line."""
    fields, line = dict(batch.fields), batch.line
    wrong = np.zeros(len(line), bool)
    refused = list(batch.refused)

    def refuse(flags: NDArray[np.bool_], reason: str, shown: pa.Array | None = None) -> None:
        for i in np.flatnonzero(flags & ~wrong).tolist():
            said = reason if shown is None else f"{reason}: {str(shown[i])[:40]!r}"
            refused.append(Refusal(int(line[i]), said, batch.text(i)))
        np.logical_or(wrong, flags, out=wrong)

    for role, values in batch.fields.items():
        if role in ROLES and pa.types.is_string(values.type):
            for flags, reason in unusable(values):
                refuse(flags, f"the {role} {reason}")
    refuse(_repeated_header(batch, file.columns), "the header again")
    if "position" in fields:
        text = fields["position"]
        fields["position"], unplaced = to_positions(text)
        refuse(unplaced, _UNPLACED, text)
    if wrong.any():
        right = pa.array(np.flatnonzero(~wrong))
        line = line[~wrong]
        fields = {role: values.take(right) for role, values in fields.items()}
    refused.sort(key=lambda refusal: refusal.line)
    for name, tally in tallies.items():
        fields[PREFIX + name] = tally.convert(fields[PREFIX + name], file.input.label, line)
    columns = [pa.repeat(pa.scalar(file.input.label), len(line)), pa.array(line)]
    for role in schema.names[2:]:
        missing = pa.nulls(len(line), schema.field(role).type)
        columns.append(fields.get(role, missing))
    return pa.table(columns, schema=schema), refused


def _repeated_header(batch: Batch, columns: Mapping[str, str]) -> NDArray[np.bool_]:
    """Which rows say the names of their columns, as where files were put one after another."""
    same = np.ones(len(batch.line), bool)
    for role, name in columns.items():
        values = batch.fields[role]
        if role in {"artist", "title"} and pa.types.is_string(values.type) and same.any():
            same &= np.asarray(pc.fill_null(pc.equal(pc.utf8_trim_whitespace(values), name), False))
    return same


def _refusals(refused: Sequence[Refusal], label: str) -> pa.Table:
    columns = {
        "file": [label] * len(refused),
        "line": [refusal.line for refusal in refused],
        "reason": [refusal.reason for refusal in refused],
        "text": [refusal.text[:_LONGEST_TEXT] for refusal in refused],
    }
    return pa.table(columns, schema=UNREADABLE)


def _guarded(batches: Iterator[Batch], file: Input) -> Iterator[Batch]:
    with readable(file):
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
