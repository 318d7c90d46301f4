"""Read a file of playlists as the stage `read` does, and load the rows and the rejects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from catalog.progress import SilentReporter
from ingest.sources.read import read_files
from ingest.sources.source import AUTO, How

if TYPE_CHECKING:
    from pathlib import Path

Rows = list[dict[str, Any]]


def read(path: Path, given: Any = None, how: How = AUTO) -> tuple[Any, Rows, Rows]:
    rows, unreadable = path.with_name("rows.parquet"), path.with_name("unreadable.parquet")
    account = read_files([path], given or {}, rows, unreadable, SilentReporter(), how)
    return account, pq.read_table(rows).to_pylist(), pq.read_table(unreadable).to_pylist()
