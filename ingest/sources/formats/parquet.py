"""Parquet files: their columns as text, and their records."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.errors import ColumnError, EmptyFileError, FileError
from ingest.sources.formats.dialects import NOT_UTF8, undecodable
from ingest.sources.formats.json_layout import PLACE
from ingest.sources.formats.parquet_layout import layout_of, leaves_of, unfolded
from ingest.sources.payload import PREFIX, as_text, natural_kind
from ingest.sources.source import Batch, Refusal
from ingest.sources.timestamps import seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ingest.sources.formats.json_layout import Layout
    from ingest.sources.formats.parquet_layout import Leaf
    from ingest.sources.payload import Given

MAGIC = b"PAR1"
_BATCH = 1 << 16  # rows


@dataclass(frozen=True)
class Parquet:
    """A Parquet file (see `open_parquet`)."""

    path: Path
    label: str
    leaves: Mapping[str, Leaf]
    layout: Layout
    rows: int
    twice: tuple[str, ...] = ()  # the names of further columns of one name

    @property
    def kind(self) -> str:
        """How the file was understood."""
        return "Parquet"

    @property
    def names(self) -> Sequence[str]:
        """The names of its columns, in order; those of songs in a list begin with the list's."""
        return (*self.leaves, *self.twice, *([PLACE] if self.layout.tracks else []))

    @property
    def suggested(self) -> Mapping[str, str]:
        """The roles that its structure tells."""
        return self.layout.suggested

    @property
    def remarks(self) -> Sequence[str]:
        """Lists of songs that are not read."""
        also = ", ".join(f"'{name}'" for name in self.layout.also)
        return [f"not read: {also}"] if also else []

    def kind_of(self, name: str) -> Given | None:
        """The kind that the column's type is, or None for text."""
        return natural_kind(self.leaves[name].kind)

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        """All records, in order; `columns` maps roles to names. Every record is in one batch.

        Raises ColumnError when a column holds what cannot be text, or be a position.
        """
        for role, name in columns.items():
            if name != PLACE:
                self._require_type(role, name)
        size, row = self.path.stat().st_size, 0
        found = [self.leaves[name] for name in columns.values() if name != PLACE]
        wanted = list(dict.fromkeys(leaf.path[0] for leaf in found))
        is_plain = not any(leaf.in_list or len(leaf.path) > 1 for leaf in found)
        of_rows = self.layout.are_rows(columns)
        places = "position" not in columns and not is_plain and not of_rows
        with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
            for table in file.iter_batches(_BATCH, columns=wanted):
                part = unfolded(table, self.leaves, columns, self.label, row)
                raw = {role: _decoded(values) for role, values in part.values.items()}
                lines, fields, refused, shown, kept = _batch(raw, row + 1 + part.row)
                if places and part.index.any():
                    fields["position"] = pa.array(part.index[kept].astype(np.float64))
                refused += [Refusal(row + 1 + at, reason, "") for at, reason in part.wrong]
                row += table.num_rows
                done = size * row // max(self.rows, 1)
                yield Batch(lines, fields, sorted(refused, key=_line), shown, done)

    def _require_type(self, role: str, name: str) -> None:
        leaf = self.leaves[name]
        kind = leaf.kind
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


def open_parquet(path: Path, label: str = "") -> Parquet:
    """Read the columns of a Parquet file. Raises FileError when it is corrupt or has no rows."""
    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise FileError(f"{path} is a corrupt Parquet file: {error}") from error
    if rows == 0:
        raise EmptyFileError(f"{path} has columns but no rows")
    leaves = leaves_of(schema)
    twice = tuple(name for at, name in enumerate(schema.names) if name in schema.names[:at])
    return Parquet(path, label or path.name, leaves, layout_of(leaves), rows, twice)


def _line(refusal: Refusal) -> int:
    return refusal.line


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
    raw: Mapping[str, pa.Array], lines: NDArray[np.int64]
) -> tuple[NDArray[np.int64], dict[str, pa.Array], list[Refusal], partial[str], NDArray[np.int64]]:
    bad = np.zeros(len(lines), bool)
    for values in raw.values():
        if pa.types.is_binary(values.type):
            bad |= undecodable(values)
    refused = [Refusal(int(lines[i]), NOT_UTF8, _shown(raw, int(i))) for i in np.flatnonzero(bad)]
    right = np.flatnonzero(~bad)
    if refused:
        raw = {role: values.take(pa.array(right)) for role, values in raw.items()}
    fields = {role: _field(role, values) for role, values in raw.items()}
    return lines[right], fields, refused, partial(_shown, raw), right


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
