"""Reader for Parquet files: one song per row, or one playlist per row.

The songs of a playlist are in one list of structs, or in several parallel lists of plain values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.errors import ColumnError, EmptyFileError, FileError
from ingest.sources.columns.roles import (
    PLAY_ROLES,
    PLAYLIST_NUMBER,
    ColumnNames,
)
from ingest.sources.columns.song_lists import (
    are_songs,
    find_song_lists,
    has_usual_name,
    require_one_list,
)
from ingest.sources.files.encodings import find_undecodable
from ingest.sources.files.find import file_errors
from ingest.sources.formats.batch import NO_SONGS, NOT_UTF8, Batch, describe_unread
from ingest.sources.tables import CREDIT_SEPARATOR
from ingest.sources.values.payload import PREFIX, as_text, natural_kind
from ingest.sources.values.timestamps import to_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ingest.sources.files.find import SourceFile
    from ingest.sources.values.payload import PayloadKind

MAGIC = b"PAR1"
BATCH_SIZE = 1 << 16  # rows


@dataclass(frozen=True)
class Column:
    """A column of values in a Parquet file.

    `path` leads from a column of the file through nested structs to the values. `kind` is the type
    of the values. `in_list` is set if each row has a list of values.
    """

    path: tuple[str, ...]
    kind: pa.DataType
    in_list: bool = False


@dataclass(frozen=True)
class ParquetFile:
    """A Parquet file. `unread` contains the names of lists of songs that are not read."""

    file: SourceFile
    columns: Mapping[str, Column]
    names: ColumnNames
    row_count: int
    unread: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The format in words."""
        return "Parquet"

    @property
    def remarks(self) -> Sequence[str]:
        """A note for the user about lists of songs that are not read."""
        return describe_unread(self.unread)

    def kind_of(self, name: str) -> PayloadKind | None:
        """Return the payload kind of a column, or None if the column is text."""
        return natural_kind(self.columns[name].kind) if name in self.columns else None

    def read_batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        """Yield the records in file order, as batches. `columns` maps roles to column names.

        Raises `ColumnError` if the values of a column have a type other than text, number, date or
        time.
        """
        wanted = {
            role: self.columns[name] for role, name in columns.items() if name != PLAYLIST_NUMBER
        }
        for role, column in wanted.items():
            self._require_type(role, column)
        names = list(dict.fromkeys(column.path[0] for column in wanted.values()))
        first_row, size = 1, self.file.state.size
        for table in self._read_tables(names):
            last_row = first_row + table.num_rows - 1
            position = size * last_row // self.row_count
            yield self._to_batch(table, columns, wanted, first_row, position)
            first_row = last_row + 1

    def _read_tables(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the file in batches, with the columns `names`. Raises `FileError`."""
        with (
            file_errors(self.file),
            pq.ParquetFile(self.file.path, page_checksum_verification=True) as file,
        ):
            yield from file.iter_batches(BATCH_SIZE, columns=names)

    def _to_batch(
        self,
        table: pa.RecordBatch,
        columns: Mapping[str, str],
        wanted: Mapping[str, Column],
        first_row: int,
        position: int,
    ) -> Batch:
        listed = _find_listed(wanted)
        records = _unfold(table, sorted({wanted[role].path[0] for role in listed}))
        raw = {
            role: _select(table, records, column, _separator(role), in_songs=role in listed)
            for role, column in wanted.items()
        }
        fields: dict[str, pa.Array] = {}
        faults = dict(records.faults)
        for role, values in raw.items():
            decodable = values
            if pa.types.is_binary(values.type):
                undecodable = find_undecodable(values)
                for record in np.flatnonzero(undecodable).tolist():
                    faults.setdefault(record, NOT_UTF8)
                decodable = _drop(values, undecodable)
            fields[role] = _to_field(role, decodable)
        lines = first_row + records.rows
        for role, name in columns.items():
            if name == PLAYLIST_NUMBER:
                numbers = [f"{self.file.label} {line}" for line in lines.tolist()]
                fields[role] = pa.array(numbers, pa.string())
        if listed and "position" not in columns and not self.names.songs_are_rows(columns):
            fields["position"] = pa.array(records.indices.astype(np.float64))
        return Batch(lines, fields, faults, partial(_show, raw), position)

    def _require_type(self, role: str, column: Column) -> None:
        kind = column.kind
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        is_time = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
        is_number = natural_kind(kind) in {"integer", "float"}
        is_flag = pa.types.is_boolean(kind) and _keeps_type(role)
        if not (is_number or is_time or is_flag or _is_text(kind) or pa.types.is_null(kind)):
            raise ColumnError(
                f"{self.file}: column '{'.'.join(column.path)}' ({role}) holds {kind}: "
                "cast it to text, or name another column"
            )


def open_parquet(file: SourceFile) -> ParquetFile:
    """Read the columns of a Parquet file.

    Raises `FileError` if the file is corrupt, and `EmptyFileError` if the file has no rows.
    """
    try:
        with pq.ParquetFile(file.path) as parquet:
            schema, row_count = parquet.schema_arrow, parquet.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise FileError(f"{file} is a corrupt Parquet file: {error}") from error
    if row_count == 0:
        raise EmptyFileError(f"{file} has columns but no rows")
    columns: dict[str, Column] = {}
    for top in schema:
        for column in _find_columns((top.name,), top.type, in_list=False):
            columns.setdefault(".".join(column.path), column)
    lists: dict[str, list[str]] = {}
    for name, column in columns.items():
        if column.in_list and len(column.path) > 1:
            lists.setdefault(column.path[0], []).append(name)
    # Other lists of structs are not chosen, but --column may name their columns.
    likely = {
        name: inner for name, inner in lists.items() if has_usual_name(name) or are_songs(inner)
    }
    songs = find_song_lists([name for name in columns if not columns[name].in_list], likely)
    require_one_list(songs, file)
    inner = tuple(lists[songs[0]]) if songs else ()
    outer = [name for name in columns if name not in inner]
    outer += [name for n, name in enumerate(schema.names) if name in schema.names[:n]]
    flags = {name for name, column in columns.items() if natural_kind(column.kind) == "boolean"}
    names = ColumnNames(tuple(outer), inner, flags)
    return ParquetFile(file, columns, names, row_count, songs[1:])


def _find_columns(path: tuple[str, ...], kind: pa.DataType, *, in_list: bool) -> Iterator[Column]:
    """Yield the columns of values that are nested in a column of the file."""
    if pa.types.is_struct(kind):
        for inner in kind:
            yield from _find_columns((*path, inner.name), inner.type, in_list=in_list)
    elif _is_list(kind) and not in_list and len(path) == 1:
        yield from _find_columns(path, kind.value_type, in_list=True)
    else:
        yield Column(path, kind, in_list)


def _find_listed(wanted: Mapping[str, Column]) -> list[str]:
    """Return the roles that have one value per song in a row, or none if each row is a song.

    Any other list, such as a list of the artists of a song, is not included.
    """
    title = wanted.get("title")
    if title is None or not title.in_list:
        return []
    return [
        role
        for role, column in wanted.items()
        if column.in_list
        and (column.path[0] == title.path[0] or len(column.path) == len(title.path) == 1)
    ]


@dataclass(frozen=True)
class _Records:
    """The records of some rows: one for each song, or one for a row without a list of songs.

    - `rows`, `indices`: the row of each record, and the record's index in the row's lists.
    - `playlists`: the rows that have songs.
    - `songs`: the number of each record among all songs, or null for a record with a fault.
    - `faults`: the reason why a record cannot be read, by the number of the record.
    """

    rows: NDArray[np.int64]
    indices: NDArray[np.int64]
    playlists: pa.Array
    songs: pa.Array
    faults: Mapping[int, str]


def _unfold(table: pa.RecordBatch, lists: Sequence[str]) -> _Records:
    """Return one record for each song in the parallel lists `lists`.

    If `lists` is empty, each row is a record.

    A row without songs, or with lists of different lengths, becomes one record with a fault.
    """
    lengths = np.ones((1, table.num_rows), np.int64)
    if lists:
        lengths = np.stack([_list_lengths(table.column(name)) for name in lists])
    is_uneven = (lengths != lengths[0]).any(axis=0)
    is_faulty = is_uneven | (lengths[0] == 0)
    counts = np.where(is_faulty, 1, lengths[0])
    first = np.cumsum(counts) - counts
    rows = np.repeat(np.arange(len(counts)), counts)
    is_song = ~is_faulty[rows]
    faults = {
        int(first[row]): "lists of different lengths" if is_uneven[row] else NO_SONGS
        for row in np.flatnonzero(is_faulty)
    }
    return _Records(
        rows,
        np.arange(len(rows)) - first[rows],
        pa.array(np.flatnonzero(~is_faulty)),
        pa.array(np.cumsum(is_song) - 1, mask=~is_song),
        faults,
    )


def _select(
    table: pa.RecordBatch, records: _Records, column: Column, separator: str, *, in_songs: bool
) -> pa.Array:
    """Return a column's value for each record. Text is returned as binary values.

    If `in_songs`, the column is a field of the songs in the list of each playlist, not of the
    playlist. If the column is a list that is joined into one text, `separator` is put between the
    elements.
    """
    top, *path = column.path
    values = table.column(top)
    if in_songs:
        values = _walk(values.take(records.playlists).flatten(), path).take(records.songs)
    else:
        values = _join(values, path, separator) if column.in_list else _walk(values, path)
        values = values.take(pa.array(records.rows)) if len(records.rows) > len(values) else values
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    return values.cast(pa.binary()) if _is_text(values.type) else values


def _walk(values: pa.Array, path: Sequence[str]) -> pa.Array:
    for name in path:
        values = pc.struct_field(values, [values.type.get_field_index(name)])
    return values


def _join(lists: pa.Array, path: Sequence[str], separator: str) -> pa.Array:
    """Return the values in each list as one text, with `separator` between the values.

    `path` contains the names of the nested structs in the lists that lead to the values.
    """
    values = _walk(lists.flatten(), path).cast(pa.string())
    offsets = np.concatenate([[0], np.cumsum(_list_lengths(lists))])
    texts = pa.LargeListArray.from_arrays(pa.array(offsets), values)
    return _drop(pc.binary_join(texts, separator), np.asarray(pc.is_null(lists)))


def _list_lengths(lists: pa.Array) -> NDArray[np.int64]:
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    return np.asarray(lengths).astype(np.int64)


def _drop(values: pa.Array, flags: NDArray[np.bool_]) -> pa.Array:
    """Replace the flagged values with null."""
    if not flags.any():
        return values
    return pc.if_else(pa.array(flags), pa.scalar(None, values.type), values)


def _to_field(role: str, values: pa.Array) -> pa.Array:
    """Convert raw values for a role: positions to doubles, other values to text."""
    if pa.types.is_binary(values.type):
        return values.cast(pa.string())
    if role == "position":
        return to_seconds(values)
    return values if _keeps_type(role) else as_text(values)


def _separator(role: str) -> str:
    return CREDIT_SEPARATOR if role == "artist" else ", "


def _keeps_type(role: str) -> bool:
    return role.startswith(PREFIX) or role in PLAY_ROLES


def _show(raw: Mapping[str, pa.Array], record: int) -> str:
    values = {role: column[record].as_py() for role, column in raw.items()}
    return ", ".join(
        f"{role}={value.decode('utf-8', 'backslashreplace') if isinstance(value, bytes) else value}"
        for role, value in values.items()
    )


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
    )
