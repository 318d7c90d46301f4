"""DuckDB, as the stages use it: in memory, spilling into the stage's own folder."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb

from catalog.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEMORY_LIMIT = "3GB"


@contextmanager
def connect(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that spills to `folder`. Its I/O failures become `StorageError`.

    Ctrl-C is a KeyboardInterrupt within a query too.
    """
    spill = folder / ".spill"
    connection = duckdb.connect()
    try:
        connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        connection.execute(f"SET temp_directory = {literal(spill)}")
        connection.execute("SET enable_progress_bar = false")
        yield connection
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        first_line = str(error).splitlines()[0]
        if "No space left" in str(error):
            raise StorageError(
                f"cannot write in {folder}: the disk is full: free some room and run again"
            ) from error
        raise StorageError(f"cannot work in {folder}: {first_line}") from error
    except (duckdb.InterruptException, RuntimeError) as error:
        # Ctrl-C during a query: DuckDB has taken the signal, and says so in its own way.
        if "interrupt" not in str(error).lower():
            raise
        raise KeyboardInterrupt from None
    finally:
        connection.close()
        shutil.rmtree(spill, ignore_errors=True)


def literal(value: object) -> str:
    """A value as an SQL string literal, for the places that take no parameter."""
    return "'" + str(value).replace("'", "''") + "'"
