"""Functions that read a playlist file into lists of rows and unreadable records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from catalog.console.progress import SilentReporter
from ingest.sources.files.content import decode_sample, read_sample
from ingest.sources.files.find import find_files
from ingest.sources.formats.csv import CsvFile, open_csv
from ingest.sources.options import DEFAULT_OPTIONS, ReadOptions
from ingest.sources.read import read_files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ingest.sources.account import ReadAccount

Rows = list[dict[str, Any]]


def read(
    path: Path, given: Mapping[str, str] | None = None, options: ReadOptions = DEFAULT_OPTIONS
) -> tuple[ReadAccount, Rows, Rows]:
    """Read a file. Return the result of reading, the rows and the unreadable records.

    The files of rows and of unreadable records are written to the folder of the file.
    """
    rows, unreadable = path.with_name("rows.parquet"), path.with_name("unreadable.parquet")
    account = read_files([path], given or {}, rows, unreadable, SilentReporter(), options)
    return account, pq.read_table(rows).to_pylist(), pq.read_table(unreadable).to_pylist()


def open_text(path: Path) -> CsvFile:
    """Open a file of delimited text."""
    (file,) = find_files([path]).files
    return open_csv(*decode_sample(file, read_sample(file)), DEFAULT_OPTIONS)
