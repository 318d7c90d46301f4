"""Parquet files: their columns as text, and their records."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.errors import ColumnError, FileError
from ingest.dialects import NOT_UTF8, undecodable
from ingest.payload import PREFIX, as_text, natural_kind
from ingest.positions import seconds
from ingest.sources import Batch, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from ingest.payload import Given

MAGIC = b"PAR1"
_BATCH = 1 << 16  # rows


@dataclass(frozen=True)
class Parquet:
    """A Parquet file (see `open_parquet`)."""

    path: Path
    names: tuple[str, ...]
    types: tuple[pa.DataType, ...]
    rows: int
    suggested: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """How the file was understood."""
        return "Parquet"

    def kind_of(self, name: str) -> Given | None:
        """The kind that the column's type is, or None for text."""
        return natural_kind(self.types[self.names.index(name)])

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        """All records, in order; `columns` maps roles to names. Every record is in one batch.

        Raises ColumnError when a column holds what cannot be text, or be a position.
        """
        for role, name in columns.items():
            self._require_type(role, name)
        size, row = self.path.stat().st_size, 0
        with pq.ParquetFile(self.path) as file:
            wanted = list(dict.fromkeys(columns.values()))
            for table in file.iter_batches(_BATCH, columns=wanted):
                raw = {role: _decoded(table.column(name)) for role, name in columns.items()}
                batch = _batch(raw, row)
                row += table.num_rows
                yield Batch(*batch, done=size * row // max(self.rows, 1))

    def _require_type(self, role: str, name: str) -> None:
        kind = self.types[self.names.index(name)]
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        temporal = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
        number = (
            pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        )
        flag = pa.types.is_boolean(kind) and role.startswith(PREFIX)
        if not (number or temporal or flag or _is_text(kind) or pa.types.is_null(kind)):
            raise ColumnError(
                f"{self.path}: column '{name}' ({role}) holds {kind}: "
                "cast it to text, or name another column"
            )


def open_parquet(path: Path) -> Parquet:
    """Read the columns of a Parquet file. Raises FileError when it is corrupt or has no rows."""
    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise FileError(f"{path} is a corrupt Parquet file: {error}") from error
    if rows == 0:
        raise FileError(f"{path} has columns but no rows")
    return Parquet(path, tuple(schema.names), tuple(schema.types), rows)


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _decoded(column: pa.Array) -> pa.Array:
    """`column` as binary where it is text, else as numbers or times."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.binary()) if _is_text(column.type) else column


def _batch(
    raw: Mapping[str, pa.Array], row: int
) -> tuple[NDArray[np.int64], dict[str, pa.Array], list[Refusal], partial[str]]:
    count = len(next(iter(raw.values())))
    bad = np.zeros(count, bool)
    for values in raw.values():
        if pa.types.is_binary(values.type):
            bad |= undecodable(values)
    refused = [
        Refusal(row + 1 + int(i), NOT_UTF8, _shown(raw, int(i))) for i in np.flatnonzero(bad)
    ]
    right = np.flatnonzero(~bad)
    if refused:
        raw = {role: values.take(pa.array(right)) for role, values in raw.items()}
    fields = {role: _field(role, values) for role, values in raw.items()}
    return row + 1 + right, fields, refused, partial(_shown, raw)


def _field(role: str, values: pa.Array) -> pa.Array:
    if pa.types.is_binary(values.type):
        return values.cast(pa.string())
    if role == "position":
        return seconds(values)
    return values if role.startswith(PREFIX) else as_text(values)


def _shown(raw: Mapping[str, pa.Array], i: int) -> str:
    cells = {role: values[i].as_py() for role, values in raw.items()}
    return ", ".join(
        f"{role}={cell.decode('utf-8', 'backslashreplace') if isinstance(cell, bytes) else cell}"
        for role, cell in cells.items()
    )
