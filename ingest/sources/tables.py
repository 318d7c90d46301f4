"""The Parquet tables that `read_files` writes: rows, and unreadable records."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.files import storage_errors
from ingest.sources.columns.roles import ROLES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CREDIT_SEPARATOR = "\x1f"
"""Separator of the artists in the column `artist` of the rows, if the file has lists of artists."""

ROWS = pa.schema(
    [("file", pa.string()), ("line", pa.int64())]
    + [(role, pa.float64() if role == "position" else pa.string()) for role in ROLES]
)
UNREADABLE = pa.schema(
    [("file", pa.string()), ("line", pa.int64()), ("reason", pa.string()), ("text", pa.string())]
)
_COMPRESSION = "snappy"


class TableWriter:
    """Writer for an open Parquet file."""

    def __init__(self, path: Path, schema: pa.Schema, writer: pq.ParquetWriter) -> None:
        self.schema = schema
        self._path = path
        self._writer = writer

    def write(self, table: pa.Table) -> None:
        """Add the rows of a table. Raises `StorageError`."""
        if table.num_rows:
            with storage_errors(self._path):
                self._writer.write_table(table)


@contextmanager
def open_table(path: Path, schema: pa.Schema) -> Iterator[TableWriter]:
    """Open a Parquet file for writing. Raises `StorageError`.

    The file appears at `path` when the context ends without an error.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with storage_errors(path):
        writer = pq.ParquetWriter(partial, schema, compression=_COMPRESSION)
    try:
        yield TableWriter(path, schema, writer)
        with storage_errors(path):
            writer.close()
            partial.replace(path)
    finally:
        with suppress(OSError, pa.ArrowException):
            writer.close()
        with suppress(OSError):
            partial.unlink(missing_ok=True)
