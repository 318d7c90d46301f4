"""DuckDB, as the stages use it: in memory, spilling into the stage's own folder."""

from __future__ import annotations

import os
import shutil
import signal
import threading
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
        with _interrupted_by_ctrl_c(connection):
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


@contextmanager
def _interrupted_by_ctrl_c(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    # While a query runs, Python's own handler must wait, and DuckDB looks for signals only between
    # parts of a query, which may be minutes long. The number of a signal comes down a pipe at once.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    source, sink = os.pipe()
    os.set_blocking(sink, False)
    before = signal.set_wakeup_fd(sink, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_interrupt, args=(source, connection), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(sink)
        watcher.join()
        os.close(source)


def _interrupt(source: int, connection: duckdb.DuckDBPyConnection) -> None:
    while signals := os.read(source, 64):
        if signal.SIGINT in signals:
            connection.interrupt()


def literal(value: object) -> str:
    """A value as an SQL string literal, for the places that take no parameter."""
    return "'" + str(value).replace("'", "''") + "'"
