"""Read playlist files into a table of rows and a table of unreadable records."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import EmptyFileError
from ingest.sources.account import FileNote, ReadAccount, summarize
from ingest.sources.columns.roles import ROLES, THIS_FILE
from ingest.sources.detect import open_file
from ingest.sources.files.content import SAMPLE_SIZE
from ingest.sources.files.find import SourceFiles, find_files, require_unchanged
from ingest.sources.formats.batch import NOT_TEXT, NOT_UTF8, describe_unread, quote
from ingest.sources.options import DEFAULT_OPTIONS, ReadOptions
from ingest.sources.tables import ROWS, UNREADABLE, open_table
from ingest.sources.values.payload import (
    PREFIX,
    PayloadTally,
    choose_kinds,
    find_unusable,
    row_type,
)
from ingest.sources.values.plays import find_uncounted
from ingest.sources.values.timestamps import to_positions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from catalog.console.progress import Reporter, Task
    from ingest.sources.detect import OpenedFile
    from ingest.sources.formats.batch import Batch
    from ingest.sources.tables import TableWriter
    from ingest.sources.values.payload import PayloadKind

_MAX_TEXT = 500  # maximum number of characters of an unreadable record
_MAX_SHOWN = 40  # maximum number of characters of a value in a reason
_MAX_EMPTY_SHOWN = 5  # maximum number of empty files reported during a run
_NO_POSITION = "the position is neither a number nor a time"
_DETECTION_SIZE = 1 << 20  # bytes that can be read in the time that detecting a format takes


def read_files(
    files: Sequence[Path] | SourceFiles,
    given: Mapping[str, str],
    rows_path: Path,
    unreadable_path: Path,
    reporter: Reporter,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> ReadAccount:
    """Write the rows of `files` to `rows_path`, and the unreadable records to `unreadable_path`.

    `given` maps roles (see `columns.roles`) to column names. Rows have the columns of
    `ROWS` and of `options.payload`, and are in file order with unchanged values. The column `line`
    is the number of the line on which the record starts, counted from 1. In Parquet files, it is
    the number of the row, and in JSON documents, the number of the song. Unreadable records have
    the columns of `UNREADABLE`. An output file appears only when it is complete. Files without
    records are skipped.

    Raises `FileError` and `ColumnError` if there is a problem with the files, `EmptyFileError` if
    no file has records, and `StorageError` if the output cannot be written.
    """
    sources = files if isinstance(files, SourceFiles) else find_files(files)
    with reporter.task("read") as task:
        detection_size = min(sources.size // 4, len(sources.files) * _DETECTION_SIZE)
        total = detection_size + sources.size
        opened: list[OpenedFile] = []
        empty: list[EmptyFileError] = []
        for number, file in enumerate(sources.files, start=1):
            try:
                opened.append(open_file(file, given, options))
            except EmptyFileError as error:
                empty.append(error)
            task.advance(detection_size * number / len(sources.files), total)
        _report_empty(opened, empty, reporter)
        tallies = _make_tallies(opened, options)
        schema = ROWS
        for name, tally in tallies.items():
            schema = schema.append(pa.field(PREFIX + name, row_type(tally.kind)))
        notes: list[FileNote] = []
        progress = _Progress(task, detection_size, total)
        with (
            open_table(rows_path, schema) as rows,
            open_table(unreadable_path, UNREADABLE) as unreadable,
        ):
            for source in opened:
                notes.append(_read_file(source, rows, unreadable, tallies, options, progress))
                for remark in dict.fromkeys(notes[-1].remarks):
                    if not any(remark in note.remarks for note in notes[:-1]):
                        reporter.say(f"  {'note':<10} {source.file.label}: {remark}")
        account = ReadAccount(
            len(opened),
            sum(note.rows for note in notes),
            sum(note.unreadable for note in notes),
            tuple(notes),
            tallies,
            sources.skipped,
            tuple(map(str, empty)),
        )
        task.result(summarize(account))
    return account


class _Progress:
    """The progress of reading: the total number of bytes read from all files so far."""

    def __init__(self, task: Task, done: int, total: int) -> None:
        self._task = task
        self._done = done
        self._total = total
        self._position = 0

    def advance(self, position: int) -> None:
        """Report progress. `position` is the number of bytes read from the current file."""
        self._position = position
        self._task.advance(self._done + position, self._total)

    def finish_file(self) -> None:
        """Add the bytes of the current file to the total, and continue with the next file."""
        self._done += self._position
        self._position = 0


def _report_empty(
    opened: Sequence[OpenedFile], empty: Sequence[EmptyFileError], reporter: Reporter
) -> None:
    """Report the files without records. Raises `EmptyFileError` if there are no other files."""
    if not opened:
        if len(empty) == 1:
            raise empty[0]
        raise EmptyFileError(f"all {len(empty):,} files are empty; of the first: {empty[0]}")
    for error in empty[:_MAX_EMPTY_SHOWN]:
        reporter.say(f"  {'note':<10} {error}: skipped")


def _make_tallies(opened: Sequence[OpenedFile], options: ReadOptions) -> dict[str, PayloadTally]:
    """Return a new tally for each payload field, with the kind that `choose_kinds` returns."""
    natural: list[dict[str, PayloadKind]] = []
    for source in opened:
        kinds = {
            column.role: source.content.kind_of(source.columns[column.role])
            for column in options.payload
        }
        natural.append({role: kind for role, kind in kinds.items() if kind is not None})
    return {
        name: PayloadTally(kind) for name, kind in choose_kinds(options.payload, natural).items()
    }


def _read_file(
    source: OpenedFile,
    rows: TableWriter,
    unreadable: TableWriter,
    tallies: Mapping[str, PayloadTally],
    options: ReadOptions,
    progress: _Progress,
) -> FileNote:
    """Write the records of a file to the two tables.

    Raises `FileError` if the file cannot be read, or changes while it is read.
    """
    counts: Counter[str] = Counter()
    late_names: dict[str, None] = {}
    unread_lists: dict[str, None] = {}
    left_out: Counter[str] = Counter()
    for batch in _read_batches(source):
        good, bad, uncounted = _check(batch, source, rows.schema, tallies, options.min_play)
        rows.write(good)
        unreadable.write(bad)
        left_out.update(uncounted)
        counts.update(rows=good.num_rows, unreadable=bad.num_rows)
        for reason in bad["reason"].to_pylist():
            counts["position"] += reason.startswith(_NO_POSITION)
            counts["text"] += reason == NOT_UTF8 or reason.endswith(NOT_TEXT)
        late_names |= dict.fromkeys(sorted(batch.late_names))
        unread_lists |= dict.fromkeys(batch.unread_lists)
        progress.advance(batch.position)
        if batch.position > source.file.state.size:
            break  # the file is growing, perhaps faster than it can be read
    require_unchanged(source.file)
    progress.finish_file()
    columns = {role: name for role, name in source.columns.items() if not role.startswith(PREFIX)}
    remarks = [*source.remarks, *source.content.remarks, *describe_unread(unread_lists)]
    if counts["position"] > counts["rows"]:
        remarks.append(
            f"most of '{columns['position']}' is neither a number nor a time such as "
            f"2010-04-04 13:45: use --column position= to keep the order of the file"
        )
    if counts["text"] and not options.encoding:
        remarks.append(
            f"records that are not valid text: {counts['text']:,}; if the file is not UTF-8, name "
            f"its encoding with --encoding"
        )
    if late_names:
        remarks.append(
            f"not read, because they do not occur in the first {SAMPLE_SIZE >> 20} MB: "
            f"{quote([*late_names])}: put a record that has them at the start of the file"
        )
    return FileNote(
        source.file.label,
        source.content.kind,
        columns,
        counts["rows"],
        counts["unreadable"],
        dict(+left_out),
        source.needs_artist,
        tuple(remarks),
    )


def _read_batches(source: OpenedFile) -> Iterator[Batch]:
    """Yield the batches of a file. Columns given as `THIS_FILE` contain the name of the file."""
    columns = {role: name for role, name in source.columns.items() if name != THIS_FILE}
    constants = dict.fromkeys(source.columns.keys() - columns.keys(), source.file.label)
    if "playlist_name" in constants:
        constants["playlist_name"] = source.file.stem
    for batch in source.content.read_batches(columns):
        count = len(batch.lines)
        fields = {role: pa.repeat(pa.scalar(text), count) for role, text in constants.items()}
        yield replace(batch, fields={**batch.fields, **fields}) if fields else batch


def _check(
    batch: Batch,
    source: OpenedFile,
    schema: pa.Schema,
    tallies: Mapping[str, PayloadTally],
    min_play: float,
) -> tuple[pa.Table, pa.Table, dict[str, int]]:
    """Return the rows of a batch, the unreadable records, and the numbers of ignored plays.

    Rows have the columns of `schema`. Ignored plays are counted by reason.
    """
    fields = dict(batch.fields)
    faults = dict(batch.faults)

    def reject(flags: NDArray[np.bool_], reason: str, values: pa.Array | None = None) -> None:
        for record in np.flatnonzero(flags).tolist():
            value = "" if values is None else f": {str(values[record])[:_MAX_SHOWN]!r}"
            faults.setdefault(record, reason + value)

    for role, values in batch.fields.items():
        if role in ROLES and pa.types.is_string(values.type):
            for flags, reason in find_unusable(values):
                reject(flags, f"the {role} {reason}")
    reject(_find_headers(batch, source.columns), "the header again")
    if "position" in fields:
        fields["position"], flags = to_positions(batch.fields["position"])
        reject(flags, _NO_POSITION, batch.fields["position"])
    label, lines = source.file.label, batch.lines
    unreadable = _to_unreadable(batch, faults, label)
    is_row = np.ones(len(lines), bool)
    is_row[list(faults)] = False
    left_out: Counter[str] = Counter()
    for flags, reason in find_uncounted(fields, source.columns, min_play):
        left_out.update({reason: int(np.count_nonzero(flags & is_row))})
        is_row &= ~flags
    if not is_row.all():
        kept = pa.array(np.flatnonzero(is_row))
        lines = lines[is_row]
        fields = {role: values.take(kept) for role, values in fields.items()}
    for name, tally in tallies.items():
        fields[PREFIX + name] = tally.convert(fields[PREFIX + name], label, lines)
    columns = [pa.repeat(pa.scalar(label), len(lines)), pa.array(lines)]
    for role in schema.names[2:]:
        missing = pa.nulls(len(lines), schema.field(role).type)
        columns.append(fields.get(role, missing))
    return pa.table(columns, schema=schema), unreadable, left_out


def _find_headers(batch: Batch, columns: Mapping[str, str]) -> NDArray[np.bool_]:
    """Return a mask of the records that repeat the header, as in concatenated files."""
    flags = np.ones(len(batch.lines), bool)
    for role, name in columns.items():
        values = batch.fields[role]
        if role in {"artist", "title"} and pa.types.is_string(values.type) and flags.any():
            is_name = pc.equal(pc.utf8_trim_whitespace(values), name)
            flags &= np.asarray(pc.fill_null(is_name, False))
    return flags


def _to_unreadable(batch: Batch, faults: Mapping[int, str], label: str) -> pa.Table:
    """Return the records with faults as a table, in file order."""
    records = sorted(faults)
    columns = {
        "file": [label] * len(records),
        "line": batch.lines[records].tolist() if records else [],
        "reason": [faults[record] for record in records],
        "text": [batch.show(record)[:_MAX_TEXT] for record in records],
    }
    return pa.table(columns, schema=UNREADABLE)
