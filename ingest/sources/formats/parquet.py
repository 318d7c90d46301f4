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
from ingest.sources.columns import (
    PLAY_ROLES,
    PLAYLIST_NUMBER,
    NestedColumns,
    find_roles,
    is_song_list_name,
)
from ingest.sources.encodings import find_undecodable
from ingest.sources.formats.batch import NOT_UTF8, Batch, describe_unread
from ingest.sources.payload import PREFIX, as_text, natural_kind
from ingest.sources.tables import CREDIT_SEPARATOR
from ingest.sources.timestamps import to_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ingest.sources.files import SourceFile
    from ingest.sources.payload import PayloadKind

MAGIC = b"PAR1"
BATCH_SIZE = 1 << 16  # rows
_SONG = {"artist", "title"}


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
    nested: NestedColumns
    row_count: int
    repeated_names: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The format in words."""
        return "Parquet"

    @property
    def names(self) -> Sequence[str]:
        """The column names. Names of columns of songs in a list begin with the name of the list."""
        return (*self.nested.names, *self.repeated_names)

    @property
    def suggested(self) -> Mapping[str, str]:
        """The columns whose roles are clear from the structure of the file, by role."""
        flags = [name for name in self.columns if self.kind_of(name) == "boolean"]
        return self.nested.suggest_roles(ignored=flags)

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
        with pq.ParquetFile(self.file.path, page_checksum_verification=True) as file:
            for table in file.iter_batches(BATCH_SIZE, columns=names):
                last_row = first_row + table.num_rows - 1
                yield self._to_batch(
                    table, columns, wanted, first_row, size * last_row // self.row_count
                )
                first_row = last_row + 1

    def _to_batch(
        self,
        table: pa.RecordBatch,
        columns: Mapping[str, str],
        wanted: Mapping[str, Column],
        first_row: int,
        position: int,
    ) -> Batch:
        listed = _find_listed(wanted)
        songs, faults = _unfold(table, [wanted[role] for role in listed]) if listed else (None, {})
        lines = first_row + (songs.rows if songs else np.arange(table.num_rows))
        raw = {
            role: _select(table, column, songs, _separator(role), in_songs=role in listed)
            for role, column in wanted.items()
        }
        fields: dict[str, pa.Array] = {}
        for role, raw_values in raw.items():
            values = raw_values
            if pa.types.is_binary(values.type):
                undecodable = find_undecodable(values)
                for record in np.flatnonzero(undecodable).tolist():
                    faults.setdefault(record, NOT_UTF8)
                if undecodable.any():
                    values = pc.if_else(pa.array(undecodable), pa.scalar(None, pa.binary()), values)
            fields[role] = _to_field(role, values)
        if PLAYLIST_NUMBER in columns.values():
            numbers = [f"{self.file.label} {line}" for line in lines.tolist()]
            fields |= {
                role: pa.array(numbers, pa.string())
                for role, name in columns.items()
                if name == PLAYLIST_NUMBER
            }
        if songs and "position" not in columns and not self.nested.songs_are_rows(columns):
            fields["position"] = pa.array(songs.indices.astype(np.float64))
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
    nested, unread = _nest(columns)
    repeated = tuple(name for n, name in enumerate(schema.names) if name in schema.names[:n])
    return ParquetFile(file, columns, nested, row_count, repeated, unread)


def _find_columns(path: tuple[str, ...], kind: pa.DataType, *, in_list: bool) -> Iterator[Column]:
    """Yield the columns of values that are nested in a column of the file."""
    if pa.types.is_struct(kind):
        for inner in kind:
            yield from _find_columns((*path, inner.name), inner.type, in_list=in_list)
    elif _is_list(kind) and not in_list and len(path) == 1:
        yield from _find_columns(path, kind.value_type, in_list=True)
    else:
        yield Column(path, kind, in_list)


def _nest(columns: Mapping[str, Column]) -> tuple[NestedColumns, tuple[str, ...]]:
    """Return the columns of rows and of songs in a list, and the names of unused lists of songs.

    A list of structs contains the songs if the structs have artist and title, unless the row itself
    has both. If there is no such list and the row has neither artist nor title, a list with a known
    name, such as "tracks", contains the songs.
    """
    lists: dict[str, list[str]] = {}
    for name, column in columns.items():
        if column.in_list and len(column.path) > 1:
            lists.setdefault(column.path[0], []).append(name)
    row_roles = find_roles([name for name, column in columns.items() if not column.in_list])
    songs = [name for name, inner in lists.items() if find_roles(inner) >= _SONG]
    if not songs and not row_roles & _SONG:
        songs = [name for name in lists if is_song_list_name(name)]
    if not songs or row_roles >= _SONG:
        return NestedColumns(tuple(columns)), ()
    songs.sort(key=lambda name: not is_song_list_name(name))
    inner = tuple(lists[songs[0]])
    outer = tuple(name for name in columns if name not in inner)
    return NestedColumns(outer, inner), tuple(songs[1:])


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
class _Songs:
    """The records made from rows with lists of songs: one per song, or one per row without songs.

    - `rows`, `indices`: the row of each record, and the record's index in the row's list.
    - `playlists`: the rows that have songs.
    - `song_numbers`: the index of each record among all songs, or -1 for the record of a row
      without songs.
    """

    rows: NDArray[np.int64]
    indices: NDArray[np.int64]
    playlists: NDArray[np.int64]
    song_numbers: NDArray[np.int64]


def _unfold(table: pa.RecordBatch, columns: Sequence[Column]) -> tuple[_Songs, dict[int, str]]:
    """Expand rows whose `columns` are parallel lists into one record per song.

    A row without songs, or with lists of different lengths, becomes one record. Also returns the
    faults of such rows, by record number.
    """
    lengths = np.stack([_list_lengths(table, column) for column in columns])
    is_uneven = (lengths != lengths[0]).any(axis=0)
    song_counts = np.where(is_uneven, 0, lengths[0])
    record_counts = np.maximum(song_counts, 1)
    rows = np.repeat(np.arange(len(record_counts)), record_counts)
    first = np.cumsum(record_counts) - record_counts
    indices = np.arange(len(rows)) - first[rows]
    song_numbers = np.where(song_counts[rows] > 0, np.cumsum(song_counts[rows] > 0) - 1, -1)
    faults = {
        int(first[row]): "lists of different lengths"
        if is_uneven[row]
        else "a playlist without songs"
        for row in np.flatnonzero(song_counts == 0)
    }
    return _Songs(rows, indices, np.flatnonzero(song_counts), song_numbers), faults


def _select(
    table: pa.RecordBatch, column: Column, songs: _Songs | None, separator: str, *, in_songs: bool
) -> pa.Array:
    """Return a column's value for each record. Text is returned as binary values.

    If the column is a list that is joined into one text, `separator` is put between the elements.
    """
    top, *path = column.path
    values = table.column(top)
    if songs and in_songs:
        values = _walk(values.take(pa.array(songs.playlists)).flatten(), path)
        values = values.take(pa.array(songs.song_numbers, mask=songs.song_numbers < 0))
    else:
        if column.in_list and not path:
            values = pc.binary_join(values.cast(pa.list_(pa.string())), separator)
        values = _walk(values, path)
        values = values.take(pa.array(songs.rows)) if songs else values
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    return values.cast(pa.binary()) if _is_text(values.type) else values


def _walk(values: pa.Array, path: Sequence[str]) -> pa.Array:
    for name in path:
        values = pc.struct_field(values, [values.type.get_field_index(name)])
    return values


def _list_lengths(table: pa.RecordBatch, column: Column) -> NDArray[np.int64]:
    lengths = pc.list_value_length(table.column(column.path[0]))
    filled: NDArray[np.int64] = pc.fill_null(lengths, 0).to_numpy().astype(np.int64)
    return filled


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
